"""Parts that failed are taken off the line, and so are those that nobody can vouch for."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edge.errors import RejectError
from edge.inspection import Outcome
from edge.messages import Verdict
from edge.reject import Rejector, State, rejector_from_config
from edge.reject_config import CommandReject, GpioReject, NoReject
from edge.reject_gpio import GpioOutput
from edge.testing import sample_verdict
from tests.edge.gpio_fake import FakeChip, fake_gpiod


def verdict_of(outcome: Outcome) -> Verdict:
    return sample_verdict(3).model_copy(update={"outcome": outcome, "result_id": "r1", "reason": "why"})


class Recorder:
    """An `Output` that writes down what it was told."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.told: list[str] = []
        self.broken = False

    def _note(self, word: str) -> None:
        if self.broken:
            raise RejectError(f"{word}: broken")
        self.told.append(word)

    def open(self) -> None:
        self._note("open")

    def ready(self) -> None:
        self._note("ready")

    def safe(self) -> None:
        self._note("safe")

    def reject(self, verdict: Verdict) -> None:
        self._note(f"reject {verdict.outcome.value}")

    def close(self) -> None:
        self._note("close")


class TestRejector:
    @pytest.mark.parametrize("wish", [True, False])
    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_what_is_rejected(self, outcome: Outcome, wish: bool) -> None:
        output = Recorder()
        rejector = Rejector(
            "test",
            output,
            no_decision=wish if outcome is Outcome.NO_DECISION else not wish,
            review=wish if outcome is Outcome.REVIEW else not wish,
        )
        rejector.open()
        rejector.ready()
        wanted = {
            Outcome.PASS: False,
            Outcome.FAIL: True,
            Outcome.ERROR: True,
            Outcome.NO_DECISION: wish,
            Outcome.REVIEW: wish,
        }[outcome]
        assert rejector.on_verdict(verdict_of(outcome)) is wanted
        assert output.told == ["open", "ready"] + [f"reject {outcome.value}"] * wanted
        assert rejector.status.rejected == wanted

    def test_a_part_whose_verdict_is_not_kept_is_rejected_and_all_is_safe(self) -> None:
        output = Recorder()
        with Rejector("test", output, no_decision=True) as rejector:
            rejector.ready()
            rejector.ready()
            rejector.not_kept(verdict_of(Outcome.PASS), "disk full")
            rejector.not_kept(verdict_of(Outcome.PASS), "disk full")
            assert rejector.status.state is State.SAFE
            rejector.ready()
            assert rejector.status.state is State.READY
        assert output.told == ["open", "ready", "safe", "reject pass", "reject pass", "ready", "close"]
        rejector.close()
        assert rejector.status.state is State.CLOSED

    def test_a_broken_output_is_told_once_and_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        output = Recorder()
        rejector = Rejector("test", output, no_decision=True)
        rejector.open()
        output.broken = True
        for _ in range(3):
            rejector.ready()
        assert rejector.status.state is State.SAFE
        with caplog.at_level(logging.ERROR):
            assert not rejector.on_verdict(verdict_of(Outcome.FAIL))
            assert not rejector.on_verdict(verdict_of(Outcome.FAIL))
        assert (rejector.status.errors, rejector.status.rejected) == (5, 0)
        assert rejector.status.error == "reject fail: broken"
        assert caplog.text.count("can't be driven: reject fail") == 1
        output.broken = False
        assert rejector.on_verdict(verdict_of(Outcome.FAIL))
        assert rejector.status.error is None

    def test_one_that_can_not_be_opened_is_an_error_at_the_start(self) -> None:
        output = Recorder()
        output.broken = True
        with pytest.raises(RejectError):
            Rejector("test", output, no_decision=True).open()

    def test_without_an_output_nothing_is_rejected(self) -> None:
        with rejector_from_config(NoReject()) as rejector:
            rejector.ready()
            assert not rejector.on_verdict(verdict_of(Outcome.FAIL))
            rejector.not_kept(verdict_of(Outcome.FAIL), "disk full")
        assert rejector.status.error is None


SCRIPT = """
import os, sys
with open(sys.argv[1], "a") as file:
    print(sys.argv[2:], os.environ["EDGE_PULSE_MS"], os.environ.get("EDGE_RESULT_ID"),
          os.environ.get("EDGE_OUTCOME"), os.environ.get("EDGE_SEQ"), file=file)
"""


class TestCommand:
    def command(self, *argv: str, timeout_s: float = 10.0) -> CommandReject:
        return CommandReject(kind="command", command=argv, timeout_s=timeout_s, pulse_ms=70)

    def test_it_is_told_what_to_do(self, tmp_path: Path) -> None:
        log = tmp_path / "said with spaces"
        config = self.command(sys.executable, "-I", "-c", SCRIPT, str(log), "--lane", "3; rm -rf x")
        with rejector_from_config(config) as rejector:
            rejector.ready()
            rejector.on_verdict(verdict_of(Outcome.FAIL))
            rejector.on_verdict(verdict_of(Outcome.PASS))
            assert rejector.status.error is None
        said = log.read_text().splitlines()
        assert [line.rpartition("]")[0].split(", ")[-1] for line in said] == [
            "'safe'",
            "'ready'",
            "'reject'",
            "'safe'",
        ]
        assert said[2] == "['--lane', '3; rm -rf x', 'reject'] 70 r1 fail 3"

    def test_it_fails_in_words(self) -> None:
        output = rejector_from_config(self.command("sh", "-c", "echo no air >&2; exit 3"))
        with pytest.raises(RejectError, match=r"ended with code 3: no air"):
            output.open()

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(RejectError, match="can't be run"):
            rejector_from_config(self.command("/nowhere/eject")).open()

    def test_one_that_hangs_is_killed_with_all_it_started(self, tmp_path: Path) -> None:
        children = tmp_path / "children"
        script = f"echo $$ >{children}; sleep 1000 & echo $! >>{children}; wait"
        with pytest.raises(RejectError, match="did not end within"):
            rejector_from_config(self.command("sh", "-c", script, timeout_s=1.0)).open()
        for pid in children.read_text().split():
            assert is_gone(int(pid))

    def test_a_grandchild_that_keeps_its_output_open_holds_up_nobody(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        script = f"sleep 1000 & echo $! >{pid_file}; exit 0"
        rejector_from_config(self.command("sh", "-c", script)).open()
        os.kill(int(pid_file.read_text()), 9)


def is_gone(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


class TestGpio:
    """Over a strict fake; tests/edge/test_reject_gpio_sim.py does it over the kernel's simulator."""

    @pytest.fixture
    def chip(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChip]:
        chip = FakeChip()
        monkeypatch.setitem(sys.modules, "gpiod", fake_gpiod(chip))
        yield chip
        assert chip.held == {}

    def config(self, chip: FakeChip, **settings: object) -> GpioReject:
        return GpioReject.model_validate(
            {"kind": "gpio", "chip": chip.path, "line": "REJECT", "pulse_ms": 60, **settings}
        )

    def wait_for(self, chip: FakeChip, changes: int) -> list[bool]:
        for _ in range(1000):
            if len(chip.history) >= changes:
                break
            time.sleep(0.01)
        return [level for _, level in chip.history]

    def test_it_is_safe_ready_pulsed_and_safe(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip)) as rejector:
            assert chip.level == {2: True}  # from the first moment: it is never requested in another state
            rejector.ready()
            assert chip.level == {2: False}
            rejector.on_verdict(verdict_of(Outcome.PASS))
            assert chip.level == {2: False}
            rejector.on_verdict(verdict_of(Outcome.FAIL))
            assert self.wait_for(chip, 4) == [True, False, True, False]
        assert chip.level == {2: True}

    def test_a_pulse_lasts_as_long_as_it_should(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip, pulse_ms=300, safe_state="inactive")) as rejector:
            rejector.ready()
            rejector.on_verdict(verdict_of(Outcome.FAIL))
            rejector.on_verdict(verdict_of(Outcome.FAIL))  # makes it longer
            assert self.wait_for(chip, 3) == [False, True, False]
        (_, (on_s, _), (off_s, _)) = chip.history
        assert off_s - on_s >= 0.3

    def test_a_pulse_is_not_cut_short_by_what_comes_meanwhile(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip, pulse_ms=300)) as rejector:
            rejector.on_verdict(verdict_of(Outcome.FAIL))
            rejector.ready()
            assert self.wait_for(chip, 2) == [True, False]
        ((on_s, _), (off_s, _), *_) = chip.history
        assert off_s - on_s >= 0.3

    def test_a_line_by_offset_and_the_other_way_round(self, chip: FakeChip) -> None:
        config = self.config(chip, line=1, active_low=True, safe_state="inactive", drive="open_drain")
        with rejector_from_config(config) as rejector:
            assert chip.level == {1: True}
            rejector.ready()
            rejector.on_verdict(verdict_of(Outcome.ERROR))
            assert self.wait_for(chip, 3) == [True, False, True]

    def test_safe_in_a_pulse_stays_when_the_pulse_ends(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip)) as rejector:
            rejector.ready()
            rejector.not_kept(verdict_of(Outcome.FAIL), "disk full")
            time.sleep(0.2)
            assert [level for _, level in chip.history] == [True, False, True]
            rejector.ready()
            assert self.wait_for(chip, 4) == [True, False, True, False]

    def test_where_safe_is_inactive_a_part_not_kept_is_rejected_by_a_pulse(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip, safe_state="inactive")) as rejector:
            rejector.ready()
            rejector.not_kept(verdict_of(Outcome.PASS), "disk full")
            assert self.wait_for(chip, 3) == [False, True, False]

    def test_a_pulse_that_can_not_be_ended_is_told_and_tried_again(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip)) as rejector:
            rejector.ready()
            rejector.on_verdict(verdict_of(Outcome.FAIL))
            chip.broken = True
            for _ in range(1000):
                if rejector.status.error:
                    break
                time.sleep(0.01)
            assert "a pulse can't be ended: line REJECT of /dev/gpiochip-fake: Input/output error" in str(
                rejector.status.error
            )
            chip.broken = False
            assert self.wait_for(chip, 4) == [True, False, True, False]
            for _ in range(1000):
                if not rejector.status.error:
                    break
                time.sleep(0.01)
            assert rejector.status.error is None

    def test_a_held_line_a_missing_line_a_missing_chip(self, chip: FakeChip) -> None:
        with rejector_from_config(self.config(chip)), pytest.raises(RejectError, match="busy"):
            GpioOutput(self.config(chip)).open()
        with pytest.raises(RejectError, match="line NOPE of"):
            GpioOutput(self.config(chip, line="NOPE")).open()
        with pytest.raises(RejectError, match="No such file"):  # libgpiod itself says this
            GpioOutput(GpioReject(kind="gpio", chip=Path("/dev/gpiochip-none"), line=1)).open()

    def test_without_the_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = GpioReject(kind="gpio", line=1)
        monkeypatch.setitem(sys.modules, "gpiod", None)
        with pytest.raises(RejectError, match=r"edge-inspect\[gpio\]"):
            rejector_from_config(config)
        monkeypatch.setitem(sys.modules, "gpiod", ModuleType("gpiod"))
        with pytest.raises(RejectError, match="libgpiod 1"):
            rejector_from_config(config)
