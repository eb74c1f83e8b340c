"""The page in Chromium, from the file to the verdict, at the width of a desk and of a phone."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, HTTPException, Request
from live_page import ScriptedJudge, running, serving, watched_page
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Download, FilePayload, Locator, Page, expect

from forgerank.detect import Detector
from forgerank.report.schema import ReportFile
from forgerank.serving.judge import FileJudge, SerialJudge
from forgerank.serving.service.explorer import explorer

CLIP = FilePayload(
    name="clip.mp4", mimeType="video/mp4", buffer=b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)
)
BROKEN = FilePayload(
    name="broken.jpg", mimeType="image/jpeg", buffer=b"\xff\xd8\xff\xe0 this is no photograph"
)


@pytest.fixture
def page(browser: Browser, judge: ScriptedJudge, width: int) -> Iterator[Page]:
    with (
        serving(
            judge,
            thorough=FileJudge(judge.detector.with_thorough(True)),
            max_bytes=2_000_000,
            max_seconds=600,
        ) as address,
        watched_page(browser, viewport={"width": width, "height": 800}, base_url=address) as page,
    ):
        page.goto("/")
        yield page


@pytest.fixture
def photos(
    tmp_path: Path, astronaut: NDArray[np.uint8], forged_astronaut: NDArray[np.uint8]
) -> tuple[Path, Path]:
    """A forged one and a real one."""
    forged, real = tmp_path / "forged.png", tmp_path / "real.png"
    Image.fromarray(forged_astronaut).save(forged)
    Image.fromarray(astronaut).save(real)
    return forged, real


def slot(page: Page, name: str = "File") -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def give(page: Page, files: Any, name: str = "File") -> None:
    slot(page, name).get_by_label("Choose a photograph or a video").set_input_files(files)


def download(page: Page, kind: str) -> Download:
    # By the key: just after scrolling, Chromium may send a click to the frame, a process of its own.
    with page.expect_download() as download:
        slot(page).get_by_role("link", name=kind).press("Enter")
    return download.value


def opacity(heat: Locator) -> float:
    return float(heat.evaluate("element => getComputedStyle(element).opacity"))


def test_a_photograph_is_judged_shown_and_downloaded(
    page: Page, photos: tuple[Path, Path], tiny_detector: Detector
) -> None:
    give(page, photos[0])
    expect(slot(page).get_by_role("heading", name="forged.png")).to_be_focused()
    expect(slot(page).get_by_role("status")).to_contain_text("Verdict on forged.png: forged. The face")
    expected = tiny_detector.detect([photos[0]])[0]

    frame = slot(page).get_by_title("Report on forged.png")
    report = frame.content_frame
    expect(report.get_by_text("The face in this image shows signs of forgery.")).to_be_visible()
    for component in expected.faces[0].sequence:
        expect(report.locator(".chips.ranked")).to_contain_text(component.name)
    expect(page.get_by_role("heading", name="What the verdict does not mean")).to_be_visible()
    height = report.locator("body").evaluate("body => body.offsetHeight")
    expect(frame).to_have_css("height", f"{height}px")

    slider = report.get_by_label("Opacity")
    assert opacity(report.locator(".heat")) == 0.75
    slider.focus()
    slider.press("Home")
    assert opacity(report.locator(".heat")) == 0
    slider.press("End")
    assert opacity(report.locator(".heat")) == 1

    data = download(page, "Data (JSON)")
    assert data.suggested_filename == "forged-forgerank.json"
    entry = ReportFile.model_validate_json(data.path().read_bytes()).reports[0]
    assert (entry.path, entry.verdict, entry.sha256) == ("forged.png", "forged", expected.sha256)
    html = download(page, "Report (HTML)").path().read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "postMessage" not in html
    assert expected.sha256 in html


def test_a_thorough_judgement_is_asked_for_by_keyboard(page: Page, photos: tuple[Path, Path]) -> None:
    box = page.get_by_role("checkbox", name="Judge thoroughly")
    expect(box).not_to_be_checked()
    box.focus()
    box.press("Space")
    give(page, photos[0])
    report = json.loads(download(page, "Data (JSON)").path().read_text(encoding="utf-8"))
    assert report["model"]["thorough"] is True


def test_an_image_is_enlarged_on_what_is_on_the_screen(page: Page, photos: tuple[Path, Path]) -> None:
    give(page, photos[0])
    frame = slot(page).get_by_title("Report on forged.png")
    report = frame.content_frame
    height = report.locator("body").evaluate("body => body.offsetHeight")
    expect(frame).to_have_css("height", f"{height}px")
    image = report.locator(".enlarge")
    image.scroll_into_view_if_needed()
    image.press("Enter")
    view = report.get_by_role("dialog")
    expect(view.locator("svg")).to_have_count(2)
    expect(view.locator("svg").first).to_be_in_viewport(ratio=0.95)
    sizes = [copy.bounding_box() for copy in view.locator("svg").all()]
    assert all(size is not None and min(size["width"], size["height"]) > 200 for size in sizes)
    assert view.evaluate("view => view.getBoundingClientRect().height") <= 800
    page.keyboard.press("Escape")
    expect(view).to_have_count(0)
    expect(image).to_be_focused()
    expect(frame).to_have_css("height", f"{height}px")


def test_two_images_are_compared(page: Page, photos: tuple[Path, Path]) -> None:
    page.get_by_role("radio", name="Compare two").check()
    give(page, photos[0], "First file")
    give(page, photos[1], "Second file")
    table = page.get_by_role("region", name="Side by side").get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text(["forged.png", "real.png"])
    cells = table.get_by_role("cell")
    expect(table.get_by_role("rowheader")).to_have_text(["Verdict", "Face 1"])
    expect(cells).to_have_count(4)
    expect(cells.nth(0)).to_contain_text("forged. The face in this image")
    expect(cells.nth(1)).to_contain_text("real. No sign of forgery")
    expect(cells.nth(2)).to_contain_text("first to last: nose, lip")
    expect(cells.nth(3)).to_contain_text("real, probability of forgery")
    expect(slot(page, "Second file").get_by_title("Report on real.png")).to_be_visible()
    slot(page, "Second file").get_by_role("button", name="Another file").press("Enter")
    expect(table).to_be_hidden()


def test_who_comes_back_to_the_page_finds_what_the_choice_says(page: Page) -> None:
    page.get_by_role("radio", name="Compare two").check()
    page.goto("about:blank")
    page.go_back()
    second = slot(page, "Second file")
    expect(second).to_be_visible(visible=page.get_by_role("radio", name="Compare two").is_checked())
    page.get_by_role("radio", name="Judge one").check()
    expect(second).to_be_hidden()


def test_two_files_given_at_once_are_compared_and_three_refused(
    page: Page, photos: tuple[Path, Path]
) -> None:
    give(page, [*photos, photos[0]])
    expect(slot(page).get_by_role("alert")).to_have_text("Give one file, or two to compare.")
    give(page, photos)
    expect(page.get_by_role("region", name="Side by side")).to_be_visible()
    expect(page.get_by_role("radio", name="Compare two")).to_be_checked()


def test_files_are_dropped_and_pasted(page: Page, forged_astronaut: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(forged_astronaut).save(buffer, "JPEG")
    transfer = page.evaluate_handle(
        """content => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "given.jpg", { type: "image/jpeg" }));
            return data;
        }""",
        list(buffer.getvalue()),
    )
    page.locator("header").dispatch_event("drop", {"dataTransfer": transfer})
    expect(slot(page).get_by_title("Report on given.jpg")).to_be_visible()
    slot(page).get_by_role("button", name="Another file").press("Enter")
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", transfer
    )
    expect(slot(page).get_by_title("Report on given.jpg")).to_be_visible()


def test_a_slow_video_shows_its_progress_and_its_timeline(page: Page, judge: ScriptedJudge) -> None:
    give(page, CLIP)
    bar = slot(page).get_by_role("progressbar", name="Progress")
    expect(bar).to_be_visible()
    judge.script.put((10.0, 40.0))
    expect(slot(page)).to_contain_text("10 s of 40 s of video judged, about")
    expect(bar).to_have_js_property("position", 0.25)
    judge.script.put((30.0, 40.0))
    expect(bar).to_have_js_property("position", 0.75)
    judge.script.put("finish")
    report = slot(page).get_by_title("Report on clip.mp4").content_frame
    timeline = report.locator(".timeline")
    expect(timeline.locator("svg")).to_be_visible()
    timeline.get_by_role("slider").press("End")
    expect(timeline.locator("output")).to_contain_text("90 %")
    entry = ReportFile.model_validate_json(download(page, "Data (JSON)").path().read_bytes()).videos[0]
    assert (entry.path, entry.verdict) == ("clip.mp4", "forged")


def test_a_slow_video_is_cancelled_and_its_file_deleted(page: Page, judge: ScriptedJudge) -> None:
    give(page, CLIP)
    judge.script.put("go on")
    expect(slot(page)).to_contain_text("of 10000 s of video judged")
    slot(page).get_by_role("button", name="Cancel").click()
    expect(slot(page).get_by_role("status")).to_have_text("Cancelled.")
    assert judge.stopped.wait(20), "the work goes on though nobody waits for it"
    give(page, BROKEN)  # its answer comes after the cancelled one has been cleared away
    expect(slot(page).get_by_role("alert")).to_be_visible()


def test_what_cannot_be_judged_gives_one_line(page: Page, judge: ScriptedJudge) -> None:
    alert = slot(page).get_by_role("alert")
    give(page, BROKEN)
    expect(alert).to_contain_text("broken.jpg: truncated or damaged image")
    give(page, FilePayload(name="huge.png", mimeType="image/png", buffer=bytes(2_000_001)))
    expect(alert).to_have_text("huge.png: over this server's limit on the size of a file.")
    judge.script.put("crash")
    give(page, CLIP)
    expect(alert).to_have_text("clip.mp4: the program failed on this file; its log says why")


@pytest.mark.parametrize("width", [390])
def test_a_key_is_asked_for_once(
    browser: Browser, judge: ScriptedJudge, photos: tuple[Path, Path], width: int
) -> None:
    asked: list[str | None] = []

    def authorize(request: Request) -> None:
        asked.append(request.headers.get("authorization"))
        if asked[-1] != "Bearer right":
            raise HTTPException(401)

    with (
        serving(judge, authorize=authorize) as address,
        watched_page(browser, refused=2, viewport={"width": width, "height": 800}) as page,
    ):
        page.goto(address)
        give(page, photos)
        dialog = page.get_by_role("dialog", name="This server asks for an API key")
        dialog.get_by_label("API key").fill("right")
        dialog.get_by_label("API key").press("Enter")
        expect(page.get_by_role("region", name="Side by side")).to_be_visible()
    assert asked == [None, None, "Bearer right", "Bearer right"]


@pytest.mark.parametrize("width", [1280], indirect=True)
def test_the_keyboard_alone_is_enough(page: Page) -> None:
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    expect(focused).to_have_attribute("value", "one")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Compare two")).to_be_checked()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    expect(focused).to_have_attribute("name", "thorough")
    page.keyboard.press("Tab")
    expect(focused).to_have_attribute("type", "file")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(slot(page).get_by_role("heading", name="astronaut.png")).to_be_focused()
    for name in ("html", "json"):
        page.keyboard.press("Tab")
        expect(focused).to_have_class(f"button {name}")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(focused).to_have_attribute("type", "file")


@pytest.mark.parametrize("width", [390], indirect=True)
def test_a_screen_reader_is_told_what_everything_is(page: Page) -> None:
    expect(page.locator("body")).to_match_aria_snapshot("""
        - banner:
          - heading "Was this face forged?" [level=1]
        - main:
          - group "How many files":
            - radio "Judge one" [checked]
            - radio "Compare two"
          - checkbox /Judge thoroughly/
          - region "File":
            - status
            - button /Choose a photograph or a video.*Up to 2 MB, videos up to 10 minutes/
            - group "Or try an example":
              - list:
                - listitem:
                  - button "Real photograph"
          - heading "What the verdict does not mean" [level=2]
          - list:
            - listitem: /does not prove that the image is authentic/
    """)


@pytest.mark.parametrize("width", [390], indirect=True)
def test_an_example_is_judged_by_the_embedded_weights(browser: Browser, width: int) -> None:
    judge = SerialJudge(FileJudge(Detector(threads=1)))
    with (
        serving(judge) as address,
        watched_page(browser, viewport={"width": width, "height": 800}, color_scheme="dark") as page,
    ):
        page.goto(address)
        slot(page).get_by_role("button", name="Four edits").click()
        frame = slot(page).get_by_title("Report on four-edits.jpg")
        expect(frame.content_frame.get_by_role("heading", name="Face 1")).to_be_visible()
        expect(frame.content_frame.locator("dl")).to_contain_text(judge.detector.sha256)


def test_the_api_is_shown_and_nobody_else_is_asked(browser: Browser, width: int) -> None:
    app = FastAPI(docs_url=None)
    app.include_router(explorer)
    app.add_api_route("/v1/anything", lambda: None, summary="Whether this is shown")
    with (
        running(app) as address,
        watched_page(browser, viewport={"width": width, "height": 800}, base_url=address) as page,
    ):
        page.goto("/docs")
        expect(page.get_by_text("Whether this is shown")).to_be_visible()
        page.get_by_text("Whether this is shown").click()
        expect(page.get_by_role("button", name="Try it out")).to_be_visible()
