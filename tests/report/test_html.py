import re
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.infer import Detector, Picture, Report
from forgerank.report.html import html_page, picture_section
from forgerank.report.schema import ErrorEntry

Pixels = NDArray[np.uint8]
HOSTILE = '"><script>alert(1)</script>.jpg'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tiny_detector: Detector, astronaut: Pixels, forged_astronaut: Pixels) -> str:
    pictures = [
        Picture(HOSTILE, "1" * 64, np.concatenate([astronaut, forged_astronaut], axis=1)),
        Picture("quiet.png", "2" * 64, np.zeros((80, 120, 3), np.uint8)),
    ]
    reports = tiny_detector.detect(pictures)
    return render(tiny_detector, reports, pictures)


def render(detector: Detector, reports: list[Report], pictures: list[Picture]) -> str:
    thresholds = detector.metadata.thresholds
    sections = [
        picture_section(number, report, picture, thresholds)
        for number, (report, picture) in enumerate(zip(reports, pictures, strict=True), start=1)
    ]
    errors = [ErrorEntry(path="<b>bad</b>.jpg", reason="empty file")]
    return html_page(sections, reports, detector.metadata, detector.sha256, errors)


def parse(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    for tag, attributes in parse(page).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#")), (tag, attributes)
    assert "default-src 'none'" in page


def test_file_names_are_escaped(page: str) -> None:
    tags = parse(page)
    assert [tag for tag, _ in tags.tags].count("script") == 1
    assert "alert(1)</script>" not in page
    assert HOSTILE in tags.text
    assert "<b>bad</b>.jpg: empty file" in tags.text


def test_everything_a_reader_needs(page: str, tiny_detector: Detector) -> None:
    text = parse(page).text
    assert "1 of 2 faces shows signs of forgery." in text
    assert "Signs of forgery: nose, then lip." in text
    assert "This picture could not be judged: no face found." in text
    assert "What the verdict does not mean" in text
    assert "1" * 64 in text
    assert tiny_detector.sha256 in text
    assert "forged from 0.600, real below 0.200" in text


def test_only_the_first_manipulated_component_is_shown_at_first(page: str) -> None:
    layers = [
        attributes for tag, attributes in parse(page).tags if "layer" in (attributes.get("class") or "")
    ]
    assert len(layers) == 2 * 6  # two faces, five components and the dissimilarity
    shown = {layer["data-map"] for layer in layers if "hidden" not in str(layer["class"])}
    assert shown == {"nose"}


def test_layers_lie_where_the_alignment_says(tiny_detector: Detector, forged_astronaut: Pixels) -> None:
    picture = Picture("x", "1" * 64, forged_astronaut)
    (report,) = tiny_detector.detect([picture])
    section = picture_section(1, report, picture, tiny_detector.metadata.thresholds)
    found = re.search(r"matrix\(([^)]*)\)", section)
    assert found is not None
    a, b, c, d, e, f = (float(number) for number in found.group(1).split())
    corner = np.array([[a, c], [b, d]]) @ [32.0, 16.0] + [e, f]
    expected = report.faces[0].alignment.to_picture(np.float32([[32, 16]]))[0]
    np.testing.assert_allclose(corner, expected, atol=0.01)


def test_one_real_picture_has_no_heat_over_it(tiny_detector: Detector, astronaut: Pixels) -> None:
    picture = Picture("x", "1" * 64, astronaut)
    page = render(tiny_detector, tiny_detector.detect([picture]), [picture])
    layers = [attributes for _, attributes in parse(page).tags if "layer" in (attributes.get("class") or "")]
    assert all("hidden" in str(layer["class"]) for layer in layers)
    assert "No sign of forgery was found in its face." in page
    assert 'class="summary"' not in page
