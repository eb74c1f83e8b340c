"""One file judged for the page: its verdict in words, and the reports to show and to download."""

import base64
import hashlib
import logging
import re
from pathlib import Path
from typing import Any

from forgerank.detect.result import FaceReport, TrackReport, faces_of
from forgerank.detect.videos import Cancelled
from forgerank.media.files import MediaError
from forgerank.report.builder import ReportBuilder
from forgerank.report.schema import encodable
from forgerank.report.words import percent, printable, verdict_sentence
from forgerank.serving.judge import Judge, Progress
from forgerank.types import InputError

# What the browser puts before </body> of a report to show it in a frame of the page. A frame cannot be
# measured from outside its sandbox, so the report tells its height; nothing in it may depend on the frame's.
# What the page itself says is left out.
_SCRIPT = (
    "new ResizeObserver(() => parent.postMessage({height: document.body.offsetHeight}, '*'))"
    ".observe(document.body);"
)
_STYLE = (
    ".top,.notes,.item>h2{display:none}.item{margin-top:0}.columns>figure{position:static}.canvas{max-height:46rem}"
    "main,footer{max-width:none;padding:0}body{display:flow-root}"
)
EMBEDDING = f"<style>{_STYLE}</style><script>{_SCRIPT}</script>"
_log = logging.getLogger(__name__)


def answer(judge: Judge, path: Path, name: str, progress: Progress) -> dict[str, Any]:
    """The last message to the browser about the file at `path`, shown as `name`.

    {"error": one line}, or {"name", "verdict", "sentence", "faces", "html", "json"}; a face is {"verdict",
    "probability" (in words), "components" (first to last)}, and the last two are the whole reports.
    Cancelled, raised by `progress`, passes.
    """
    try:
        result = judge(path, name, progress)
        report = ReportBuilder(judge.detector)
        report.add(result, path)
    except Cancelled:
        raise
    except InputError as error:
        reason = error.reason if isinstance(error, MediaError) else str(error)
        return {"error": f"{printable(encodable(name))}: {reason}"}
    except Exception:
        _log.exception("judging an upload failed")
        return {"error": f"{printable(encodable(name))}: the program failed on this file; its log says why"}
    return {
        "name": printable(encodable(name)),
        "verdict": result.verdict,
        "sentence": verdict_sentence(result),
        "faces": [_face(face) for face in faces_of(result)],
        "json": report.json(),
        "html": report.html(),
    }


def _face(face: FaceReport | TrackReport) -> dict[str, Any]:
    return {
        "verdict": face.verdict,
        "probability": percent(face.forged_probability),
        "components": [component.name for component in face.sequence],
    }


def embedded_scripts(judge: Judge) -> list[str]:
    """Digests of the scripts in every embedded report, as a Content-Security-Policy takes them."""
    page = ReportBuilder(judge.detector).html()
    scripts = [_SCRIPT, *re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return [f"sha256-{base64.b64encode(digest).decode()}" for digest in digests]
