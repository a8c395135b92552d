"""Labels in a real outbox, held against a promise; through the command, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.calibrating.checking import check_promise
from edge.calibration import Calibration
from edge.calibration_file import write_calibration
from edge.clock import utc_now
from edge.commands.calibrate import app
from edge.errors import CalibrationError
from edge.inspection import Outcome
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_labels import PartLabel
from edge.outbox_ledger import Ledger
from edge.testing.verdicts import sample_verdict

PROMISED = Calibration(
    calibration_id="c1",
    model_sha256="0" * 64,
    threshold=1.0,
    method="conformal",
    provisional=False,
    false_reject_rate=0.05,
    confidence=0.95,
    good_parts=59,
    created_utc=datetime(2030, 1, 1, tzinfo=timezone.utc),
)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox", OutboxConfig(keep_free_mb=0)) as opened:
        yield opened


def judged(
    outbox: Outbox, *, passed: int, rejected: int, labelled: str | None = None, first: int = 0
) -> None:
    """So many verdicts; the rejected parts get that label."""
    for number in range(passed + rejected):
        fails = number >= passed
        verdict = outbox.commit(sample_verdict(first + number, int(fails)))
        if fails and labelled is not None:
            outbox.label(PartLabel(verdict.result_id, "anna", labelled, None, utc_now()))


def test_rejected_parts_that_are_good_break_the_promise(outbox: Outbox, tmp_path: Path) -> None:
    judged(outbox, passed=60, rejected=20, labelled="good")
    with Ledger(tmp_path / "outbox") as ledger:
        found = check_promise(ledger, PROMISED, 0.01)
    assert (found.good, found.rejected, found.bad, found.unlabelled) == (80, 20, 0, 0)
    assert found.broken
    assert found.e_value >= 100
    assert 0.05 < found.rate_at_least < 0.25
    assert "20 of 80 good parts were rejected" in found.sentence


def test_rejected_parts_that_are_bad_or_unknown_speak_for_nothing(outbox: Outbox, tmp_path: Path) -> None:
    judged(outbox, passed=60, rejected=20, labelled="scratch")
    judged(outbox, passed=0, rejected=15, first=100)
    with Ledger(tmp_path / "outbox") as ledger:
        found = check_promise(ledger, PROMISED, 0.01)
    assert (found.good, found.rejected, found.bad, found.unlabelled) == (60, 0, 20, 15)
    assert not found.broken
    assert "15 rejected parts have no label" in found.sentence


def test_a_passed_part_that_was_found_bad_is_no_good_part(outbox: Outbox, tmp_path: Path) -> None:
    verdict = outbox.commit(sample_verdict(0))
    outbox.label(PartLabel(verdict.result_id, "anna", "good", None, utc_now()))
    outbox.label(PartLabel(verdict.result_id, "ben", "dent", None, utc_now()))
    with Ledger(tmp_path / "outbox") as ledger:
        assert check_promise(ledger, PROMISED, 0.01).good == 0
    outbox.label(PartLabel(verdict.result_id, "ben", "good", None, utc_now()))  # ben looked again
    with Ledger(tmp_path / "outbox") as ledger:
        assert check_promise(ledger, PROMISED, 0.01).good == 1


def test_a_part_for_a_person_to_look_at_is_not_rejected_by_the_threshold(
    outbox: Outbox, tmp_path: Path
) -> None:
    outbox.commit(sample_verdict(0).model_copy(update={"outcome": Outcome.REVIEW}))
    with Ledger(tmp_path / "outbox") as ledger:
        found = check_promise(ledger, PROMISED, 0.01)
    assert (found.good, found.rejected, found.unlabelled) == (1, 0, 0)


def test_verdicts_by_another_threshold_do_not_count(outbox: Outbox, tmp_path: Path) -> None:
    judged(outbox, passed=5, rejected=5, labelled="good")
    other = PROMISED.model_copy(update={"calibration_id": "c2"})
    with Ledger(tmp_path / "outbox") as ledger:
        assert check_promise(ledger, other, 0.01).good == 0


def test_what_promises_nothing_is_not_checked(outbox: Outbox, tmp_path: Path) -> None:
    provisional = PROMISED.model_copy(update={"provisional": True})
    with Ledger(tmp_path / "outbox") as ledger, pytest.raises(CalibrationError, match="promises nothing"):
        check_promise(ledger, provisional, 0.01)


def test_the_command_ends_with_24_where_the_promise_is_broken(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    write_calibration(tmp_path / "calibration", PROMISED)
    arguments = ["check", str(tmp_path / "calibration"), "--outbox", str(tmp_path / "outbox")]
    judged(outbox, passed=60, rejected=2, labelled="good")
    kept = CliRunner().invoke(app, arguments)
    assert kept.exit_code == 0, kept.output
    assert kept.stdout.startswith("Nothing speaks against the promise of 5 %: 2 of 62 good parts")
    judged(outbox, passed=0, rejected=20, labelled="good", first=100)
    broken = CliRunner().invoke(app, [*arguments, "--json"])
    assert broken.exit_code == 24
    assert json.loads(broken.stdout)["broken"] is True
    assert CliRunner().invoke(app, [*arguments, "--level", "0"]).exit_code == 11


def test_an_outbox_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    write_calibration(tmp_path / "calibration", PROMISED)
    arguments = ["check", str(tmp_path / "calibration"), "--outbox", str(tmp_path / "nowhere")]
    assert CliRunner().invoke(app, arguments).exit_code == 12
