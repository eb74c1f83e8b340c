"""The columns of a row of results that follow from a file's content alone."""

from typing import Any

from forgerank.detect.result import FaceReport, Report, TrackReport, VideoReport, faces_of
from forgerank.report.schema import encodable

PHOTOGRAPH, VIDEO = "photograph", "video"
_DIGITS = 6  # as in the JSON report


def answer_of(report: Report | VideoReport) -> dict[str, Any]:
    """Columns of a judged file; those that are left out are null."""
    video = isinstance(report, VideoReport)
    people = faces_of(report)
    answer: dict[str, Any] = {
        "kind": VIDEO if video else PHOTOGRAPH,
        "width": report.width,
        "height": report.height,
        "verdict": report.verdict,
        "reason": report.reason,
        "faces": len(people),
    }
    if people:
        worst = max(people, key=_suspicion)
        answer["forged_probability"] = round(worst.forged_probability, _DIGITS)
        for component in worst.components:
            answer[f"{component.name}_probability"] = round(component.probability, _DIGITS)
        answer["sequence"] = [component.name for component in worst.sequence]
    if isinstance(report, VideoReport):
        answer["decoded_seconds"] = round(report.decoded_seconds, 3)
        answer["decoded_share"] = round(report.decoded_share, 4)
    return answer


def no_answer(reason: str) -> dict[str, Any]:
    """The columns for content that cannot be judged."""
    return {"error": encodable(" ".join(reason.split()))}


def _suspicion(person: FaceReport | TrackReport) -> tuple[bool, float]:
    """Orders faces: one that decided the verdict comes before a likelier one that was not judged."""
    return person.verdict == "forged", person.forged_probability
