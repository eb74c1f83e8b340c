"""The Python interface: any image or video in, a report out that prints, saves and draws itself.

>>> import skimage.data
>>> from forgerank import Detector
>>> report = Detector().detect(skimage.data.astronaut())
>>> report.faces[0].heatmap("nose").size
(512, 512)
"""

import hashlib
import html
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageOps
from rich.console import Console
from rich.progress import track

from forgerank.detect import detector as engine
from forgerank.detect.detector import load_page
from forgerank.detect.result import FaceReport, LoadedImage, Report, VideoReport, deciding_probability
from forgerank.detect.videos import check_limits
from forgerank.files import make_folder, write_atomic
from forgerank.judging import judge_file
from forgerank.media.files import MediaError, counted
from forgerank.media.images import MAX_PIXELS
from forgerank.report.builder import ReportBuilder
from forgerank.report.heatmap import face_maps, heatmap_stem, image_layer, overlay, save_heatmaps
from forgerank.report.words import percent, verdict_label
from forgerank.types import Image, InputError, printable
from forgerank.weights.description import WeightsMetadata

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | PILImage.Image | NDArray[Any] | LoadedImage
ChannelOrder = Literal["rgb", "bgr"]
OnError = Literal["raise", "report"]

_UNNAMED = "<bytes>"  # what a file without a name is called in errors
_FRAME = '<iframe style="width:100%;height:40em;border:0" srcdoc="{}"></iframe>'


class Detector:
    """Judges photographs and videos, in whatever form they come.

    A source is a path, the bytes of a file, a file open for reading bytes, a PIL image, or an array:
    (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or bool over their whole range, or of floats in
    [0, 1]. Colours are RGB unless `channel_order` is "bgr", as OpenCV reads them; what is transparent is laid
    on white. Whether a file is a photograph or a video its content decides. Nothing is fetched.

    Threads may share a detector. Of several processes each makes its own; reports can be sent between them.

    `weights`, `detector`, `detector_weights`, `threads`, `batch_size` and `thorough` as for
    `forgerank.detect.Detector`, which is `engine` here and judges images in batches, for programs of many
    parts.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        detector: str = "blazeface",
        detector_weights: Path | str | None = None,
        *,
        threads: int | None = None,
        batch_size: int = 8,
        thorough: bool = False,
    ) -> None:
        """Raises InputError for weights that are missing or foreign, and for an unknown face detector."""
        self.engine = engine.Detector(
            weights, detector, detector_weights, threads=threads, batch_size=batch_size, thorough=thorough
        )

    def __repr__(self) -> str:
        weights = self.engine.metadata
        return f"<Detector {weights.name} version {weights.version}>"

    @overload
    def detect(
        self,
        source: Sequence[Source],
        *,
        on_error: Literal["raise"] = "raise",
        progress: bool = False,
        **options: Any,
    ) -> "list[ImageResult | VideoResult]": ...

    @overload
    def detect(
        self, source: Sequence[Source], *, on_error: OnError, progress: bool = False, **options: Any
    ) -> "list[ImageResult | VideoResult | Failure]": ...

    @overload
    def detect(
        self, source: Source, *, on_error: OnError = "raise", progress: bool = False, **options: Any
    ) -> Any: ...

    def detect(
        self,
        source: Source | Sequence[Source],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
        **options: Any,
    ) -> Any:
        """One report for one source, a list of reports, in order, for a list or a tuple of them.

        `on_error` "raise": the first source that cannot be judged raises InputError, one line. "report": a
        `Failure` stands in its place. `progress` shows a bar on standard error. options: `channel_order`,
        and those of `stream`.
        """
        many = isinstance(source, (list, tuple))
        sources: Sequence[Source] = cast(Sequence[Source], source) if many else [cast(Source, source)]
        results = self.stream(sources, on_error=on_error, **options)
        bar = track(
            results,
            description="judging",
            total=len(sources),
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        answers = list(bar)
        return answers if many else answers[0]

    def stream(
        self,
        sources: Iterable[Source],
        *,
        on_error: OnError = "raise",
        channel_order: ChannelOrder = "rgb",
        max_pixels: int = MAX_PIXELS,
        **sampling: Any,
    ) -> "Iterator[ImageResult | VideoResult | Failure]":
        """A report for each source as soon as it is judged; the next is not read before it is asked for.

        `max_pixels` limits a photograph and a frame of a video; `sampling` are `fps`, `max_frames` and
        `max_seconds` of `detect_video`. Raises InputError for an option that is unknown or makes no sense,
        and as `on_error` says.
        """
        if on_error not in ("raise", "report"):
            raise InputError(f"on_error must be raise or report, got {on_error!r}")
        if channel_order not in ("rgb", "bgr"):
            raise InputError(f"channel_order must be rgb or bgr, got {channel_order!r}")
        if unknown := sampling.keys() - {"fps", "max_frames", "max_seconds"}:
            raise InputError(f"unknown option {', '.join(sorted(unknown))}")
        check_limits(max_pixels=max_pixels, **sampling)
        if _is_one(sources):
            raise InputError(f"stream takes several sources, got one {type(sources).__name__}: use detect")
        for source in sources:
            try:
                yield self._judge(source, channel_order, max_pixels, sampling)
            except InputError as error:
                if on_error == "raise":
                    raise
                yield Failure.of(error, _name(source))

    def _judge(
        self, source: Source, channel_order: ChannelOrder, max_pixels: int, sampling: dict[str, Any]
    ) -> "ImageResult | VideoResult":
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            if "://" in str(source):
                raise MediaError(str(source), "addresses are not fetched; download it first")
            answer = judge_file(self.engine, path, max_pixels=max_pixels, **sampling)
            return self._result(answer, path, max_pixels)
        if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
            return self._judge_content(source, max_pixels, sampling)
        image = source if isinstance(source, LoadedImage) else _from_memory(source, channel_order)
        [report] = self.engine.detect([image])
        return self._result(report, image, max_pixels)

    def _judge_content(
        self, source: Any, max_pixels: int, sampling: dict[str, Any]
    ) -> "ImageResult | VideoResult":
        """The content of a file goes through a temporary one: videos are read at many places."""
        try:
            content = source.read() if hasattr(source, "read") else bytes(source)
        except MemoryError:
            raise
        except Exception as error:  # of a closed file, an archive that was cut off, a connection that broke
            reason = printable(str(error)) or type(error).__name__
            raise MediaError(_name(source) or _UNNAMED, f"cannot be read ({reason})") from None
        if not isinstance(content, bytes):
            raise InputError(f"a file must be open for reading bytes, got {type(content).__name__}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "content")
            path.write_bytes(content)
            shown = _name(source) or _UNNAMED
            answer = judge_file(self.engine, path, name=shown, max_pixels=max_pixels, **sampling)
        return self._result(answer, None if isinstance(answer, VideoReport) else content, max_pixels)

    def _result(
        self, answer: Report | VideoReport, origin: Path | bytes | LoadedImage | None, max_pixels: int
    ) -> "ImageResult | VideoResult":
        page = answer.page if isinstance(answer, Report) else 1
        judged_by = _Engine(self.engine.metadata, self.engine.sha256, self.engine.thorough)
        source = _Origin(judged_by, origin, answer.sha256, page, max_pixels)
        if isinstance(answer, VideoReport):
            return VideoResult(**_values(answer), origin=source)
        faces = tuple(FaceResult(**_values(face), origin=source) for face in answer.faces)
        return ImageResult(**{**_values(answer), "faces": faces}, origin=source)


@dataclass(frozen=True, slots=True)
class _Engine:
    """What reports say of the detector: they keep no network, and go from one process to another."""

    metadata: WeightsMetadata
    sha256: str
    thorough: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Origin:
    """Who judged, and where the pixels can be had again: decoded anew, so that reports stay small."""

    engine: _Engine
    source: Path | bytes | LoadedImage | None  # bytes: of a file; None: frames of a video are in its report
    sha256: str
    page: int  # of a file of several images
    max_pixels: int

    def image(self) -> LoadedImage:
        if isinstance(self.source, LoadedImage):
            return self.source
        assert self.source is not None
        if isinstance(self.source, bytes):
            return load_page(_UNNAMED, self.page, content=self.source, max_pixels=self.max_pixels)
        image = load_page(self.source, self.page, max_pixels=self.max_pixels)
        if image.sha256 != self.sha256:
            raise MediaError(self.source, "changed since it was judged")
        return image


class _Written:
    """What every report can do. Its content is that of `forgerank detect` (docs/report.md)."""

    __slots__ = ()

    @abstractmethod
    def _add_to(self, builder: ReportBuilder) -> None: ...

    @property
    @abstractmethod
    def _engine(self) -> _Engine: ...

    def to_json(self) -> str:
        """The JSON report."""
        return self._built(page=False).json()

    def to_dict(self) -> dict[str, Any]:
        """The JSON report as plain values."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def to_html(self) -> str:
        """The HTML report, one self-contained page. Raises InputError where a photograph has gone."""
        return self._built(page=True).html()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, JSON or HTML by the suffix of `path`; folders are made. Returns the path.

        Raises InputError for another suffix and for a place that cannot be written to.
        """
        target = Path(path)
        makers = {".json": self.to_json, ".html": self.to_html, ".htm": self.to_html}
        if target.suffix.lower() not in makers:
            raise InputError(f"{target}: a report is written as .json or .html")
        content = makers[target.suffix.lower()]().encode()
        make_folder(target.parent)
        write_atomic(target, content)
        return target

    def _repr_html_(self) -> str:
        return _FRAME.format(html.escape(self.to_html()))

    def _built(self, *, page: bool) -> ReportBuilder:
        builder = ReportBuilder(self._engine, page=page)
        self._add_to(builder)
        return builder


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class FaceResult(FaceReport):
    """One face of a photograph, with its heatmaps."""

    origin: _Origin  # who judged it, and where its pixels are

    def heatmap(self, name: str) -> PILImage.Image:
        """The photograph under the map of a component, or under "dissimilarity", as an RGB image.

        Raises InputError for a name that the weights do not know and for a photograph that has gone.
        """
        maps = face_maps(self)
        if name not in maps:
            raise InputError(f"a heatmap is one of {', '.join(maps)}, got {name!r}")
        image = self.origin.image().image
        return PILImage.fromarray(overlay(image, image_layer(self, maps[name], image.shape[:2])))

    def __repr__(self) -> str:
        named = " ".join(component.name for component in self.sequence)
        label = verdict_label(self.verdict, self.reason)
        return f"<face {label} {percent(self.forged_probability)}{': ' if named else ''}{named}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class ImageResult(_Written, Report):
    """The report on one photograph; `faces` hold a `FaceResult` each."""

    origin: _Origin  # who judged it, and where its pixels are
    faces: tuple[FaceResult, ...]  # biggest first

    def heatmaps(self, folder: str | os.PathLike[str], stem: str | None = None) -> list[Path]:
        """Write a PNG for each face and map into `folder`, which is made; returns the paths.

        `stem` begins their names, by default the photograph's name.
        """
        name = stem or heatmap_stem(self.path)
        return save_heatmaps(self.origin.image().image, self.faces, Path(folder), name)

    def _add_to(self, builder: ReportBuilder) -> None:
        file = self.origin.source if isinstance(self.origin.source, Path) else None
        builder.add(self, file, self.origin.image() if builder.page else None)

    @property
    def _engine(self) -> _Engine:
        return self.origin.engine

    def __repr__(self) -> str:
        label = verdict_label(self.verdict, self.reason)
        return f"<{_shown(self.path)} {label}, {counted(len(self.faces), 'face')}: {list(self.faces)}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class VideoResult(_Written, VideoReport):
    """The report on one video."""

    origin: _Origin  # who judged it, and where its pixels are

    def _add_to(self, builder: ReportBuilder) -> None:
        builder.add(self, self.origin.source if isinstance(self.origin.source, Path) else None)

    @property
    def _engine(self) -> _Engine:
        return self.origin.engine

    def __repr__(self) -> str:
        label = verdict_label(self.verdict, self.reason)
        tracks = ", ".join(
            f"{verdict_label(track.verdict, track.reason)} {percent(deciding_probability(track))}"
            for track in self.tracks
        )
        people = counted(len(self.tracks), "person", "people")
        return f"<{_shown(self.path)} {label}, {people}: [{tracks}]>"


@dataclass(frozen=True, slots=True)
class Failure:
    """In place of a report: a source that could not be judged."""

    path: str | None  # as given by the caller; None for what has no name
    reason: str  # one line

    @classmethod
    def of(cls, error: InputError, name: str | None) -> "Failure":
        """Of the error that it raised."""
        return cls(name, error.reason if isinstance(error, MediaError) else str(error))


def _is_one(sources: Any) -> bool:
    """Whether this is a single source, and no iterable of them: of a path it would be the letters."""
    if isinstance(sources, np.ndarray):
        return sources.ndim < 3 or (sources.ndim == 3 and sources.shape[2] in (1, 3, 4))
    single = (str, os.PathLike, bytes, bytearray, memoryview, PILImage.Image, LoadedImage)
    return isinstance(sources, single) or hasattr(sources, "read")


def _from_memory(source: Any, channel_order: ChannelOrder) -> LoadedImage:
    """A PIL image or an array as pixels; its hash is that of the pixels."""
    name = None
    if isinstance(source, PILImage.Image):
        name, channel_order = getattr(source, "filename", "") or None, "rgb"
        try:
            source = _pixels_of_pil(source)
        except (OSError, SyntaxError, ValueError) as error:  # closed, cut off, or of a mode without colours
            raise MediaError(name or "image", f"cannot be decoded ({error})") from None
    if not isinstance(source, np.ndarray):
        many = "; give a list, or use stream" if isinstance(source, Iterable) else ""
        raise InputError(
            "a source is a path, bytes, an open file, a PIL image or an array, "
            f"got {type(source).__name__}{many}"
        )
    image = _to_rgb(source, channel_order)
    return LoadedImage(name, hashlib.sha256(image.tobytes()).hexdigest(), image)


def _pixels_of_pil(image: PILImage.Image) -> NDArray[Any]:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in ("I", "F"):
        raise InputError("an image of 32-bit pixels has no defined white level; give 8 or 16 bits")
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _to_rgb(array: NDArray[Any], channel_order: ChannelOrder) -> Image:
    """(H, W, 3) uint8 RGB of any array that says what its values mean: a copy, which stays as judged."""
    array = np.asarray(array)  # a matrix has two axes whatever is done to it
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"an array must be (H, W), or (H, W, C) with C 1, 3 or 4, got {array.shape}")
    pixels = _to_bytes(array)
    if channel_order == "bgr" and pixels.shape[2] > 1:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.array(pixels, order="C")


def _to_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return np.asarray(array * 255, dtype=np.uint8)
    if array.dtype.newbyteorder("=") == np.uint16:
        return np.asarray(np.rint(array.astype(np.float32) / 257), dtype=np.uint8)  # 65535 / 257 = 255
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InputError("a float array must be in [0, 1]: divide by its white level, or give uint8")
        return np.asarray(np.rint(array * 255), dtype=np.uint8)
    raise InputError(f"an array must be uint8, uint16, bool or float in [0, 1], got {array.dtype}")


def _values(report: Any) -> dict[str, Any]:
    """Of a dataclass, without copying what they hold."""
    return {field.name: getattr(report, field.name) for field in fields(report)}


def _name(source: Any) -> str | None:
    """What a source is called, None for what has no name."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, LoadedImage):
        return source.path
    attribute = "name" if hasattr(source, "name") else "filename"  # a gzip file has both, one deprecated
    name = getattr(source, attribute, None)
    return name if isinstance(name, str) and name else None


def _shown(path: str | None) -> str:
    return printable(path) if path else "image"
