import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forgerank.data.prepare.points import detect_points
from forgerank.data.sample import Sample
from forgerank.faces import analyze
from forgerank.faces.align import five_points
from forgerank.types import InputError


def make_samples(folder: Path) -> list[Sample]:
    for number in range(2):
        Image.new("RGB", (20, 20), (100 * number, 0, 0)).save(folder / f"{number}.png")
    known = np.ones((5, 2), dtype=np.float32)
    paths = [folder / "0.png", folder / "1.png", folder / "2.png"]
    return [
        Sample(path, (), str(path), "train", "set", points=known if number == 2 else None)
        for number, path in enumerate(paths)
    ]


LANDMARKS = np.arange(936, dtype=np.float32).reshape(468, 2)


class FakeAnalyzer:
    """Finds a face in images that are red."""

    calls = 0

    def __init__(self, **options: Any) -> None:
        assert options == {"detector": "blazeface"}

    def analyze(self, image: np.ndarray[Any, Any]) -> list[SimpleNamespace]:
        FakeAnalyzer.calls += 1
        return [SimpleNamespace(landmarks=LANDMARKS)] if image.max() else []


def test_points_are_detected_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyze, "FaceAnalyzer", FakeAnalyzer)
    monkeypatch.setattr(FakeAnalyzer, "calls", 0)
    tmp_path = tmp_path / os.fsdecode(b"not UTF-8 \xe9")
    tmp_path.mkdir()
    samples = make_samples(tmp_path)
    for _ in range(2):
        lost, found, known = detect_points(samples, cache=tmp_path / "cache")
        assert [sample.image.name for sample in (lost, found, known)] == ["0.png", "1.png", "2.png"]
        assert lost.points is None
        assert found.points is not None
        assert np.allclose(found.points, five_points(LANDMARKS))
        assert FakeAnalyzer.calls == 2
    Image.new("RGB", (24, 20), (9, 0, 0)).save(tmp_path / "0.png")
    searched = detect_points(samples, cache=tmp_path / "cache")
    assert all(sample.points is not None for sample in searched)
    assert FakeAnalyzer.calls == 3


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]"])
def test_a_damaged_cache_is_named(tmp_path: Path, content: bytes) -> None:
    samples = make_samples(tmp_path)
    (tmp_path / "points-blazeface.json").write_bytes(content)
    with pytest.raises(InputError, match=r"points-blazeface\.json:"):
        detect_points(samples, cache=tmp_path)


def test_nothing_is_written_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyze, "FaceAnalyzer", FakeAnalyzer)
    samples = make_samples(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert [sample.points is None for sample in detect_points(samples)] == [True, False, False]
    assert sorted(tmp_path.iterdir()) == before
