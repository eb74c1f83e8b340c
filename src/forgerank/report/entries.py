"""The parts of the JSON report. Every field says what it is, with its unit: docs/report.md is made of it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from forgerank.types import Verdict
from forgerank.weights.description import Probability, Thresholds

Seconds = Annotated[float, Field(ge=0.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Box = tuple[float, float, float, float]

_WHY = "why the verdict is undetermined; null where it is not"
_CREDENTIALS = "C2PA content credentials that the file carries; null where it carries none"


class Entry(BaseModel):
    # A field with a default is always written: readers may rely on it.
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class QualityEntry(Entry):
    """Measured quality of one face; of a track the medians over its moments."""

    size: float = Field(description="longer side of the face box, pixels")
    sharpness: float = Field(
        description="variance of the Laplacian of the aligned grey crop, squared grey levels, >= 0"
    )
    brightness: float = Field(description="mean luma of the aligned face, 0..1")
    clipped: float = Field(description="share of face pixels at or below 2 or at or above 253, 0..1")
    yaw: float = Field(description="degrees, positive when the face turns to image right")
    pitch: float = Field(description="degrees, positive when the face looks up")
    roll: float = Field(description="degrees, positive clockwise in the image")
    grain: float = Field(
        default=0.0,
        description="variance of the Laplacian over that of the luma, at the worst scale of the image",
    )
    noise: float = Field(default=0.0, description="deviation of the finest noise, grey levels, >= 0")
    flat: float = Field(default=0.0, description="share of pixels that equal all their neighbours, 0..1")
    steps: float = Field(
        default=0.0, description="how far the histogram lies in lumps, as of few grey levels, 0..2"
    )
    blocks: float = Field(
        default=0.0,
        description="how far the lines of a square grid stand out: ratio of gradients, or prominence in "
        "their spectrum over 8",
    )
    reduced: float = Field(
        default=0.0,
        description="log-odds that the face was reduced to dots, few levels or blocks, and then saved, "
        "scaled or blurred",
    )
    torn: float = Field(
        default=0.0,
        description="how much more neighbouring lines differ than every second one, as of interlaced video; "
        "about 0.5 in photographs",
    )
    shade: float = Field(
        default=1.0,
        description="share of the contrast that is light and shade over the face, and not edges, >= 0",
    )
    eyes: float = Field(
        default=0.0, description="how much lighter the eyes are than the cheeks, in deviations of the luma"
    )
    colours: float = Field(
        default=255.0,
        description="deviation of the colours that luma does not tell, grey levels; near 0 without colours "
        "or in one tone",
    )
    tone: float = Field(
        default=0.0,
        description="deviation of the colours that luma does tell, grey levels; high in two colours",
    )


class ComponentEntry(Entry):
    """One facial component."""

    name: str = Field(description="nose, eye, eyebrow, lip or hair with the embedded weights")
    probability: Probability = Field(description="of having been manipulated, 0..1")
    rank: int | None = Field(ge=1, description="1 = manipulated first; null where not manipulated")


class FaceEntry(Entry):
    """One face of an image."""

    box: Box = Field(description="x0, y0, x1, y1 in pixels, origin at the top left corner")
    detection_score: Probability = Field(description="of the face detector, 0..1")
    quality: QualityEntry = Field(description="measured quality")
    verdict: Verdict = Field(description="of this face")
    reason: str | None = Field(default=None, description=_WHY)
    forged_probability: Probability = Field(description="calibrated P(x), Eq. 9 of the paper, 0..1")
    likelihood_ratio: float | None = Field(
        default=None,
        description="how much more probable the evidence is of a forged face than of a real one: the odds of "
        "`forged_probability`, calibrated at even prior odds, in 0.001..1000; null for a face that cannot "
        "be judged",
    )
    components: tuple[ComponentEntry, ...] = Field(
        description="all components in the order of `model.labels`, whatever the verdict"
    )
    warnings: tuple[str, ...] = Field(
        default=(), description="what makes the answer for this face less certain, in words"
    )


class ActionEntry(Entry):
    """One step that content credentials declare."""

    of: str | None = Field(
        default=None,
        description="title of the ingredient whose history it belongs to; null for the file itself",
    )
    action: str = Field(description="name as declared, e.g. `c2pa.created` or `c2pa.edited`")
    digital_source_type: str | None = Field(
        default=None,
        description="last part of the IPTC term, e.g. `trainedAlgorithmicMedia`; null if not given",
    )
    software: str | None = Field(
        default=None, description="program that is said to have done it; null if not given"
    )
    when: str | None = Field(default=None, description="date and time as declared; null if not given")


class Credentials(Entry):
    """C2PA content credentials of a file: what somebody says about it. No proof, no part of a verdict."""

    state: str | None = Field(
        default=None,
        description="as c2pa-python validates them: `Valid`, `Trusted` or `Invalid`; null if not read",
    )
    problem: str | None = Field(
        default=None, description="what could not be read or is left out, one line; null if nothing"
    )
    failures: tuple[str, ...] = Field(
        default=(), description="validation checks that failed, codes of the C2PA specification"
    )
    claim_generator: str | None = Field(
        default=None, description="program that wrote them; null if not given"
    )
    issuer: str | None = Field(
        default=None, description="organisation in the signer's certificate; null if none"
    )
    signer: str | None = Field(default=None, description="common name in that certificate; null if none")
    signed: str | None = Field(
        default=None, description="time of the signature, ISO 8601; null without a time stamp"
    )
    title: str | None = Field(
        default=None, description="title of the file when it was signed; null if not given"
    )
    actions: tuple[ActionEntry, ...] = Field(default=(), description="declared steps, in their order")
    ingredients: tuple[str, ...] = Field(
        default=(), description="titles of the files that this one is said to be made from"
    )


class ImageEntry(Entry):
    """One image."""

    path: str | None = Field(description="as given; null for an array passed from Python")
    sha256: Sha256 = Field(description="SHA-256 of the file's bytes; of the pixels for an array")
    width: int = Field(ge=1, description="pixels, after the EXIF rotation")
    height: int = Field(ge=1, description="pixels, after the EXIF rotation")
    verdict: Verdict = Field(
        description="forged if a face is; else undetermined if a face is, or if there is none; else real"
    )
    reason: str | None = Field(description=_WHY)
    faces: tuple[FaceEntry, ...] = Field(description="biggest first")
    credentials: Credentials | None = Field(default=None, description=_CREDENTIALS)
    page: int = Field(default=1, ge=1, description="of a file of several images, such as a TIFF, from 1")
    pages: int = Field(default=1, ge=1, description="how many images of that file were judged")
    warnings: tuple[str, ...] = Field(
        default=(), description="what could not be read or was not looked for, in words"
    )


class MomentEntry(Entry):
    """One face in one sampled frame of a video."""

    frame: int = Field(ge=0, description="number of the frame, from 0 in the order of display")
    time: float = Field(description="seconds, as the stream stores them")
    box: Box = Field(description="x0, y0, x1, y1 in pixels of the upright frame")
    detection_score: Probability = Field(description="of the face detector, 0..1")
    forged_probability: Probability = Field(description="calibrated P(x) of this face in this frame, 0..1")
    verdict: Verdict = Field(description="of this face in this frame alone")
    reason: str | None = Field(description=_WHY)


class StretchEntry(Entry):
    """A run of moments at which a face is forged, more than a real face would show; docs/video.md."""

    start: float = Field(description="seconds, half a sampling step before the first of the moments")
    end: float = Field(description="seconds, half a sampling step after the last of them")
    moments: int = Field(ge=1, description="number of the moments that are forged")
    forged_probability: Probability = Field(description="median over the stretch, 0..1")
    chance: Probability = Field(
        description="probability that a real face shows a run of so many in as many moments as the track has"
    )


class TrackEntry(Entry):
    """One person's face over a video."""

    number: int = Field(ge=1, description="from 1, by first appearance")
    start: float = Field(description="time of the first sampled frame with this face, seconds")
    end: float = Field(description="time of the last one, seconds")
    verdict: Verdict = Field(description="of this face over the video")
    reason: str | None = Field(description=_WHY)
    forged_probability: Probability = Field(description="pooled over the usable moments, 0..1")
    likelihood_ratio: float | None = Field(
        default=None,
        description="how much more probable the evidence is of a forged face than of a real one: the odds of "
        "`forged_probability`, calibrated at even prior odds, in 0.001..1000; null for a face that cannot "
        "be judged",
    )
    components: tuple[ComponentEntry, ...] = Field(
        description="all components in the order of `model.labels`; probabilities and ranks by consensus"
    )
    quality: QualityEntry = Field(description="medians over the moments")
    warnings: tuple[str, ...] = Field(
        description="what makes the answer for this face less certain, in words"
    )
    moments: tuple[MomentEntry, ...] = Field(description="one per sampled frame with this face, by time")
    key_frames: tuple[int, ...] = Field(description="`frame` of the most telling moments, most telling first")
    stretches: tuple[StretchEntry, ...] = Field(
        default=(),
        description="where the face is forged, or, without clear evidence, where it looks most like a "
        "forgery, if that is what the verdict follows from; empty where it follows from the whole track",
    )


class VideoEntry(Entry):
    """One video."""

    path: str = Field(description="as given")
    sha256: Sha256 = Field(description="SHA-256 of the file's bytes")
    width: int = Field(ge=1, description="pixels of an upright frame")
    height: int = Field(ge=1, description="pixels of an upright frame")
    duration: Seconds | None = Field(description="seconds, as the container states it; null if it does not")
    decoded_seconds: Seconds = Field(description="how much of that could be decoded, seconds")
    decoded_share: Probability = Field(description="the same as a share of what the container states, 0..1")
    frame_rate: float | None = Field(ge=0.0, description="mean, frames per second; null where unknown")
    codec: str = Field(description="name of the video codec as FFmpeg has it, e.g. `h264`")
    sampled_frames: int = Field(ge=0, description="number of frames in which faces were looked for")
    sampling_rate: float = Field(ge=0.0, description="those frames per second of video")
    warnings: tuple[str, ...] = Field(description="what could not be read, in words")
    verdict: Verdict = Field(
        description="forged if a track is; else undetermined if a track is, or if there is none; else real"
    )
    reason: str | None = Field(description=_WHY)
    tracks: tuple[TrackEntry, ...] = Field(description="one per person, by first appearance")
    credentials: Credentials | None = Field(default=None, description=_CREDENTIALS)


class ErrorEntry(Entry):
    """An input that could not be read; the command then ends with exit code 2."""

    path: str = Field(description="as given")
    reason: str = Field(description="one line")


class ModelEntry(Entry):
    """The weights that answered."""

    name: str = Field(description="name of the weights")
    version: str | None = Field(default=None, description="version of the weights; null in version 1")
    sha256: Sha256 = Field(description="SHA-256 of the ONNX file")
    git_revision: str | None = Field(
        default=None, description="revision of the code that made the weights; null in version 1"
    )
    labels: tuple[str, ...] = Field(
        default=(), description="names of the components, the order of every list of them; empty in version 1"
    )
    thresholds: Thresholds = Field(description="what a probability must reach")
    thorough: bool = Field(
        default=False,
        description="whether each face was judged in four views, mirrored and at two scales, whose answers "
        "were averaged in log-odds",
    )
