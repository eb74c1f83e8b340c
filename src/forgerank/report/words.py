"""Verdicts, sequences, times and paths in words, for the terminal and for the HTML report."""

from forgerank.detect.result import FaceReport, Report, TrackReport, VideoReport, faces_of, is_judged
from forgerank.media.files import counted
from forgerank.report.entries import ActionEntry, Credentials

LIMITS = (
    "“Real” means that nothing of the kind the model was trained on was found. It does not prove that the "
    "image is authentic.",
    "“Forged” means that traces like those of known edits were found. Make-up, beauty filters, heavy "
    "compression or repairs of a scan can leave similar traces.",
    "“Undetermined” means that the image cannot be judged, not that it is suspicious.",
    "“No clear evidence” means that it was judged, and that what was seen speaks too little for either side.",
    "The order is read from faint traces of repeated saving. It is the least certain part of the answer.",
    "Only faces are judged. A changed background, caption, date or place goes unnoticed.",
    "A verdict alone proves nothing about a person. Have it checked by somebody who knows the image.",
)
VIDEO_LIMITS = (
    "In a video only the sampled frames are judged: a forgery that is shorter than the time between two of "
    "them can go unnoticed.",
    "A face is followed by place and appearance. Two people who look alike, or one who looks different after "
    "a cut, can be mixed up.",
    "The sound is not judged.",
)
SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "made by a generative model",
    "compositeWithTrainedAlgorithmicMedia": "partly made by a generative model",
    "algorithmicMedia": "made by an algorithm",
    "digitalCapture": "taken with a digital camera",
    "computationalCapture": "taken with a camera that computes one image from several",
    "digitalCreation": "made by a person with a program",
    "humanEdits": "edited by a person",
    "composite": "put together from several files",
    "screenCapture": "taken from a screen",
}
_MOST_STRETCHES = 3  # of a track are named
_STATES = {
    "Valid": "Valid: file and signature agree. Whether the signer can be trusted was not checked.",
    "Trusted": "Trusted: file and signature agree, and the signer's certificate is on the reader's list.",
    "Invalid": "Invalid: file and signature do not agree, or another check failed.",
}


def percent(probability: float) -> str:
    """A probability as whole percent, never rounded up to certainty.

    >>> percent(0.934), percent(0.9991), percent(0.0004)
    ('93 %', '>99 %', '<1 %')
    """
    if probability > 0.99:
        return ">99 %"
    return "<1 %" if probability < 0.01 else f"{probability:.0%}".replace("%", " %")


def verdict_label(verdict: str, reason: str | None) -> str:
    """The verdict as people read it: "undetermined" is left for what cannot be judged.

    >>> verdict_label("undetermined", "face 2: no clear evidence either way")
    'no clear evidence'
    """
    return "no clear evidence" if verdict == "undetermined" and is_judged(reason) else verdict


# ENFSI guideline for evaluative reporting in forensic science (2015): likelihood ratios from this one on.
_SUPPORT = ((1000, "strong"), (100, "moderately strong"), (10, "moderate"), (2, "weak"))


def support(likelihood_ratio: float) -> str:
    """A likelihood ratio on the verbal scale of the ENFSI guideline (2015).

    >>> support(25.0), support(0.004), support(1.3)
    ('moderate support for a forgery', 'moderately strong support for a real face', 'no support either way')
    """
    strength = max(likelihood_ratio, 1 / likelihood_ratio)
    side = "a forgery" if likelihood_ratio > 1 else "a real face"
    for least, word in _SUPPORT:
        if strength >= least * (1 - 1e-9):
            return f"{word} support for {side}"
    return "no support either way"


def ratio(likelihood_ratio: float) -> str:
    """A likelihood ratio with two digits.

    >>> ratio(9.03), ratio(123.4), ratio(0.0312), ratio(1000.0), ratio(0.001)
    ('9', '120', '0.031', '≥1000', '≤0.001')
    """
    if likelihood_ratio >= 1000:
        return "≥1000"
    return "≤0.001" if likelihood_ratio <= 0.001 else f"{float(f'{likelihood_ratio:.2g}'):g}"


def verdict_sentence(report: Report | VideoReport) -> str:
    """The verdict on an image or a video as one sentence."""
    kind, faces = "video" if isinstance(report, VideoReport) else "image", faces_of(report)
    if report.verdict == "undetermined":
        if is_judged(report.reason):
            return f"{report.reason}."[:1].upper() + f"{report.reason}."[1:]
        return f"This {kind} could not be judged: {report.reason}."
    if report.verdict == "real":
        found = "its face" if len(faces) == 1 else f"its {len(faces)} faces"
        return f"No sign of forgery was found in {found}."
    if len(faces) == 1:
        return f"The face in this {kind} shows signs of forgery{_when(faces[0])}."
    forged = sum(face.verdict == "forged" for face in faces)
    show = "shows" if forged == 1 else "show"
    when = "; ".join(
        f"face {number}{_when(face)}" for number, face in enumerate(faces, start=1) if _when(face)
    )
    return f"{forged} of {len(faces)} faces in this {kind} {show} signs of forgery{when and f' ({when})'}."


def decoded_sentence(report: VideoReport) -> str:
    """How much of a video was decoded and looked at."""
    seconds = f"{report.decoded_seconds:.1f} s"
    if report.decoded_share >= 0.995:
        decoded = f"All {seconds} were decoded"
    else:
        decoded = f"Only {seconds} could be decoded, {percent(report.decoded_share)} of what the file states"
    frames = counted(report.sampled_frames, "frame")
    return f"{decoded}; faces were looked for in {frames}, {report.sampling_rate:.3g} per second."


def clock(seconds: float, digits: int = 1) -> str:
    """A time in a video.

    >>> clock(7.25), clock(75, digits=0), clock(3725.5), clock(59.97)
    ('0:07.2', '1:15', '1:02:05.5', '1:00.0')
    """
    units = round(abs(seconds) * 10**digits)  # rounded once, so that no 60 is left in the seconds
    whole, part = divmod(units, 10**digits)
    hours, rest = divmod(whole, 3600)
    fraction = f".{part:0{digits}d}" if digits else ""
    minutes = f"{hours}:{rest // 60:02d}" if hours else f"{rest // 60}"
    return f"{'-' if seconds < 0 and units else ''}{minutes}:{rest % 60:02d}{fraction}"


def state_sentence(credentials: Credentials) -> str:
    """What the validation of content credentials came to; they say nothing about the verdict."""
    if credentials.state is None:
        return f"The file carries content credentials: {credentials.problem}."
    return _STATES.get(credentials.state, f"{credentials.state}.")


def declarations(credentials: Credentials) -> dict[str, str]:
    """What content credentials declare beside the steps, under the names that the page shows."""
    texts = {
        "Written by": credentials.claim_generator,
        "Signed by": ", ".join(name for name in (credentials.issuer, credentials.signer) if name),
        "Signed at": credentials.signed,
        "Title when signed": credentials.title,
        "Made from": ", ".join(credentials.ingredients),
        "Failed checks": ", ".join(credentials.failures),
        "Left out": credentials.problem if credentials.state else None,
    }
    return {name: text for name, text in texts.items() if text}


def action_phrase(action: ActionEntry) -> str:
    """One declared step of content credentials in words."""
    source = action.digital_source_type
    parts = (
        action.action.removeprefix("c2pa."),
        None if source is None else SOURCE_TYPES.get(source, source),
        None if action.software is None else f"with {action.software}",
        action.when,
        None if action.of is None else f"in the history of {action.of}",
    )
    return ", ".join(part for part in parts if part)


def face_sentence(face: FaceReport | TrackReport) -> str:
    """The verdict on a face or a track as one sentence, with the components first to last if it is forged."""
    if face.verdict == "undetermined":
        return "No clear evidence either way." if is_judged(face.reason) else f"Not judged: {face.reason}."
    if face.verdict == "real":
        return "No sign of forgery was found."
    names = [component.name for component in face.sequence]
    if not names:
        return f"Signs of forgery{_when(face)}, but no single component stands out."
    return f"Signs of forgery{_when(face)}: {', then '.join(names)}."


def stretches_phrase(track: TrackReport) -> str:
    """When a face is forged, as "from 0:20 to 0:23"; empty where that is not limited to stretches."""
    spans = [
        f"from {clock(stretch.start, digits=0)} to {clock(stretch.end, digits=0)}"
        for stretch in track.stretches[:_MOST_STRETCHES]
    ]
    more = len(track.stretches) - len(spans)
    return ", ".join(spans) + (f" and in {more} more stretches" if more else "")


def stretches_sentence(track: TrackReport) -> str:
    """What the finding of stretches rests on; empty where there is none."""
    if not track.stretches:
        return ""
    chance = max(stretch.chance for stretch in track.stretches)
    share = "less than 0.1 %" if chance < 1e-3 else f"about {100 * chance:.1f} %"
    if track.verdict == "forged":
        found = f"Forged {stretches_phrase(track)}: so many moments there reach the threshold."
    else:
        found = f"It looks most like a forgery {stretches_phrase(track)}, too little for a finding."
    return (
        f"{found} Of real faces seen as often, {share} would show as much somewhere. "
        f"Over the whole video the probability is {percent(track.forged_probability)}."
    )


def _when(face: FaceReport | TrackReport) -> str:
    phrase = stretches_phrase(face) if isinstance(face, TrackReport) else ""
    return f" {phrase}" if phrase else ""
