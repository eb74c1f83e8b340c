"""Celeb-DF v2 (Li et al. 2020); v1 has the same layout."""

import re
from pathlib import Path

from forgerank.data.clip import Clip
from forgerank.data.formats.paths import check_root, inner_path, video_files
from forgerank.data.groups import Grouping, group_people
from forgerank.files import read_text
from forgerank.types import InputError

FORGED = "Celeb-synthesis"
FOLDERS = ("Celeb-real", "YouTube-real", FORGED)
TEST_LIST = "List_of_testing_videos.txt"


def celebdf(root: Path, *, groups: Grouping = "connected") -> list[Clip]:
    """The clips of Celeb-DF at `root`, test for those of the official list and train for the rest.

    The folders may have an extra level `videos/`; names are without it. Videos of the list are listed, on
    disk or not: `Clip.path` may not exist. `groups="connected"`: celebrities whom forged videos connect are
    one group. In the published set large groups span both splits: its official split shares people.
    "target": the celebrity whose video was manipulated, for a confidence interval over groups. Every video
    in YouTube-real is a group of its own.

    Raises InputError for a root without the layout, for a missing list, without which test videos would be
    trained on, and for a line of the list that contradicts its folder (1 is real there).
    """
    check_root(root)
    if not any((root / folder).is_dir() for folder in FOLDERS):
        raise InputError(f"{root}: no Celeb-DF here: expected {'/, '.join(FOLDERS)}/")
    tested = _read_list(root / TEST_LIST)
    videos = []
    for folder in FOLDERS:
        place = root / folder / "videos"
        place = place if place.is_dir() else root / folder
        files = {name.partition("/")[2] for name in tested if name.startswith(f"{folder}/")}
        videos += [(place / file, folder) for file in sorted(files.union(video_files(place)))]
    by_people = group_people((celebrities(f"{folder}/{path.name}") for path, folder in videos), groups)
    return [
        Clip(
            path=path,
            sequence=(1,) if folder == FORGED else (),
            group=f"celebdf/{by_people[celebrities(f'{folder}/{path.name}')]}",
            split="test" if f"{folder}/{path.name}" in tested else "train",
            dataset="celebdf",
            name=f"{folder}/{path.name}",
            method=FORGED if folder == FORGED else "",
        )
        for path, folder in videos
    ]


def celebrities(name: str) -> tuple[str, ...]:
    """Who is in a video, the person whose video it is first.

    >>> celebrities("Celeb-synthesis/id0_id16_0003.mp4"), celebrities("YouTube-real/00170.mp4")
    (('id0', 'id16'), ('YouTube-real/00170',))
    """
    people = re.findall(r"id\d+(?=_)", Path(name).stem)
    return tuple(people) or ((Path(name).parent / Path(name).stem).as_posix(),)


def _read_list(path: Path) -> set[str]:
    """Names of the test videos, without the level `videos/`."""
    if not path.exists():
        raise InputError(f"{path}: missing: without it the test videos are not known")
    lines = read_text(path).splitlines()
    names = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        label, _, text = line.strip().partition(" ")
        if label not in ("0", "1") or not text.strip():
            raise InputError(f"{where}: expected 1 (real) or 0 (forged) and a path, got {line!r}")
        video = inner_path(text.strip(), where)
        folder = video.parts[0]
        if folder not in FOLDERS:
            raise InputError(f"{where}: expected a path in {', '.join(FOLDERS)}, got {text.strip()}")
        if (label == "0") != (folder == FORGED):
            raise InputError(f"{where}: 1 is real and 0 forged, which {folder} contradicts: {line!r}")
        names.add(f"{folder}/{video.name}")
    return names
