"""The report in a browser, inside a sandboxed frame as on the web page."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Frame, Page, sync_playwright

from forgerank.detect import Detector
from forgerank.report.html import html_page, section
from results import two_people

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def report(tiny_detector: Detector) -> str:
    videos = [two_people(), two_people()]
    thresholds = tiny_detector.metadata.thresholds
    sections = [section(i, video, None, thresholds) for i, video in enumerate(videos, start=1)]
    return html_page(sections, videos, tiny_detector.metadata, tiny_detector.sha256)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser.new_page(viewport={"width": 390, "height": 800})
        browser.close()


@pytest.fixture(scope="module")
def frame(page: Page, report: str) -> Frame:
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: messages.append(request.url))
    box = '<iframe sandbox="allow-scripts" style="width:380px;height:700px;border:0" srcdoc="{}"></iframe>'
    page.set_content(box.format(escape(report, quote=True)))
    frame = page.frames[1]
    frame.wait_for_selector("summary")
    for row in frame.locator("details > summary").all():
        row.click()
    frame.wait_for_selector("output")
    assert [message for message in messages if not message.startswith("data:image/")] == []
    return frame


def test_the_slider_reads_the_plot(frame: Frame) -> None:
    slider = frame.locator(".plot input").first
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")
    shown = frame.locator("output").first.text_content()
    assert shown == "0:00.0: 40 %, no clear evidence"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0:00.5: 5 %, real"
    cursor = frame.locator(".cursor").first
    assert (cursor.get_attribute("x1"), cursor.get_attribute("hidden")) == ("83.33", None)  # 0.5 of 6 s
    assert frame.locator(".cursor").nth(1).evaluate("node => getComputedStyle(node).display") == "none"


def test_the_pointer_reads_the_plot(frame: Frame) -> None:
    plot = frame.locator(".plot svg").nth(1)
    plot.scroll_into_view_if_needed()
    size = plot.bounding_box()
    assert size is not None
    plot.hover(position={"x": size["width"] * 1.5 / 6, "y": 20})
    assert frame.locator("output").nth(1).text_content() == "0:01.5: 5 %, real"


def test_rows_open_and_close_by_keyboard_and_print_open(page: Page, report: str) -> None:
    assert page.context.browser is not None
    alone = page.context.browser.new_page()
    alone.set_content(report)
    rows = alone.locator("details")
    assert rows.count() == 4
    assert alone.locator("details[open]").count() == 0
    alone.locator("summary").first.press("Enter")
    assert alone.locator("details[open]").count() == 1
    count = "document.querySelectorAll('details[open]').length"
    alone.evaluate(f"addEventListener('beforeprint', () => {{ window.open_rows = {count} }})")
    alone.pdf()
    assert alone.evaluate("window.open_rows") == 4
    assert alone.locator("details[open]").count() == 1
    alone.close()


def test_an_image_is_enlarged_beside_its_heatmap(page: Page, frame: Frame) -> None:
    second = frame.locator(".maps").nth(1)  # of a real face: no map is shown at first
    button = second.locator(".enlarge").first
    button.focus()
    button.press("Enter")
    view = frame.get_by_role("dialog")
    assert view.locator("svg").count() == 2
    assert view.locator("svg").nth(0).locator(".heat, .box").count() == 0
    assert (
        view.locator("svg").nth(1).locator(".layer:not(.hidden)").get_attribute("data-map") == "dissimilarity"
    )
    view.get_by_text("lip", exact=True).click()
    assert view.locator("svg").nth(1).locator(".layer:not(.hidden)").get_attribute("data-map") == "lip"
    boxes = [view.locator("svg").nth(i).bounding_box() for i in range(2)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] == boxes[1]["x"]  # a phone: one below the other
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    frame.locator("body").press("Escape")
    assert view.count() == 0
    assert button.evaluate("node => node === document.activeElement")
    assert second.locator(".choices").count() == 1
    assert second.locator(".layer:not(.hidden)").count() == 0
    button.click()
    view.get_by_role("button", name="Close").click()
    assert view.count() == 0


def test_a_wide_screen_shows_both_side_by_side(page: Page, report: str) -> None:
    assert page.context.browser is not None
    wide = page.context.browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    wide.set_content(report)
    wide.locator("summary").first.click()
    wide.locator(".enlarge").first.click()
    left, right = (wide.locator("dialog svg").nth(i).bounding_box() for i in range(2))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"] < 1280 - right["width"] + 1
    assert left["height"] > 600
    assert (
        wide.locator("dialog").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(22, 21, 23)"
    )
    wide.close()


def test_a_map_is_chosen_for_the_frames_of_one_track(frame: Frame) -> None:
    first, second = frame.locator(".maps").nth(0), frame.locator(".maps").nth(1)
    assert first.locator(".layer:not(.hidden)").count() == 2
    first.get_by_text("lip", exact=True).click()
    assert {layer.get_attribute("data-map") for layer in first.locator(".layer:not(.hidden)").all()} == {
        "lip"
    }
    assert second.locator(".layer:not(.hidden)").count() == 0
    first.locator(".opacity input").fill("0.25")
    assert first.locator(".heat").first.evaluate("node => getComputedStyle(node).opacity") == "0.25"


def test_the_summary_leads_to_its_file(frame: Frame) -> None:
    frame.get_by_role("link").nth(1).click()
    frame.wait_for_function(
        "() => Math.abs(document.getElementById('item-2').getBoundingClientRect().top) < 2"
    )


def test_nothing_is_wider_than_a_phone(frame: Frame) -> None:
    assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_print_has_no_controls_and_is_light(page: Page, frame: Frame) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    try:
        assert not frame.locator(".plot input").first.is_visible()
        assert not frame.locator(".opacity").first.is_visible()
        colours = frame.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    finally:
        page.emulate_media(media="screen", color_scheme="light")
