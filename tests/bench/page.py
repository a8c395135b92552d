"""How old a verdict is when it stands in a browser on the same machine, and its picture with the heatmap."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import expect
from pydantic import BaseModel, ConfigDict

from edge.messages import StepTimes
from tests.browser import find_chromium, opened
from tests.edge.dashboard.rig_with_page import RigWithPage

__all__ = ["PageTimes", "page_times"]

_WATCH = """
window.seen = { verdict: [], picture: [] };
document.addEventListener("DOMContentLoaded", () => {
  const verdict = document.getElementById("verdict");
  const note = (list) => () => {
    const made = Date.parse(verdict.dataset.made);
    requestAnimationFrame(() => list.push(Date.now() - made));
  };
  const watch = (id, attribute, list) =>
    new MutationObserver(note(list)).observe(document.getElementById(id), { attributeFilter: [attribute] });
  watch("verdict", "data-result", window.seen.verdict);
  watch("stage", "data-heat", window.seen.picture);
});
"""


class PageTimes(BaseModel):
    """From when a verdict was made until the browser draws it, and its picture with the heatmap over it.

    Of `parts` that a command asked for, one at a time, by the demo's bundle; the browser has no GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: int
    verdict_age_ms: StepTimes
    picture_age_ms: StepTimes


def page_times(parts: int) -> PageTimes | None:
    """Measure; None where there is no Chromium."""
    if find_chromium() is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        rig = RigWithPage(Path(folder))
        rig.start()
        try:
            with opened(rig.url, script=_WATCH) as found:
                for _ in range(parts + 1):  # the first is warm-up
                    result_id = rig.inspect()
                    stage = found.page.locator("#stage")
                    expect(stage).to_have_attribute("data-heat", result_id, timeout=60_000)
                found.page.wait_for_timeout(200)
                seen = found.page.evaluate("window.seen")
        finally:
            rig.stop()
    return PageTimes(
        parts=parts, verdict_age_ms=_times(seen["verdict"]), picture_age_ms=_times(seen["picture"])
    )


def _times(ages_ms: list[float]) -> StepTimes:
    kept = np.maximum(ages_ms[1:], 0.0)
    return StepTimes(p50_ms=float(np.percentile(kept, 50)), p99_ms=float(np.percentile(kept, 99)))
