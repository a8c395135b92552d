"""The page in a real browser, over a daemon that inspects simulated parts while its broker is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from edge.dashboard.routes import ASSETS
from tests.browser import Opened, needs_chromium, opened
from tests.edge.dashboard.rig_with_page import RigWithPage
from tests.edge.dashboard.serving import serving

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.slow]

PATIENCE_MS = 60_000
PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RigWithPage]:
    rig = RigWithPage(tmp_path_factory.mktemp("rig"))
    rig.start()
    try:
        yield rig
    finally:
        rig.stop()


def shown(page: Page, result_id: str) -> None:
    """The verdict, its picture and its heatmap are on the page."""
    expect(page.locator("#verdict")).to_have_attribute("data-result", result_id)
    expect(page.locator("#stage")).to_have_attribute("data-result", result_id)
    expect(page.locator("#stage")).to_have_attribute("data-heat", result_id)


def until(rig: RigWithPage, page: Page, outcome: str) -> str:
    """Parts go under the camera until one has that outcome."""
    for _ in range(40):
        result_id = rig.inspect()
        shown(page, result_id)
        if page.locator("#verdict").get_attribute("data-outcome") == outcome:
            return result_id
    raise AssertionError(f"no part of forty gave {outcome}")


def version(page: Page) -> int:
    """Of the calibration in force, as the rig said it to the page's own stream."""
    said: int | None = page.evaluate(
        """() => new Promise(resolve => {
          const events = new EventSource("/events");
          events.addEventListener("recipe", event => {
            events.close();
            resolve(JSON.parse(event.data).running.calibration_version);
          });
        })"""
    )
    return said or 0


def at_peace(found: Opened, rig: RigWithPage) -> None:
    """Nothing was complained of, and nothing was asked of anybody else."""
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(rig.url)] == []


def test_a_parts_verdict_picture_and_point_are_on_the_page(rig: RigWithPage) -> None:
    with opened(rig.url) as found:
        page = found.page
        result_id = until(rig, page, "fail")
        expect(page.locator("#verdict-word")).to_have_text("FAIL")
        expect(page.locator("#verdict-reason")).to_contain_text("defect")
        expect(page.locator("#spoken")).to_contain_text("FAIL")
        expect(page.locator(f'#chart .mark.fail[data-result="{result_id}"]')).to_have_count(1)
        assert page.locator("#stage img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [
            640,
            480,
        ]
        assert page.locator("#stage .boxes").get_attribute("viewBox") == "0 0 640 480"
        assert page.locator("#stage .boxes rect").count() >= 1
        assert "peak" in str(page.locator("#stage img").get_attribute("alt"))
        # The heatmap hides nothing where it says nothing, and something where it says much.
        alpha = page.locator("#stage canvas").evaluate(
            """canvas => {
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              const found = data.filter((_, i) => i % 4 === 3);
              return [Math.min(...found.slice(0, 640)), found.reduce((a, b) => Math.max(a, b), 0)];
            }"""
        )
        assert alpha[0] < 40
        assert alpha[1] == 255
        expect(page.locator("#scale-low")).to_have_text("0.000")
        assert (
            page.locator("#scale-middle").inner_text()
            == page.locator("#fact-threshold").inner_text().split()[0]
        )
        expect(page.locator('#counts [data-outcome="fail"] dd')).not_to_have_text("0")
        expect(page.locator("#yield")).to_contain_text("%")
        until(rig, page, "pass")
        expect(page.locator("#verdict-reason")).to_have_text("No defect")
        assert page.locator("#stage .boxes rect").count() == 0
        at_peace(found, rig)


def test_health_says_what_is_wrong_in_words(rig: RigWithPage) -> None:
    with opened(rig.url) as found:
        until(rig, found.page, "pass")
        broker = found.page.locator('#health [data-name="Broker"]')
        expect(broker).to_contain_text("Trouble")
        expect(broker).to_contain_text("Verdicts wait on the disk")
        expect(found.page.locator('#health [data-name="Camera"]')).to_contain_text("OK")
        expect(found.page.locator('#health [data-name="Scene"]')).to_contain_text("tilt")
        expect(found.page.locator('#health [data-name="Scene"]')).to_contain_text("fill")
        at_peace(found, rig)


def test_rejects_open_large_by_keyboard(rig: RigWithPage) -> None:
    with opened(rig.url) as found:
        page = found.page
        result_id = until(rig, page, "fail")
        thumb = page.locator("#rejects li").first
        expect(thumb).to_have_attribute("data-result", result_id)
        expect(thumb.locator(".there img")).to_be_visible()
        thumb.locator("button").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#large-stage")).to_have_attribute("data-heat", result_id)
        expect(page.locator("#large-title")).to_contain_text("FAIL")
        page.keyboard.press("Escape")
        expect(page.locator("#large")).not_to_be_visible()
        assert page.evaluate("document.activeElement.closest('li').dataset.result") == result_id
    with opened(rig.url) as found:  # and one that comes later finds them
        expect(found.page.locator("#rejects .there img").first).to_be_visible()
        at_peace(found, rig)


def test_nothing_changes_before_the_person_has_been_asked(rig: RigWithPage) -> None:
    with opened(rig.url) as found:
        page = found.page
        until(rig, page, "pass")
        handle = page.locator("#chart .handle")
        before = float(str(handle.get_attribute("aria-valuenow")))
        handle.focus()
        for key in ("ArrowUp", "ArrowUp", "PageUp", "ArrowDown"):
            page.keyboard.press(key)
        moved = float(str(handle.get_attribute("aria-valuenow")))
        assert moved == pytest.approx(before * 1.11, abs=0.002)
        page.keyboard.press("Escape")
        assert float(str(handle.get_attribute("aria-valuenow"))) == before
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_be_visible()
        expect(page.locator("#ask-before")).to_have_text(f"{before:.3f}")
        expect(page.locator("#ask-effect")).to_contain_text("parts with a score")
        assert page.evaluate("document.activeElement.id") == "ask-cancel"
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).not_to_be_visible()
        assert float(str(handle.get_attribute("aria-valuenow"))) == before
        assert page.evaluate("document.activeElement.classList.contains('handle')")
        at_peace(found, rig)


def test_the_line_is_dragged_and_the_rigs_answer_is_shown(rig: RigWithPage) -> None:
    with opened(rig.url) as found:
        page = found.page
        until(rig, page, "pass")
        knob = page.locator("#chart .handle .knob")
        page.locator("#trend-hint").scroll_into_view_if_needed()
        box = knob.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, y - 30, steps=5)
        page.mouse.up()
        expect(page.locator("#ask")).to_be_visible()
        before = float(page.locator("#ask-before").inner_text())
        after = float(page.locator("#ask-after").input_value())
        assert after > before
        page.locator("#ask-send").click()
        expect(page.locator("#ask-answer")).to_contain_text("Done")
        page.locator("#ask-send").click()
        expect(page.locator("#ask")).not_to_be_visible()
        handle = page.locator("#chart .handle")
        expect(handle).to_have_attribute("aria-valuenow", str(after))
        shown(page, rig.inspect())
        expect(page.locator("#fact-threshold")).to_contain_text(f"{after:.3f}")
        # Somebody else is quicker: what this page saw is not in force any more.
        handle.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_be_visible()
        answer = rig.command(command="threshold", threshold=before, expected_version=version(page) + 1)
        assert answer["reason"] == "version_mismatch", answer
        answer = rig.command(command="threshold", threshold=before, expected_version=version(page))
        assert answer["status"] == "done", answer
        page.locator("#ask-send").click()
        expect(page.locator("#ask-answer")).to_contain_text("Refused: version mismatch")
        page.locator("#ask-cancel").click()
        expect(handle).to_have_attribute("aria-valuenow", str(before))
        at_peace(found, rig)


def test_colours_follow_the_system_until_a_person_chooses(rig: RigWithPage) -> None:
    def ground(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.partition("(")[2].partition(",")[0])

    with opened(rig.url, scheme="dark") as found:
        assert ground(found.page) < 64
        found.page.locator("#theme").click()
        assert ground(found.page) < 64
        found.page.locator("#theme").click()
        assert ground(found.page) > 192
        found.page.reload()
        assert ground(found.page) > 192
        at_peace(found, rig)
    with opened(rig.url, scheme="light") as found:
        assert ground(found.page) > 192


def test_whoever_wants_less_motion_gets_none(rig: RigWithPage) -> None:
    with opened(rig.url, reduced_motion="reduce") as found:
        until(rig, found.page, "pass")
        assert (
            found.page.locator("#verdict").evaluate("panel => getComputedStyle(panel).animationName")
            == "none"
        )


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everybody_can_read_it(rig: RigWithPage, scheme: Any) -> None:
    with opened(rig.url, scheme=scheme, script=AXE_SCRIPT) as found:
        page = found.page
        for outcome in ("fail", "pass"):
            until(rig, page, outcome)
            assert faults(page) == []
        page.locator("#rejects button").first.click()
        expect(page.locator("#large")).to_be_visible()
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.locator("#chart .handle").focus()
        page.keyboard.press("PageUp")
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_be_visible()
        assert faults(page) == []


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def test_a_phone_shows_the_verdict_first_and_nothing_beside_the_screen(rig: RigWithPage) -> None:
    with opened(rig.url, **PHONE, scheme="dark", script=AXE_SCRIPT, has_touch=True, is_mobile=True) as found:
        until(rig, found.page, "fail")
        assert found.overflow_px() <= 0
        box = found.page.locator("#verdict-word").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < PHONE["height"] / 2
        assert box["height"] > 60
        assert faults(found.page) == []


def test_what_is_old_is_said_to_be_and_a_restart_is_found_by_itself(tmp_path: Path) -> None:
    rig = RigWithPage(tmp_path)
    rig.start()
    try:
        with opened(rig.url, script=AXE_SCRIPT) as found:
            page = found.page
            first = until(rig, page, "fail")
            lost = page.locator("#lost")
            expect(lost).not_to_be_visible()
            rig.stop()
            expect(lost).to_be_visible()
            expect(lost).to_contain_text("Connection lost")
            expect(page.locator("#lost-age")).to_contain_text(" s")
            expect(page.locator("#age")).to_contain_text("old")
            assert page.title().startswith("Connection lost")
            assert "grayscale" in page.locator("main").evaluate("main => getComputedStyle(main).filter")
            # The page is dimmed on purpose; what says so is not.
            assert [fault for fault in faults(page) if "#lost" in fault] == []
            rig.start()
            expect(lost).not_to_be_visible()
            second = rig.inspect()
            shown(page, second)
            expect(page.locator(f'#chart [data-result="{first}"]')).to_have_count(1)
            refused = [text for text in found.complaints if "ERR_" not in text]
            assert refused == []  # a browser says itself that it can't connect
    finally:
        rig.stop()


def test_the_door_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token that nobody guesses\n")
    with (
        serving(tmp_path, token_file=tmp_path / "token") as served,
        opened(served.url, scheme="dark", script=AXE_SCRIPT) as found,
    ):
        page = found.page
        assert faults(page) == []
        page.get_by_label("Token of this rig").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        page.get_by_label("Token of this rig").fill("a token that nobody guesses")
        page.get_by_role("button").click()
        expect(page.locator("#rig-name")).to_have_text("line-3 · cell-2")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token of this rig")).to_be_visible()


def test_the_colours_are_those_of_the_heatmaps() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256)
    expected = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[0, :, ::-1].tobytes().hex()
    written = (ASSETS / "turbo.js").read_text().partition("const HEX =")[2].partition(";")[0]
    assert "".join(piece for piece in written.split('"')[1::2]) == expected


def test_the_page_names_no_other_host() -> None:
    for path in ASSETS.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
