"""`python -m tests.edge.dashboard.screenshots docs/images`: the pictures of docs/dashboard.md."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from playwright.sync_api import Page, expect

from edge.broker import LocalBroker
from tests.browser import opened
from tests.edge.dashboard.rig_with_page import RigWithPage

DESKTOP = {"width": 1440, "height": 1060}
PHONE: dict[str, Any] = {
    "width": 390,
    "height": 844,
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def main(
    out: Annotated[Path, typer.Argument(help="a folder")],
    parts: Annotated[int, typer.Option(min=1, help="inspected before the first picture")] = 90,
) -> None:
    """Write dashboard-dark.jpg, dashboard-light.jpg, dashboard-threshold.jpg, dashboard-lost.jpg and
    dashboard-phone.jpg."""
    with TemporaryDirectory() as folder, LocalBroker() as broker:
        camera = {
            "source": "simulated",
            "product": "plate",
            "seed": 7,
            "defective_share": 0.2,
            "read_timeout_s": 30,
        }
        rig = RigWithPage(Path(folder), broker={"host": broker.host, "port": broker.port}, camera=camera)
        rig.start()
        try:
            for _ in range(parts):
                rig.inspect()
                time.sleep(0.5)
            with opened(rig.url, **DESKTOP, scheme="dark") as found:
                until(rig, found.page, "fail")
                shoot(found.page, out / "dashboard-dark.jpg", full_page=True)
                found.page.locator("#chart .handle").focus()
                for _ in range(4):
                    found.page.keyboard.press("PageUp")
                found.page.keyboard.press("Enter")
                shoot(found.page, out / "dashboard-threshold.jpg")
            with opened(rig.url, **DESKTOP, scheme="light") as found:
                until(rig, found.page, "pass")
                shoot(found.page, out / "dashboard-light.jpg")
            with opened(rig.url, **PHONE, scheme="dark") as found:
                until(rig, found.page, "fail")
                shoot(found.page, out / "dashboard-phone.jpg")
            with opened(rig.url, **DESKTOP, scheme="dark") as found:
                until(rig, found.page, "pass")
                rig.stop()
                expect(found.page.locator("#lost")).to_be_visible(timeout=60_000)
                found.page.wait_for_timeout(7000)
                shoot(found.page, out / "dashboard-lost.jpg")
        finally:
            rig.stop()


def until(rig: RigWithPage, page: Page, outcome: str) -> None:
    """Parts go under the camera until the page shows one of that outcome, with its pictures."""
    page.wait_for_timeout(1500)
    while True:
        result_id = rig.inspect()
        expect(page.locator("#stage")).to_have_attribute("data-heat", result_id, timeout=60_000)
        if page.locator("#verdict").get_attribute("data-outcome") == outcome:
            page.wait_for_timeout(1500)
            return


def shoot(page: Page, path: Path, *, full_page: bool = False) -> None:
    page.wait_for_timeout(500)
    page.screenshot(path=path, type="jpeg", quality=64 if full_page else 74, full_page=full_page)


if __name__ == "__main__":
    typer.run(main)
