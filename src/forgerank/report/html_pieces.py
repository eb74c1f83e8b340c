"""What every part of the HTML report is made of: escaped text, badges, chips, images as data."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.detect.result import Component
from forgerank.detect.verdict import quality_warnings
from forgerank.report.entries import ActionEntry, Credentials
from forgerank.report.words import SOURCE_TYPES, percent, printable, state_sentence
from forgerank.types import Image, Quality
from forgerank.weights.description import Thresholds

_SIGNS = {"forged": "▲", "real": "●", "undetermined": "◆"}


def text(content: str) -> str:
    """Text that is safe between tags and inside attributes, whatever a file name holds."""
    return escape(printable(content), quote=True)


def badge(verdict: str) -> str:
    """The verdict as a coloured word with a sign of its own."""
    return f'<span class="badge {verdict}"><i aria-hidden="true">{_SIGNS[verdict]}</i>{verdict}</span>'


def who(name: str, thumbnail: str, verdict: str, sentence: str) -> str:
    """The head of a face's card; `thumbnail` is HTML already."""
    return (
        f'<div class="who">{thumbnail}<div><h3>{text(name)} {badge(verdict)}</h3>'
        f"<p>{text(sentence)}</p></div></div>"
    )


def components_list(components: Sequence[Component], sequence: Sequence[Component]) -> str:
    """Chips: the manipulated components first to last, then the others."""
    order = "".join(_chip(component) for component in sequence)
    rest = "".join(_chip(component) for component in components if component.rank is None)
    return (
        f'<h4>Manipulated, first to last</h4><ol class="chips ranked">{order}</ol>' if sequence else ""
    ) + (
        f'<h4>{"Not manipulated" if sequence else "Components"}</h4><ul class="chips">{rest}</ul>'
        if rest
        else ""
    )


def _chip(component: Component) -> str:
    rank = "" if component.rank is None else f"<b>{component.rank}</b>"
    return f"<li>{rank}{text(component.name)} <span>{text(percent(component.probability))}</span></li>"


def gauge(probability: float, thresholds: Thresholds) -> str:
    """The probability of forgery on a bar that shows both thresholds."""
    shown = text(percent(probability))
    return (
        f'<div class="gauge" role="img" aria-label="forged with probability {shown}" '
        f'style="--p:{probability:.4f};--lo:{thresholds.real:.4f};--hi:{thresholds.forged:.4f}"><i></i>'
        f"<p><span>Probability of forgery</span><b>{shown}</b></p></div>"
    )


def bullets(lines: Sequence[str], kind: str = "warnings") -> str:
    """A list of sentences, nothing for none."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def quality_lines(quality: Quality, note: str) -> str:
    """Warnings in words, then the measured numbers and a note."""
    return (
        f"{bullets(quality_warnings(quality))}"
        f'<p class="fine">{quality.size:.0f} px · sharpness {quality.sharpness:.0f} · '
        f"yaw {quality.yaw:.0f}° pitch {quality.pitch:.0f}° roll {quality.roll:.0f}° · {text(note)}</p>"
    )


def facts(rows: dict[str, str]) -> str:
    """Names and values, both escaped here."""
    return (
        f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(value)}</dd>' for name, value in rows.items())}</dl>"
    )


def credentials_note(credentials: Credentials | None) -> str:
    """Content credentials as information; nothing for a file without."""
    if credentials is None:
        return ""
    names = {
        "Written by": credentials.claim_generator,
        "Signed by": ", ".join(name for name in (credentials.issuer, credentials.signer) if name),
        "Signed at": credentials.signed,
        "Title when signed": credentials.title,
        "Made from": ", ".join(credentials.ingredients),
        "Failed checks": ", ".join(credentials.failures),
        "Left out": credentials.problem if credentials.state else None,
    }
    rows = {name: value for name, value in names.items() if value}
    steps = bullets([_action(action) for action in credentials.actions], "steps")
    return (
        '<aside class="credentials"><h3>Content credentials (C2PA)</h3>'
        f"<p>{text(state_sentence(credentials))}</p>{facts(rows) if rows else ''}"
        + (f"<h4>Declared steps</h4>{steps}" if steps else "")
        + '<p class="fine">What somebody declared and signed about this file. It proves nothing and has no '
        "part in the verdict.</p></aside>"
    )


def _action(action: ActionEntry) -> str:
    source = action.digital_source_type
    parts = (
        action.action.removeprefix("c2pa."),
        None if source is None else SOURCE_TYPES.get(source, source),
        None if action.software is None else f"with {action.software}",
        action.when,
        None if action.of is None else f"in the history of {action.of}",
    )
    return ", ".join(part for part in parts if part)


def photo_uri(image: Image, longest: int) -> str:
    """An image (H, W, 3) as data, its longer side at most `longest` pixels."""
    pil = PILImage.fromarray(image)
    pil.thumbnail((longest, longest))
    return _encode(pil, "JPEG")


def layer_uri(pixels: NDArray[np.uint8]) -> str:
    """A layer (H, W, 4) RGBA as data."""
    return _encode(PILImage.fromarray(pixels), "PNG")


def _encode(image: PILImage.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
