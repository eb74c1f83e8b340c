"""DeepfakeBench (Yan et al. 2023): frames of many data sets with JSON annotations of one schema."""

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from forgerank.data.clip import Clip
from forgerank.data.formats.celebdf import celebrities
from forgerank.data.formats.faceforensics import COMPRESSIONS, actors, as_names
from forgerank.data.formats.paths import check_root, inner_path
from forgerank.data.groups import group_people
from forgerank.files import read_json
from forgerank.types import SPLITS, InputError


class _Video(NamedTuple):
    where: str  # file and keys, for messages
    dataset: str
    label: str
    split: str
    level: str  # empty where the data set has no compression levels
    key: str
    entry: dict[str, Any]


def deepfakebench(
    root: Path,
    *,
    datasets: str | Iterable[str] | None = None,
    compression: str | Iterable[str] = ("c23",),
    annotations: str = "dataset_json",
    images: str = ".",
    strip: str = "",
) -> list[Clip]:
    """The clips of every `{annotations}/*.json`; frames lie in `{images}`, both relative to `root`.

    `strip` is a prefix to remove from listed paths, such as the `../datasets/rgb/` of another machine.
    `datasets` are keys of the JSON files, all unless named, and the clips' `dataset`. A clip is a folder of
    frames, named by its whole path under `images`, and `method` is the label of the JSON. Listed frames
    may not exist; a video without frames is listed with none. Groups are those of the readers of
    FaceForensics++, DFD and Celeb-DF; the JSON does not say who is in other videos: each stands alone.
    DeepfakeBench gives some videos to several splits: they come once for each, under the same name, so
    that `data check` reports them. A video that several data sets share comes with the first.

    Raises InputError for a root without annotations, annotations not as published, an unknown data set
    and a compression that is not there.
    """
    check_root(root)
    levels = as_names(compression, COMPRESSIONS, "compression")
    files = sorted((root / annotations).glob("*.json"))
    if not files:
        raise InputError(f"{root}: no DeepfakeBench here: expected {annotations}/*.json")
    videos = [video for file in files for video in _read_videos(file)]
    there = sorted({video.dataset for video in videos})
    if not there:
        raise InputError(f"{root / annotations}: no videos in its JSON files")
    wanted = there if datasets is None else as_names(datasets, there, "datasets")
    videos = [video for video in videos if video.dataset in wanted]
    for dataset in wanted:
        found = {video.level for video in videos if video.dataset == dataset}
        missing = set(levels) - found
        if missing and "" not in found:
            raise InputError(
                f"{root}: {dataset} has no videos of compression {', '.join(sorted(missing))}, "
                f"found {', '.join(sorted(found))}"
            )
    return _unique(root, images, strip, [video for video in videos if video.level in ("", *levels)])


def _unique(root: Path, images: str, strip: str, videos: Iterable[_Video]) -> list[Clip]:
    """One clip for each place and split. Raises InputError where two annotations of one contradict."""
    made: dict[tuple[str, str], tuple[_Video, str, tuple[str, ...]]] = {}
    for video in videos:
        name, frames = _frames(video, strip)
        first, *_ = made.setdefault((video.split, name), (video, name, frames))
        if _is_real(first) != _is_real(video):
            raise InputError(
                f"{video.where}: {name} is {video.label} here and {first.label} in {first.where}"
            )
    groups = group_people(_people(video, name) for video, name, _ in made.values())
    return [
        Clip(
            path=root / images / name,
            sequence=() if _is_real(video) else (1,),
            group=groups[_people(video, name)],
            split=video.split,
            dataset=video.dataset,
            name=name,
            method="" if _is_real(video) else video.label,
            compression=video.level,
            frames=frames,
        )
        for video, name, frames in made.values()
    ]


def _frames(video: _Video, strip: str) -> tuple[str, tuple[str, ...]]:
    """The folder that all frames of a video lie in, and the frames relative to it, in their order."""
    frames = video.entry["frames"]
    if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
        raise InputError(f"{video.where}: frames must be a list of paths")
    paths = [str(inner_path(frame.removeprefix(strip), video.where)) for frame in frames]
    if not paths:
        return "/".join((video.dataset, video.label, *filter(None, [video.level]), video.key)), ()
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return folder, tuple(posixpath.relpath(path, folder) for path in paths)


def _people(video: _Video, name: str) -> tuple[str, ...]:
    """Who is in a video, by the naming of its data set."""
    stem = PurePosixPath(name).name
    if video.dataset in ("FaceForensics++", "FaceShifter"):
        return tuple(f"faceforensics/{person}" for person in stem.split("_"))
    if video.dataset == "DeepFakeDetection":
        return tuple(f"dfd/{person}" for person in actors(stem))
    if video.dataset.startswith("Celeb-DF"):
        folder = "YouTube-real/" if "youtube-real" in name.lower() else ""
        return tuple(f"celebdf/{person}" for person in celebrities(folder + stem))
    return (name,)


def _is_real(video: _Video) -> bool:
    """FF-real, DFD_real, DFDC_Real ... against FF-DF, CelebDFv2_fake, DFDCP_FakeA ..."""
    label = video.label.lower()
    if label.endswith("real"):
        return True
    if "fake" in label or label.startswith("ff-"):
        return False
    raise InputError(f"{video.where}: label {video.label!r} is neither of a real nor of a forged video")


def _read_videos(file: Path) -> Iterator[_Video]:
    """The videos of one file: {dataset: {label: {split: {[compression:] {video: {label, frames}}}}}}."""
    for dataset, labels in _items(read_json(file), str(file)):
        for label, splits in _items(labels, f"{file}: {dataset}"):
            for split, level_or_video in _items(splits, f"{file}: {dataset}: {label}"):
                where = f"{file}: {dataset}: {label}: {split}"
                if split not in SPLITS:
                    raise InputError(f"{where}: expected a split, one of {', '.join(SPLITS)}")
                for key, value in _items(level_or_video, where):
                    levels = {"": {key: value}} if "frames" in dict(_items(value, where)) else {key: value}
                    for level, videos in levels.items():
                        for name, entry in _items(videos, f"{where}: {key}"):
                            yield _video(f"{where}: {name}", dataset, label, split, level, name, entry)


def _video(where: str, dataset: str, label: str, split: str, level: str, key: str, entry: Any) -> _Video:
    if level and level not in COMPRESSIONS:
        raise InputError(f"{where}: expected a compression, one of {', '.join(COMPRESSIONS)}, got {level!r}")
    if "frames" not in dict(_items(entry, where)):
        raise InputError(f"{where}: a video needs frames")
    video = _Video(where, dataset, label, split, level, key, entry)
    own = entry.get("label")
    if isinstance(own, str) and _is_real(video._replace(label=own)) != _is_real(video):
        raise InputError(f"{where}: its own label {own} contradicts {label}")
    return video


def _items(value: Any, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, got {type(value).__name__}")
    return value.items()
