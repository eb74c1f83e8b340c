"""The HTML report: one self-contained file. No request leaves it, it reads in light and dark, and it prints.

The templates are in `templates/`. Every value in them is escaped, whatever a file name holds.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from forgerank import __version__
from forgerank.detect.result import (
    FaceReport,
    LoadedImage,
    Report,
    TrackReport,
    VideoReport,
    deciding_probability,
)
from forgerank.detect.verdict import quality_warnings
from forgerank.report import heatmap, words
from forgerank.report.entries import Credentials, ErrorEntry
from forgerank.report.heatmap import DISSIMILARITY, face_maps, palette
from forgerank.report.timeline import levels, plot_track
from forgerank.report.words import percent
from forgerank.types import printable
from forgerank.weights.description import Thresholds, WeightsMetadata


def html_page(
    sections: Sequence[str],
    reports: Sequence[Report | VideoReport],
    metadata: WeightsMetadata,
    sha256: str,
    errors: Sequence[ErrorEntry] = (),
    about: Mapping[str, str] | None = None,
) -> str:
    """The page around the sections, one made by `section` for each report, in its order.

    `sha256` is that of the ONNX file, `about` what the foot says of the report itself. The page also works
    inside an `iframe srcdoc` that allows scripts.
    """
    colours = ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette()[::15])
    films = any(isinstance(report, VideoReport) for report in reports)
    return _render(
        "page.html",
        sections=[Markup(section) for section in sections],
        reports=reports,
        names=[_name(number, report) for number, report in enumerate(reports, start=1)],
        errors=[f"{printable(error.path)}: {error.reason}" for error in errors],
        limits=(*words.LIMITS, *(words.VIDEO_LIMITS if films else ())),
        model={**(about or {}), **_model(metadata, sha256)},
        style=Markup(_asset("page.css").replace("SCALE", colours)),
        script=Markup(_asset("page.js")),
    )


def section(
    number: int,
    report: Report | VideoReport,
    image: LoadedImage | None,
    thresholds: Thresholds,
    credentials: Credentials | None = None,
) -> str:
    """The part of a page on one file. `number` counts from 1; a photograph needs its `image`.

    Raises ValueError for a photograph without.
    """
    if isinstance(report, Report) and image is None:
        raise ValueError("the section on a photograph needs its image")
    return _render(
        "video.html" if isinstance(report, VideoReport) else "image.html",
        number=number,
        name=_name(number, report),
        report=report,
        image=None if image is None else image.image,
        thresholds=thresholds,
        credentials=credentials,
    )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = template_environment("forgerank.report")
    environment.filters.update(
        action_phrase=words.action_phrase,
        by_suspicion=_by_suspicion,
        clock=words.clock,
        crop_to_image=heatmap.crop_to_image,
        declarations=words.declarations,
        decoded_sentence=words.decoded_sentence,
        face_maps=face_maps,
        deciding_probability=deciding_probability,
        face_sentence=words.face_sentence,
        first_map=_first_map,
        heat_layer=heatmap.heat_layer,
        jpeg=heatmap.jpeg,
        levels=levels,
        label=lambda report: words.verdict_label(report.verdict, report.reason),
        quality_warnings=quality_warnings,
        ratio=words.ratio,
        sentence=words.verdict_sentence,
        state_sentence=words.state_sentence,
        stretches_phrase=words.stretches_phrase,
        stretches_sentence=words.stretches_sentence,
        support=words.support,
    )
    environment.globals["plot_track"] = plot_track
    return environment


def _asset(name: str) -> str:
    return files("forgerank.report").joinpath(name).read_text(encoding="utf-8")


def _name(number: int, report: Report | VideoReport) -> str:
    name = report.name if isinstance(report, Report) else report.path
    return name or f"image {number}"


def _by_suspicion(tracks: Sequence[TrackReport]) -> list[TrackReport]:
    """Most suspicious first, those that cannot be judged last."""
    return sorted(tracks, key=lambda track: (track.verdict != "forged", -(track.likelihood_ratio or 0.0)))


def _first_map(faces: Sequence[FaceReport | TrackReport]) -> str:
    """The map that is shown at first: the first component of the first forged face; "none" if none is."""
    for face in faces:
        if face.verdict == "forged":
            return face.sequence[0].name if face.sequence else DISSIMILARITY
    return "none"


def _model(metadata: WeightsMetadata, sha256: str) -> dict[str, str]:
    thresholds = metadata.thresholds
    components = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(metadata.labels, thresholds.components, strict=True)
    )
    return {
        "Program": f"forgerank {__version__}",
        "Weights": f"{metadata.name} {metadata.version}, SHA-256 {sha256}",
        "Made by revision": metadata.git_revision,
        "Licence of the weights": metadata.licence,
        "Thresholds": f"forged from {thresholds.forged:.3f}, real below {thresholds.real:.3f}; {components}",
    }


@cache
def template_environment(package: str) -> Environment:
    """The environment of the templates in the folder `templates` of a package, and of the report's after
    them; with the filter `percent`.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("forgerank.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment
