from pathlib import Path

import pytest

from forgerank.data.formats.paths import inner_path, video_files
from forgerank.types import InputError


@pytest.mark.parametrize("text", ["/a/b", "..\\a", "a/../../b", "C:\\a\\b", "", "."])
def test_paths_that_lead_out_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"x\.json: .* is not a path inside the data set"):
        inner_path(text, "x.json")


def test_paths_of_either_kind_of_slashes() -> None:
    assert str(inner_path(".\\a\\b.png", "")) == str(inner_path("a/b.png", "")) == "a/b.png"


def test_videos_are_listed_by_their_ending(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", "._b.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert video_files(tmp_path) == ["a.AVI", "b.mp4"]
    assert video_files(tmp_path / "nowhere") == []
