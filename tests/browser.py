"""A real Chromium, without a network, that a test opens a page in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, sync_playwright

__all__ = ["Opened", "find_chromium", "needs_chromium", "opened"]


def find_chromium() -> str | None:
    """The first browser of that family that is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="chromium is not installed"
)


@dataclass
class Opened:
    """A page, what it asked the network for, and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def broken_images(self) -> list[str]:
        """The `alt` of each image that was not decoded."""
        found: list[str] = self.page.evaluate(
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
        )
        return found

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return width


@contextmanager
def opened(
    target: Path | str,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    script: str | None = None,
    **context: Any,
) -> Iterator[Opened]:
    """A file, as a person opens it from disk, or an address, in a browser window of that size.

    `script` is run before the page's own; `context` is what Playwright's `new_context` takes.
    """
    path = find_chromium()
    assert path is not None, "chromium is not installed; apt-get install chromium"
    file = isinstance(target, Path)
    with sync_playwright() as playwright:
        # Without a sandbox, because CI may be root in a container; the page is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            made = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, offline=file, **context
            )
            page = made.new_page()
            if script is not None:
                page.add_init_script(script)
            found = Opened(page)
            page.on("request", lambda request: found.requests.append(request.url))
            page.on("console", lambda message: found.complaints.append(message.text))
            page.on("pageerror", lambda error: found.complaints.append(str(error)))
            page.goto(target.resolve().as_uri() if isinstance(target, Path) else target)
            yield found
        finally:
            browser.close()
