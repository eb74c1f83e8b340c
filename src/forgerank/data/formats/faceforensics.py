"""FaceForensics++ (Rossler et al. 2019) and DFD, the DeepFakeDetection videos in the same layout."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from forgerank.data.clip import Clip
from forgerank.data.formats.paths import check_root, video_files
from forgerank.data.groups import Grouping, group_people
from forgerank.files import read_json
from forgerank.types import SPLITS, InputError

COMPRESSIONS = ("raw", "c23", "c40")
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")

_REAL = "original_sequences"
_FORGED = "manipulated_sequences"


def faceforensics(
    root: Path,
    *,
    compression: str | Iterable[str] = ("c23",),
    methods: str | Iterable[str] | None = None,
) -> list[Clip]:
    """The clips of FaceForensics++ at `root`, of every split.

    `methods` are those of METHODS that have a folder, unless named. With `splits/{train,val,test}.json`, the
    official lists of id pairs, every video that they promise is listed, on disk or not: `Clip.path` may not
    exist. Both orders of a pair and both its reals belong to its split; a video of no pair has split "".
    Without the lists every split is "". A group holds the ids that are connected by forged videos and
    listed pairs: in the published set, the two of a pair.

    Raises InputError for a root without the layout, for a named method or compression that is not there and
    for unreadable lists.
    """
    check_root(root)
    levels = as_names(compression, COMPRESSIONS, "compression")
    reals = root / _REAL / "youtube"
    if not reals.is_dir() and not any((root / _FORGED / method).is_dir() for method in METHODS):
        raise InputError(
            f"{root}: no FaceForensics++ here: expected {_REAL}/youtube/ and {_FORGED}/{METHODS[0]}/ ..."
        )
    named = METHODS if methods is None else as_names(methods, METHODS, "methods")
    pairs = _read_pairs(root / "splits")
    clips = []
    for level in levels:
        _check_level(root, "youtube", METHODS, level)
        for method in ("", *named):
            folder = f"{_FORGED}/{method}/{level}/videos" if method else f"{_REAL}/youtube/{level}/videos"
            if method and not (root / folder).is_dir():
                if methods is None:
                    continue
                raise InputError(f"{root / folder}: no such folder")
            promised = {
                f"{name}.mp4"
                for first, second, _ in pairs
                for name in ((f"{first}_{second}", f"{second}_{first}") if method else (first, second))
            }
            for file in sorted(promised.union(video_files(root / folder))):
                clips.append((folder, file, method, level))
    splits = {name: split for first, second, split in pairs for name in (first, second)}
    groups = group_people([*(pair[:2] for pair in pairs), *(_people(file) for _, file, _, _ in clips)])
    return [
        _clip(
            root,
            f"{folder}/{file}",
            method,
            level,
            dataset="faceforensics",
            group=groups[_people(file)],
            split=_common_split(_people(file), splits),
        )
        for folder, file, method, level in clips
    ]


def dfd(
    root: Path, *, compression: str | Iterable[str] = ("c23",), groups: Grouping = "connected"
) -> list[Clip]:
    """The clips of DFD at `root`: it has no split. Names: `01__scene` real, `01_02__scene__HASH` forged.

    `groups="connected"`: actors whom forged videos connect are one group, in the published set nearly all of
    them; "target": the actor of the scene, for a confidence interval over groups.

    Raises InputError for a root without the layout or without videos of that compression.
    """
    check_root(root)
    levels = as_names(compression, COMPRESSIONS, "compression")
    if not any((root / place).is_dir() for place in (f"{_REAL}/actors", f"{_FORGED}/DeepFakeDetection")):
        raise InputError(f"{root}: no DFD here: expected {_REAL}/actors/ and {_FORGED}/DeepFakeDetection/")
    found = []
    for level in levels:
        _check_level(root, "actors", ("DeepFakeDetection",), level)
        for method, place in (("", f"{_REAL}/actors"), ("DeepFakeDetection", f"{_FORGED}/DeepFakeDetection")):
            folder = f"{place}/{level}/videos"
            found += [(f"{folder}/{file}", method, level) for file in video_files(root / folder)]
    by_people = group_people((actors(name) for name, _, _ in found), groups)
    return [
        _clip(root, name, method, level, dataset="dfd", group=by_people[actors(name)], split="")
        for name, method, level in found
    ]


def _clip(root: Path, name: str, method: str, level: str, *, dataset: str, group: str, split: str) -> Clip:
    return Clip(
        path=root / name,
        sequence=(1,) if method else (),
        group=f"{dataset}/{group}",
        split=split,
        dataset=dataset,
        name=name,
        method=method,
        compression=level,
    )


def _people(file: str) -> tuple[str, ...]:
    """071_054.mp4 -> the video that was manipulated, and the one whose face or expression it got."""
    return tuple(Path(file).stem.split("_"))


def actors(file: str) -> tuple[str, ...]:
    """Who is in a video of DFD, the person of the scene first.

    >>> actors("01_02__exit_phone_room__YVGY8LOK.mp4")
    ('01', '02')
    """
    return tuple(Path(file).stem.split("__")[0].split("_"))


def as_names(value: str | Iterable[str], allowed: Sequence[str], what: str) -> tuple[str, ...]:
    """An option that is one name or several, checked. Raises InputError for an unknown one."""
    names = (value,) if isinstance(value, str) else tuple(value)
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        raise InputError(f"{what} must be of {', '.join(allowed)}, got {', '.join(unknown) or 'none'}")
    return names


def _common_split(people: tuple[str, ...], splits: dict[str, str]) -> str:
    found = {splits.get(person, "") for person in people}
    return found.pop() if len(found) == 1 else ""


def _check_level(root: Path, reals: str, methods: Iterable[str], level: str) -> None:
    places = [root / _REAL / reals, *(root / _FORGED / method for method in methods)]
    if not any((place / level).is_dir() for place in places):
        there = [name for name in COMPRESSIONS if any((place / name).is_dir() for place in places)]
        raise InputError(f"{root}: no videos of compression {level}, found {', '.join(there) or 'none'}")


def _read_pairs(folder: Path) -> list[tuple[str, str, str]]:
    """(first id, second id, split) of the official lists; none where there is no folder of them."""
    if not folder.is_dir():
        return []
    pairs: list[tuple[str, str, str]] = []
    owners: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.json"
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path}: expected a list of pairs of ids")
        for pair in content:
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(i, str) for i in pair)):
                raise InputError(f"{path}: expected pairs of ids as strings, got {pair!r}")
            for name in pair:
                if owners.setdefault(name, split) != split:
                    raise InputError(f"{path}: {name} is already in {owners[name]}.json")
            pairs.append((pair[0], pair[1], split))
    return pairs
