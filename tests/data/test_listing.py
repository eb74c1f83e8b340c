from pathlib import Path

import pytest

from forgerank.data.listing import as_names, group_people, inner_path, read_json, video_files
from forgerank.types import InputError


def test_groups_join_over_several_videos_and_in_any_order() -> None:
    groups = group_people([("d", "c"), ("b", "a"), ("x",), ("c", "b"), ("a",)])
    assert groups == {("d", "c"): "a", ("b", "a"): "a", ("x",): "x", ("c", "b"): "a", ("a",): "a"}


def test_groups_by_target_do_not_join() -> None:
    assert group_people([("a", "b"), ("b", "a")], "target") == {("a", "b"): "a", ("b", "a"): "b"}
    with pytest.raises(InputError, match="connected or target, got source"):
        group_people([("a",)], "source")  # type: ignore[arg-type]


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


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[\n1,")
    with pytest.raises(InputError, match=r"a\.json:2: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        read_json(tmp_path / "b.json")


def test_an_option_is_one_name_or_several() -> None:
    assert as_names("c23", ("raw", "c23"), "compression") == ("c23",)
    assert as_names(["raw", "c23"], ("raw", "c23"), "compression") == ("raw", "c23")
    for value in ("c24", [], ["raw", "c24"]):
        with pytest.raises(InputError, match="compression must be of raw, c23"):
            as_names(value, ("raw", "c23"), "compression")
