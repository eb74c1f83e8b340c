"""Verdicts, sequences and paths in words, for the terminal and for the HTML report."""

from forgerank.infer.result import FaceReport, Report

LIMITS = (
    "“Real” means that nothing of the kind the model was trained on was found. It does not prove that the "
    "picture is authentic.",
    "“Forged” means that traces like those of known edits were found. Make-up, beauty filters, heavy "
    "compression or repairs of a scan can leave similar traces.",
    "“Undetermined” means that the picture cannot be judged, not that it is suspicious.",
    "The order is read from faint traces of repeated saving. It is the least certain part of the answer.",
    "Only faces are judged. A changed background, caption, date or place goes unnoticed.",
    "A verdict alone proves nothing about a person. Have it checked by somebody who knows the picture.",
)


def printable(text: str) -> str:
    """Text for a screen: control characters and undecodable bytes of file names appear escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def percent(probability: float) -> str:
    """A probability as whole percent, never rounded up to certainty.

    >>> percent(0.934), percent(0.9991), percent(0.0004)
    ('93 %', '>99 %', '<1 %')
    """
    if probability > 0.99:
        return ">99 %"
    return "<1 %" if probability < 0.01 else f"{probability:.0%}".replace("%", " %")


def picture_sentence(report: Report) -> str:
    """The verdict on a picture as one sentence."""
    if report.verdict == "undetermined":
        return f"This picture could not be judged: {report.reason}."
    faces = len(report.faces)
    forged = sum(face.verdict == "forged" for face in report.faces)
    if report.verdict == "real":
        found = "its face" if faces == 1 else f"its {faces} faces"
        return f"No sign of forgery was found in {found}."
    if faces == 1:
        return "The face in this picture shows signs of forgery."
    return f"{forged} of {faces} faces {'shows' if forged == 1 else 'show'} signs of forgery."


def face_sentence(face: FaceReport) -> str:
    """The verdict on a face as one sentence, with the components first to last where it is forged."""
    if face.verdict == "undetermined":
        return f"Not judged: {face.reason}."
    if face.verdict == "real":
        return "No sign of forgery was found."
    names = [component.name for component in face.sequence]
    if not names:
        return "Signs of forgery, but no single component stands out."
    return (
        f"Signs of forgery: {names[0]}." if len(names) == 1 else f"Signs of forgery: {', then '.join(names)}."
    )
