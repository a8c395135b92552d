"""The promise of the calibration in force on the page: kept, then broken by the labels of rejected parts."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from playwright.sync_api import expect

from edge.bundle import load_bundle
from edge.calibration import Calibration
from edge.calibration_store import CalibrationStore
from edge.demo.rig import packaged_bundle
from tests.browser import needs_chromium, opened
from tests.edge.dashboard.rig_with_page import RigWithPage

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.slow]

PATIENCE_MS = 60_000


def test_a_broken_promise_is_said_in_words(tmp_path: Path) -> None:
    bundle = load_bundle(packaged_bundle())
    # So low a threshold rejects every part, as after a change of light that nobody noticed.
    promised = Calibration(
        calibration_id="promised",
        version=2,
        model_sha256=bundle.model_sha256,
        threshold=-1000.0,
        method="conformal",
        provisional=False,
        false_reject_rate=0.01,
        confidence=0.95,
        good_parts=299,
        created_utc=datetime(2030, 1, 1, tzinfo=timezone.utc),
    )
    CalibrationStore(tmp_path / "state").add(promised)
    rig = RigWithPage(tmp_path)
    rig.start()
    try:
        with opened(rig.url) as found:
            row = found.page.locator('#health [data-name="Promise"]')
            rejected = [rig.inspect() for _ in range(4)]
            expect(row).to_contain_text("at most 1 % of good parts rejected", timeout=PATIENCE_MS)
            expect(row).to_contain_text("4 rejects have no label", timeout=PATIENCE_MS)
            expect(row).to_contain_text("OK")
            for result_id in rejected:
                said = rig.command(command="label", result_id=result_id, label="good")
                assert said["status"] == "done", said
            expect(row).to_contain_text("4 of 4 were", timeout=PATIENCE_MS)
            expect(row).to_contain_text("The promise of 1 % is broken", timeout=PATIENCE_MS)
            expect(row).not_to_contain_text("OK")
            assert found.complaints == []
    finally:
        rig.stop()
