import re

import numpy as np
import pytest
from numpy.typing import NDArray

from forgerank.detect import Detector, LoadedImage, Report
from forgerank.report.entries import ActionEntry, Credentials, ErrorEntry
from forgerank.report.html import html_page, section
from pages import assert_self_contained, parse

Pixels = NDArray[np.uint8]
HOSTILE = '"><script>alert(1)</script>.jpg'


@pytest.fixture(scope="module")
def page(tiny_detector: Detector, astronaut: Pixels, forged_astronaut: Pixels) -> str:
    images = [
        LoadedImage(HOSTILE, "1" * 64, np.concatenate([astronaut, forged_astronaut], axis=1)),
        LoadedImage("quiet.png", "2" * 64, np.zeros((80, 120, 3), np.uint8)),
    ]
    reports = tiny_detector.detect(images)
    return render(tiny_detector, reports, images)


def render(detector: Detector, reports: list[Report], images: list[LoadedImage]) -> str:
    thresholds = detector.metadata.thresholds
    sections = [
        section(number, report, image, thresholds)
        for number, (report, image) in enumerate(zip(reports, images, strict=True), start=1)
    ]
    errors = [ErrorEntry(path="<b>bad</b>.jpg", reason="empty file")]
    return html_page(sections, reports, detector.metadata, detector.sha256, errors)


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert_self_contained(page)


def test_every_tag_is_closed_and_every_name_is_unique(page: str) -> None:
    tags = parse(page)
    assert not tags.open
    names = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(names) == len(set(names)) == 2
    links = [attributes["href"] for tag, attributes in tags.tags if tag == "a"]
    assert links == [f"#{name}" for name in names]


def test_print_is_light_without_controls(page: str) -> None:
    printed = page[page.index("@media print") :]
    assert "color-scheme: light" in printed
    assert re.search(r"\.opacity[^}]*\.plot input { display: none; }", printed)
    assert "break-inside: avoid" in printed


def test_no_image_is_embedded_twice(page: str) -> None:
    images = re.findall(r"data:image/jpeg[^\"]+", page)
    assert len(images) == len(set(images))


def test_file_names_are_escaped(page: str) -> None:
    tags = parse(page)
    assert [tag for tag, _ in tags.tags].count("script") == 1
    assert "alert(1)</script>" not in page
    assert HOSTILE in tags.text
    assert "<b>bad</b>.jpg: empty file" in tags.text


def test_everything_a_reader_needs(page: str, tiny_detector: Detector) -> None:
    text = parse(page).text
    assert "1 of 2 faces in this image shows signs of forgery." in text
    assert "Signs of forgery: nose, then lip." in text
    assert "This image could not be judged: no face found." in text
    assert "What the verdict does not mean" in text
    assert "1" * 64 in text
    assert tiny_detector.sha256 in text
    assert "forged from 0.600, real below 0.200" in text
    assert "tiny 1, SHA-256" in text


def test_only_the_first_manipulated_component_is_shown_at_first(page: str) -> None:
    layers = [
        attributes for tag, attributes in parse(page).tags if "layer" in (attributes.get("class") or "")
    ]
    assert len(layers) == 2 * 6  # two faces, five components and the dissimilarity
    shown = {layer["data-map"] for layer in layers if "hidden" not in str(layer["class"])}
    assert shown == {"nose"}


def test_layers_lie_where_the_alignment_says(tiny_detector: Detector, forged_astronaut: Pixels) -> None:
    image = LoadedImage("x", "1" * 64, forged_astronaut)
    (report,) = tiny_detector.detect([image])
    part = section(1, report, image, tiny_detector.metadata.thresholds)
    found = re.search(r"matrix\(([^)]*)\)", part)
    assert found is not None
    a, b, c, d, e, f = (float(number) for number in found.group(1).split())
    corner = np.array([[a, c], [b, d]]) @ [32.0, 16.0] + [e, f]
    expected = report.faces[0].alignment.to_image(np.float32([[32, 16]]))[0]
    np.testing.assert_allclose(corner, expected, atol=0.01)


def test_one_real_image_has_no_heat_over_it(tiny_detector: Detector, astronaut: Pixels) -> None:
    image = LoadedImage("x", "1" * 64, astronaut)
    page = render(tiny_detector, tiny_detector.detect([image]), [image])
    layers = [attributes for _, attributes in parse(page).tags if "layer" in (attributes.get("class") or "")]
    assert all("hidden" in str(layer["class"]) for layer in layers)
    assert "No sign of forgery was found in its face." in page
    assert 'class="summary"' not in page


def test_credentials_are_shown_as_information_and_escaped(tiny_detector: Detector, astronaut: Pixels) -> None:
    image = LoadedImage("x", "1" * 64, astronaut)
    (report,) = tiny_detector.detect([image])
    credentials = Credentials(
        state="Invalid",
        failures=("assertion.dataHash.mismatch",),
        claim_generator="<i>Painter</i>",
        issuer="Press",
        actions=(
            ActionEntry(action="c2pa.created", digital_source_type="trainedAlgorithmicMedia"),
            ActionEntry(action="c2pa.edited", software="Paint", of="sky.jpg"),
        ),
        ingredients=("sky.jpg",),
    )
    thresholds = tiny_detector.metadata.thresholds
    part = section(1, report, image, thresholds, credentials)
    text = parse(part).text
    assert "Invalid: file and signature do not agree" in text
    assert "<i>Painter</i>" in text
    assert "created, made by a generative model" in text
    assert "edited, with Paint, in the history of sky.jpg" in text
    assert "assertion.dataHash.mismatch" in text
    assert "It proves nothing and has no part in the verdict." in text
    assert "No sign of forgery was found in its face." in text
    assert "Content credentials" not in section(1, report, image, thresholds)
    unread = Credentials(problem='not read: pip install "forgerank[c2pa]"')
    text = parse(section(1, report, image, thresholds, unread)).text
    assert text.count('The file carries content credentials: not read: pip install "forgerank[c2pa]".') == 1
