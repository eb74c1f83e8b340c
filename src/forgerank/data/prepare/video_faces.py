"""Faces of all clips of a data set: crops, an index, and a reason for every skipped frame."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from forgerank.data.clip import Clip, by_file, read_together
from forgerank.data.formats.prepared import SETTINGS, write_clip_faces, write_index
from forgerank.data.prepare.face_crops import NO_FACE, CutConfig, cut_clip
from forgerank.faces.analyze import FaceAnalyzer
from forgerank.files import make_folder, write_atomic, writing
from forgerank.processes import process_pool, sole_writer
from forgerank.types import InputError

_PARTS = "parts"


@dataclass(frozen=True)
class Summary:
    """Frames with a face plus skipped ones make up the frames asked for."""

    clips: int
    kept: int  # clips that an earlier run had finished
    asked: int  # frames: those planned of each clip that opens, and one for each clip that does not
    framed: int  # frames with a face
    faces: int  # rows of the index
    skipped: dict[str, int]  # kind of reason -> frames

    @property
    def damaged(self) -> bool:
        """Whether files were missing, unreadable or damaged."""
        return any(kind != NO_FACE for kind in self.skipped)


def prepare(
    clips: Sequence[Clip],
    out: Path,
    config: CutConfig,
    *,
    request: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Crop the faces of all clips into `out`, but for clips that an earlier run with these settings finished.

    request: what decided the clips (data set, its options), JSON-ready; kept beside the settings. The index
    is written at the end, in the order of the clips' names, the same however often the work was interrupted.
    Raises InputError for no clips, for two of one name, and for an `out` made with other settings.
    """
    clips = sorted(clips, key=lambda clip: (clip.name, clip.split))
    _check_names(clips)
    FaceAnalyzer(config.detector, config.detector_weights)  # fails before the work rather than in each worker
    _check_settings(out, {**(request or {}), **config.settings()})
    parts = [out / _PARTS / f"{_key(clip)}.parquet" for clip in clips]
    with sole_writer(out), writing(out):
        todo = [clip for clip, part in zip(clips, parts, strict=True) if not part.exists()]
        done = kept = len(clips) - len(todo)
        for count in _spread(todo, out, config, workers):
            done += count
            if progress:
                progress(done, len(clips))
        return _join(out, clips, parts, kept)


def _check_names(clips: Sequence[Clip]) -> None:
    if not clips:
        raise InputError("no clips to prepare")
    for (split, name), count in Counter((clip.split, clip.name) for clip in clips).items():
        if count > 1:
            raise InputError(f"{name}: names {count} clips of split {split!r}")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise InputError(f"{name}: a clip's name must be a path below the root")


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    try:
        make_folder(out / _PARTS)
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(earlier, dict):
                raise ValueError("it holds no settings")
            settings = json.loads(json.dumps(settings))
            for key in sorted(settings.keys() | earlier.keys()):
                if settings.get(key) != earlier.get(key):
                    raise InputError(
                        f"{out}: was made with {key}={earlier.get(key)}, not {settings.get(key)}: "
                        "give another folder, or the same options to go on"
                    )
            return
        write_atomic(path, json.dumps(settings, indent=1).encode())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be used: {error}") from None


def _key(clip: Clip) -> str:
    """Another label, split or file makes another part, so that the old one no longer counts."""
    size = clip.path.stat().st_size if clip.path.is_file() else None
    described = {**asdict(clip), "path": clip.path.exists(), "size": size}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _spread(clips: Sequence[Clip], out: Path, config: CutConfig, workers: int) -> Iterator[int]:
    """Prepare the clips over processes; yields how many clips each finished task held."""
    tasks = by_file(clips)
    if workers <= 1:
        analyzer = FaceAnalyzer(config.detector, config.detector_weights)
        for task in tasks:
            yield _prepare_task(task, out, config, analyzer)
        return
    with process_pool(workers, _open_analyzer, config) as pool:
        futures: list[Future[int]] = [pool.submit(_prepare_in_worker, task, out, config) for task in tasks]
        for future in as_completed(futures):
            yield future.result()


# A worker process holds its models here, set once by its initializer.
_ANALYZERS: list[FaceAnalyzer] = []


def _open_analyzer(config: CutConfig) -> None:
    _ANALYZERS[:] = [FaceAnalyzer(config.detector, config.detector_weights)]


def _prepare_in_worker(clips: Sequence[Clip], out: Path, config: CutConfig) -> int:
    return _prepare_task(clips, out, config, _ANALYZERS[0])


def _prepare_task(clips: Sequence[Clip], out: Path, config: CutConfig, analyzer: FaceAnalyzer) -> int:
    for clip, frames in read_together(clips, config.frames):
        asked, rows, skipped = cut_clip(clip, frames, out, config, analyzer)
        write_clip_faces(out / _PARTS / f"{_key(clip)}.parquet", asked, rows, skipped)
    return len(clips)


def _join(out: Path, clips: Sequence[Clip], parts: Sequence[Path], kept: int) -> Summary:
    reasons: Counter[str] = Counter()
    asked = framed = faces = 0
    for name, part in write_index(out, zip([clip.name for clip in clips], parts, strict=True)):
        shown = len(set(part.rows.column("frame").to_pylist()))
        if shown + len(part.skipped) != part.asked:
            raise RuntimeError(
                f"{name}: {part.asked} frames, {shown} with a face, {len(part.skipped)} skipped"
            )
        asked, framed, faces = asked + part.asked, framed + shown, faces + part.rows.num_rows
        reasons.update(reason.split(":")[0] for _, reason in part.skipped)
    return Summary(len(clips), kept, asked, framed, faces, dict(sorted(reasons.items())))
