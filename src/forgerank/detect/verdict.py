"""Verdicts from probabilities and quality: real, forged or undetermined, with the reason."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forgerank.detect.result import NO_EVIDENCE, Component, FaceReport, TrackReport
from forgerank.faces.detect import SMALLEST_JUDGED
from forgerank.labels import Order
from forgerank.types import Quality, Verdict
from forgerank.weights.description import Calibration, Thresholds

# Beyond these limits a face is not judged.
MIN_SIZE = SMALLEST_JUDGED  # longer side of the face box, pixels
# Portraits measure 150 to 600; a Gaussian blur of 1 % of the face box leaves about 12, of 2 % about 3.
MIN_SHARPNESS = 4.0  # variance of the Laplacian of the aligned grey crop
MAX_YAW = 60.0  # degrees
MAX_PITCH = 45.0  # degrees
# An image reduced to dots, few levels or blocks holds none of the traces that a verdict is read from. Of real
# faces in ordinary copies, hardly any is above a limit; docs/results/quality.md says what was measured.
MAX_GRAIN = 3.5
MAX_NOISE = 14.0
MAX_FLAT = 0.55
MAX_STEPS = 0.3
MAX_BLOCKS = 2.6
MAX_REDUCED = 2.2  # log-odds
MAX_TORN = 1.3
# Nor does one that only holds edges, or a negative: of 1,662 real faces one is beyond these two.
MIN_SHADE = 0.35
MAX_EYES = 0.3
# Nor one of which two colours are left, as of a duotone. Sepia has a tone of up to 18 grey levels; skin, in
# warm light too, has colours of its own.
MAX_TONE = 18.0  # grey levels
MAX_TONE_RATIO = 10.0  # over the colours of its own, and half a grey level
# "Real" says that a forgery would have left traces that can be seen, for which more must be left of a face
# than to call it forged: of real faces 3 % are within the limits above and beyond these.
REAL_SHARPNESS = 8.0
REAL_BLOCKS = 1.9
REAL_REDUCED = 0.45  # log-odds

# Beyond these it is judged, with a warning.
SMALL_SIZE = 96.0
SOFT_SHARPNESS = 25.0
TURNED_YAW = 35.0
TURNED_PITCH = 25.0
SIDEWAYS, UPSIDE_DOWN = 45.0, 135.0  # roll in degrees
DARK, BRIGHT = 0.15, 0.85  # mean luma
CLIPPED = 0.25  # share of face pixels
COLOURLESS = 1.0  # grey levels

_LOGIT_FLOOR = 1e-6


def calibrate(probability: float, calibration: Calibration) -> float:
    """`calibrated` of one face."""
    return float(calibrated(probability, calibration))


def calibrated(probability: ArrayLike, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated P(x), 0..1: sigmoid(slope * logit(P(x)) + intercept), P(x) kept within 1e-6 of 0 and 1."""
    score = calibration.slope * logit(probability) + calibration.intercept
    return np.asarray(np.exp(-np.logaddexp(0, -score)))


def logit(probability: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) in float64, with p kept within 1e-6 of 0 and 1."""
    kept = np.clip(np.asarray(probability, dtype=np.float64), _LOGIT_FLOOR, 1 - _LOGIT_FLOOR)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def unusable(quality: Quality) -> str | None:
    """Why a face of this quality is not judged; None where it is."""
    if quality.size < MIN_SIZE:
        return f"face too small ({quality.size:.0f} px, at least {MIN_SIZE:.0f} are needed)"
    if quality.sharpness < MIN_SHARPNESS:
        return f"face too blurred (sharpness {quality.sharpness:.1f}, at least {MIN_SHARPNESS:g})"
    if abs(quality.yaw) > MAX_YAW or abs(quality.pitch) > MAX_PITCH:
        return f"face turned too far (yaw {quality.yaw:.0f}°, pitch {quality.pitch:.0f}°)"
    reduced = (
        (quality.grain > MAX_GRAIN or quality.noise > MAX_NOISE, "the face is made of dots"),
        (quality.flat > MAX_FLAT, "most of the face is flat"),
        (quality.steps > MAX_STEPS, "few grey levels"),
        (quality.blocks > MAX_BLOCKS, "the face is made of blocks"),
        (quality.torn > MAX_TORN, "torn into lines, as of interlaced video"),
        (quality.shade < MIN_SHADE, "light and shade are gone"),
        (quality.eyes > MAX_EYES, "a negative, or edges alone"),
        (quality.tone > max(MAX_TONE, MAX_TONE_RATIO * (quality.colours + 0.5)), "two colours are left"),
    )
    seen = [what for holds, what in reduced if holds]
    if not seen and quality.reduced > MAX_REDUCED:
        seen = ["traces of dots, few levels or blocks"]
    return f"too little left to judge ({', '.join(seen)})" if seen else None


def unclear(quality: Quality) -> str | None:
    """Why a face of this quality, which can be judged, is not called real; None where it may be."""
    weak = (
        (quality.sharpness < REAL_SHARPNESS, f"soft, sharpness {quality.sharpness:.1f}"),
        (quality.blocks > REAL_BLOCKS, "traces of blocks"),
        (quality.reduced > REAL_REDUCED, "traces of dots, few levels or blocks"),
    )
    seen = [what for holds, what in weak if holds]
    return f"too little left to call it real ({', '.join(seen)})" if seen else None


def judge_face(probability: float, quality: Quality, thresholds: Thresholds) -> tuple[Verdict, str | None]:
    """Verdict and, where undetermined, the reason. `probability` is calibrated."""
    reason = unusable(quality)
    return ("undetermined", reason) if reason is not None else judge_usable(probability, quality, thresholds)


def without_verdict(face: FaceReport, reason: str) -> FaceReport:
    """The face as one that cannot be judged."""
    components = tuple(replace(component, rank=None) for component in face.components)
    return replace(face, verdict="undetermined", reason=reason, components=components)


def judge_usable(probability: float, quality: Quality, thresholds: Thresholds) -> tuple[Verdict, str | None]:
    """`judge_face` of a face that can be judged."""
    if probability >= thresholds.forged:
        return "forged", None
    if probability >= thresholds.real:
        return "undetermined", NO_EVIDENCE
    reason = unclear(quality)
    return ("real", None) if reason is None else ("undetermined", reason)


def order_components(
    names: Sequence[str],
    probabilities: NDArray[np.float32],
    order_scores: NDArray[np.float32],
    verdict: Verdict,
    thresholds: Thresholds,
    order: Order,
) -> tuple[Component, ...]:
    """Components with their ranks. Only a forged face has any: those above their own threshold, 1 = first.

    probabilities, order_scores (L,): the first decide which, the second in what order.
    """
    chosen = [
        i
        for i, threshold in enumerate(thresholds.components)
        if verdict == "forged" and probabilities[i] >= threshold
    ]
    chosen.sort(key=lambda i: float(order_scores[i]), reverse=order == "first_to_last")
    ranks = {i: rank for rank, i in enumerate(chosen, start=1)}
    return tuple(Component(name, float(probabilities[i]), ranks.get(i)) for i, name in enumerate(names))


def judge_image(faces: Sequence[FaceReport | TrackReport]) -> tuple[Verdict, str | None]:
    """Forged if any face is, else undetermined if any face is or none was found, else real.

    The faces of a video are its tracks.
    """
    if not faces:
        return "undetermined", "no face found"
    if any(face.verdict == "forged" for face in faces):
        return "forged", None
    for number, face in enumerate(faces, start=1):
        if face.verdict == "undetermined":
            return "undetermined", face.reason if len(faces) == 1 else f"face {number}: {face.reason}"
    return "real", None


def quality_warnings(quality: Quality) -> tuple[str, ...]:
    """What makes the answer for a face less certain, in words."""
    checks = (
        (quality.size < SMALL_SIZE, f"small face ({quality.size:.0f} px)"),
        (quality.sharpness < SOFT_SHARPNESS, "soft or blurred"),
        (abs(quality.yaw) > TURNED_YAW, f"turned sideways ({abs(quality.yaw):.0f}°)"),
        (abs(quality.pitch) > TURNED_PITCH, f"turned up or down ({abs(quality.pitch):.0f}°)"),
        (abs(quality.roll) > UPSIDE_DOWN, "upside down: judged turned upright"),
        (SIDEWAYS < abs(quality.roll) <= UPSIDE_DOWN, "lies on its side: judged turned upright"),
        (quality.brightness < DARK, "very dark"),
        (quality.brightness > BRIGHT, "very bright"),
        (quality.clipped > CLIPPED, f"{quality.clipped:.0%} of the face is pure black or white"),
        (quality.colours < COLOURLESS, "without colours: forgeries are harder to tell"),
    )
    return tuple(text for holds, text in checks if holds)
