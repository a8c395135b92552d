"""`edge-capture` as a person runs it: rigs and recordings through the real librealsense, in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from pydantic import TypeAdapter
from typer.testing import CliRunner

from edge.camera.config import CareConfig
from edge.camera.keeper import CameraKeeper
from edge.captures import list_captures, read_note
from edge.capturing.collecting import Collector, Plan
from edge.capturing.concerns import Concern, Limits
from edge.capturing.events import Ended, Event, Kept
from edge.capturing.folder import CaptureFolder
from edge.capturing.keys import Key, Keyboard, Press, decoded
from edge.capturing.pace import AtIntervals, OnDemand
from edge.capturing.session import Session
from edge.capturing.showing import Shown
from edge.commands.capture import app
from edge.scene.tray import read_tray
from edge.testing import flat_frame
from edge.testing.faults import Fault, FaultyCamera
from tests.edge.camera.pushed import PushedCamera
from tests.edge.capturing.scenes import Bench, record

PATIENCE_S = 240

SIMULATED = "{source: simulated, product: plate, seed: 31, defective_share: 0, parts: 6}"


def rig(folder: Path, camera: str = SIMULATED, more: str = "") -> Path:
    path = folder / "rig.yaml"
    path.write_text(
        "rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}\n"
        f"camera: {camera}\nbundle: bundles/plate\n{more}"
    )
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def unwrapped(text: str) -> str:
    """Without the boxes and the lines' ends that rich makes."""
    return " ".join(text.replace("│", " ").split())


class TestByItself:
    def test_it_collects_goes_on_and_keeps_nothing_twice(self, tmp_path: Path) -> None:
        lot = tmp_path / "captures" / "plate" / "lot-1"
        asked = ("--rig", rig(tmp_path), "--out", lot, "--every", 0, "--json", "--serial", "L7-")
        first = run(*asked, "--good", "--count", 2)
        assert first.exit_code == 0, first.output
        *kept, summary = lines(first)
        assert [line["event"] for line in kept] == ["kept", "kept"]
        assert summary["counts"] == {"good": 2}
        assert summary["ended"] == "count"
        # The simulated rig shows the same parts again, bit for bit.
        again = run(*asked, "--good", "--count", 1)
        assert again.exit_code == 0, again.output
        assert [line["event"] for line in lines(again)] == ["held_back", "held_back", "kept", "summary"]
        bad = run(*asked, "--bad", "dent", "--count", 1, "--keep-same")
        assert bad.exit_code == 0, bad.output
        assert lines(bad)[0]["concerns"] == ["same"]
        samples = list_captures(lot)
        assert [sample.part_id for sample in samples] == ["dent/000", "good/000", "good/001", "good/002"]
        notes = [read_note(sample) for sample in samples]
        assert [note.part_serial for note in notes if note is not None] == [
            "L7-0004",
            "L7-0001",
            "L7-0002",
            "L7-0003",
        ]
        assert samples[0].frame().depth_unit_m == 0.0001

    def test_a_source_that_ends_too_soon_is_said_and_what_is_kept_stays(self, tmp_path: Path) -> None:
        camera = SIMULATED.replace("parts: 6", "parts: 1")
        result = run(
            "--rig", rig(tmp_path, camera), "--out", tmp_path / "lot", "--good", "--every", 0, "--count", 3
        )
        assert result.exit_code == 4
        assert "after 1 of 3 captures" in result.stderr
        assert len(list_captures(tmp_path / "lot")) == 1

    def test_each_part_that_is_laid_down_once(self, tmp_path: Path) -> None:
        bench = Bench(width_px=320, height_px=240)
        empty, one, two = bench.empty(), bench.part(0), bench.part(1)
        record(
            tmp_path / "line.db3",
            bench,
            [empty] * 2 + [one] * 10 + [empty] * 2 + [two] * 10 + [empty] * 2 + [two] * 14,
        )
        path = rig(tmp_path, "{source: recording, path: line.db3}")
        asked = ("--rig", path, "--good", "--when", "part_present", "--part-height-mm", 4, "--json")
        unknown = run(*asked, "--out", tmp_path / "lot")
        assert unknown.exit_code == 3
        assert "--min-area-mm2" in unknown.stderr
        result = run(*asked, "--out", tmp_path / "lot", "--min-area-mm2", 400)
        assert result.exit_code == 0, result.output
        told = lines(result)
        assert [line["event"] for line in told] == ["kept", "kept", "held_back", "summary"]
        assert list(told[2]["concerns"]) == ["same"]  # nobody had taken the second part away
        assert "good/001" in told[2]["concerns"]["same"]
        assert told[3]["ended"] == "source"
        # The rig's own trigger is taken where it has one.
        trigger = "trigger: {kind: part_present, min_area_mm2: 400}\n"
        rig(tmp_path, "{source: recording, path: line.db3}", trigger)
        assert run(*asked, "--out", tmp_path / "lot-2").exit_code == 0
        assert len(list_captures(tmp_path / "lot-2")) == 2


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--out", "lot", "--every", 0), "--good, or --bad NAME"),
            (("--good", "--every", 0), "--out is missing"),
            (("--out", "lot", "--good"), "stdin is no terminal"),
            (("--out", "lot", "--good", "--bad", "dent", "--every", 0), "give one"),
            (("--out", "lot", "--bad", "Big Dent", "--every", 0), "lower-case"),
            (("--out", "lot", "--bad", "good", "--every", 0), "can't be called good"),
            (("--out", "lot", "--good", "--every", 0, "--when", "part_present"), "don't go together"),
            (("--out", "lot", "--good", "--every", 0, "--ask-serial"), "waits for a person"),
            (("--out", "lot", "--good", "--every", 0, "--keep", "stale"), "never kept"),
            (("--tray", "--good"), "learns the empty tray"),
        ],
    )
    def test_a_wrong_command_line(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[object, ...],
        words: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run("--rig", rig(tmp_path), *arguments)
        assert result.exit_code == 2, result.output
        assert words in unwrapped(result.stderr)
        assert [path.name for path in tmp_path.iterdir()] == ["rig.yaml"]

    def test_a_camera_that_is_not_there(self, tmp_path: Path) -> None:
        result = run(
            "--rig", rig(tmp_path, "{source: live}"), "--out", tmp_path / "lot", "--good", "--every", 0
        )
        assert result.exit_code == 4
        assert "no RealSense" in result.stderr
        assert not (tmp_path / "lot").exists()

    def test_another_rig_in_the_same_folder(self, tmp_path: Path) -> None:
        asked = ("--out", tmp_path / "lot", "--good", "--every", 0, "--count", 1)
        assert run("--rig", rig(tmp_path), *asked).exit_code == 0
        before = list_captures(tmp_path / "lot")
        other = run("--rig", rig(tmp_path, SIMULATED.replace("31", "32")), *asked)
        assert other.exit_code == 4
        assert "serial is simulated-plate-32 and simulated-plate-31 there" in other.stderr
        assert list_captures(tmp_path / "lot") == before

    def test_help_has_an_example(self) -> None:
        result = run("--help")
        assert result.exit_code == 0
        assert "edge-capture --rig rig.yaml --out captures/plate/lot-1 --good --count 20" in unwrapped(
            result.stdout
        )


class TestTray:
    EMPTY = "{source: simulated, product: plate, seed: 31, empty_share: 1, parts: 12}"

    def test_it_is_learnt_and_the_one_of_before_stays(self, tmp_path: Path) -> None:
        state = "daemon: {state_dir: state}\n"
        first = run("--rig", rig(tmp_path, self.EMPTY, state), "--tray", "--frames", 5, "--json")
        assert first.exit_code == 0, first.output
        tray = read_tray(tmp_path / "state" / "tray.yaml")
        assert tray.frames == 5
        assert json.loads(first.stdout)["plane"] == tray.model_dump(mode="json")["plane"]
        again = run("--rig", rig(tmp_path, self.EMPTY.replace("31", "32"), state), "--tray", "--frames", 6)
        assert again.exit_code == 0, again.output
        assert read_tray(tmp_path / "state" / "tray.yaml").camera == "simulated-plate-32"
        [copy] = (tmp_path / "state").glob("tray-until-*.yaml")
        assert read_tray(copy) == tray

    def test_one_that_is_not_empty_is_refused(self, tmp_path: Path) -> None:
        result = run("--rig", rig(tmp_path), "--tray", "--frames", 5, "--out", tmp_path / "tray.yaml")
        assert result.exit_code == 17
        assert not (tmp_path / "tray.yaml").exists()


class Terminal:
    """A terminal with edge-capture in it."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        command = [sys.executable, "-m", "edge.commands.capture", "--rig", "rig.yaml"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(slave)
        self._unread = ""
        self._end_s = time.monotonic() + PATIENCE_S

    def until(self, text: str) -> str:
        """What is shown until `text`, and that."""
        while text not in self._unread and self._read():
            pass
        shown, found, self._unread = self._unread.partition(text)
        assert found, f"{text!r} was never shown, but:\n{shown[-3000:]}"
        return shown + found

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> tuple[int, str]:
        """Its exit code, and the rest of what it shows."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(PATIENCE_S), self._unread

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> bool:
        assert time.monotonic() < self._end_s, self._unread[-3000:]
        ready, _, _ = select.select([self._master], [], [], 1.0)
        if not ready:
            return True
        try:
            self._unread += os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: the other side is closed
            return False
        return True


@contextmanager
def terminal(folder: Path, *arguments: object) -> Iterator[Terminal]:
    shown = Terminal(folder, *arguments)
    try:
        yield shown
    finally:
        shown.kill()


class TestByKey:
    def test_a_person_takes_takes_back_and_ends(self, tmp_path: Path) -> None:
        rig(tmp_path)
        with terminal(tmp_path, "--out", "lot", "--good", "--bad", "dent", "--view", 0) as shown:
            url = shown.until("/\r\n").split()[-1]
            shown.until("of the part has depth")
            with urllib.request.urlopen(url + "live.jpg", timeout=30) as answer:
                assert answer.read(3) == b"\xff\xd8\xff"
            shown.press(" ")
            shown.until("000.rgb.png")
            shown.press("\x1b[A ")  # an arrow key means nothing
            shown.until("001.rgb.png")
            shown.press("u")
            shown.until("good/001 taken back")
            shown.press("\t ")
            shown.until("dent/000.rgb.png")
            shown.press("q")
            code, rest = shown.end()
        assert code == 0, rest
        assert "1 dent, 1 good; 2 kept in this run" in rest
        assert [sample.part_id for sample in list_captures(tmp_path / "lot")] == ["dent/000", "good/000"]
        assert len(list((tmp_path / "lot" / ".undone").iterdir())) == 1

    def test_what_is_the_same_is_kept_when_told_again(self, tmp_path: Path) -> None:
        rig(tmp_path)
        assert (
            run(
                "--rig",
                tmp_path / "rig.yaml",
                "--out",
                tmp_path / "lot",
                "--good",
                "--every",
                0,
                "--count",
                1,
            ).exit_code
            == 0
        )
        with terminal(tmp_path, "--out", "lot", "--good", "--ask-serial") as shown:
            shown.until("nearly the same as good/000")
            shown.press("\r")
            shown.until("scan or type the part's serial first")
            shown.press("qu7\r")  # letters are text here
            shown.until("Enter again keeps it")
            shown.press("\r")
            shown.until("part qu7 (kept all the same: same)")
            shown.press("x9\r")
            shown.until("part x9")
            shown.press("\x04")
            code, rest = shown.end()
        assert code == 0, rest
        notes = [read_note(sample) for sample in list_captures(tmp_path / "lot")]
        assert [note.part_serial for note in notes if note is not None] == [None, "qu7", "x9"]

    def test_interrupted_it_says_what_is_kept_and_leaves_the_terminal_as_it_was(self, tmp_path: Path) -> None:
        rig(tmp_path)
        with terminal(tmp_path, "--out", "lot", "--good") as shown:
            shown.until("of the part has depth")
            shown.press(" ")
            shown.until("000.rgb.png")
            shown.process.send_signal(signal.SIGINT)
            code, rest = shown.end()
        assert code == 130
        assert "1 good; 1 kept in this run" in rest
        assert rest.rstrip().endswith("\x1b[?25h")  # the cursor is back


class TestLevelling:
    def test_the_camera_is_levelled_before_the_tray_is_learnt(self, tmp_path: Path) -> None:
        rig(tmp_path, "{source: simulated, product: plate, seed: 31, empty_share: 1}")
        with terminal(tmp_path, "--tray", "--frames", 5) as shown:
            shown.until("turn the camera by")
            shown.until("level the camera and clear the tray, then press space")
            shown.press(" ")
            code, rest = shown.end()
        assert code == 0, rest
        assert "edge-state/tray.yaml: the empty tray of simulated-plate-31" in rest
        assert read_tray(tmp_path / "edge-state" / "tray.yaml").frames == 5

    def test_a_part_on_it_is_told_and_the_person_may_try_again(self, tmp_path: Path) -> None:
        rig(tmp_path, "{source: simulated, product: plate, seed: 31, defective_share: 0}")
        with terminal(tmp_path, "--tray", "--frames", 5) as shown:
            shown.until("press space")
            shown.press(" ")
            shown.until("the tray is not empty")
            shown.until("press space")
            shown.press("q")
            code, _ = shown.end()
        assert code == 130
        assert not (tmp_path / "edge-state").exists()


def test_keys_are_what_they_say() -> None:
    assert decoded(" \rnuq\t\x04", text=False) == [
        Press(key) for key in (Key.TAKE, Key.TAKE, Key.NEXT, Key.UNDO, Key.END, Key.LABEL, Key.END)
    ]
    assert decoded("\x1b[1;5A\x1bOPz", text=False) == [Press(Key.OTHER)]
    assert decoded("q \x7f\r", text=True) == [
        Press(Key.TEXT, "q"),
        Press(Key.TEXT, " "),
        Press(Key.ERASE),
        Press(Key.TAKE),
    ]


class TestPace:
    def test_intervals_are_counted_from_the_frame_that_was_taken(self) -> None:
        now = [100.0]
        pace = AtIntervals(2.0, clock_s=lambda: now[0])
        due = []
        for step_s in (0.0, 1.0, 1.5, 0.5, 1.5):
            now[0] += step_s
            due.append(pace.due(flat_frame()))
        assert due == [True, False, True, False, True]

    def test_a_live_frame_is_not_of_the_moment_in_which_the_hand_was_there(self) -> None:
        pace = OnDemand(live=True)
        assert not pace.due(flat_frame())
        pace.ask()
        assert not pace.due(flat_frame(age_s=-1))  # it lay in the queue, whatever its time
        assert not pace.due(flat_frame(age_s=-0.02))
        assert pace.due(flat_frame(age_s=-1))
        assert not pace.due(flat_frame(age_s=-1))


class Watcher:
    """Sees what people would see."""

    def __init__(self) -> None:
        self.shown = Shown()
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def show(self, shown: Shown) -> None:
        with self._changed:
            self.shown = shown
            self._changed.notify_all()

    def tell(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, true: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: true(self), 60), (self.shown, self.events)


def test_a_live_camera_that_stalls_and_comes_back(tmp_path: Path) -> None:
    camera = PushedCamera()
    rng = np.random.default_rng(1)

    def push(number: int, taken_s: float) -> None:
        time.sleep(0.01)
        z16 = (3000 + rng.integers(-2, 3, (48, 64))).astype(np.uint16)
        z16[16:32, 20:44] -= 300
        camera.device.push(number, rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), z16, taken_s=taken_s)

    camera.push = push
    faulty = FaultyCamera(camera)
    keeper = CameraKeeper(faulty, CareConfig(first_backoff_s=0.05, last_backoff_s=0.1), stall_s=0.3)
    folder, watcher = CaptureFolder(tmp_path / "lot"), Watcher()
    session = Session(folder, Limits(clipped=1.0), rests=True)
    plan = Plan(labels=("good",), count=None, keep=frozenset({Concern.SAME}), live=True, read_s=1.0)
    master, slave = os.openpty()
    with keeper, open(slave, encoding="utf-8") as stdin, Keyboard(stdin) as keyboard:  # noqa: PTH123 - a terminal
        collector = Collector(keeper, session, plan, OnDemand(live=True), keyboard=keyboard, shows=[watcher])
        thread = threading.Thread(target=collector.run)
        thread.start()
        try:
            watcher.wait_for(lambda seen: seen.shown.seen is not None)
            os.write(master, b" ")
            watcher.wait_for(lambda seen: len(seen.events) == 1)
            faulty.break_by(Fault.STALLED)
            watcher.wait_for(lambda seen: "away for" in seen.shown.trouble)
            faulty.mend()
            watcher.wait_for(lambda seen: not seen.shown.trouble)
            os.write(master, b" ")
            watcher.wait_for(lambda seen: len(seen.events) == 2)
        finally:
            os.write(master, b"q")
            thread.join(60)
            session.close()
            os.close(master)
    assert not thread.is_alive()
    assert [event.capture for event in watcher.events if isinstance(event, Kept)] == ["good/000", "good/001"]
    assert watcher.events[-1].ended is Ended.KEY  # type: ignore[union-attr]
    assert [sample.part_id for sample in list_captures(tmp_path / "lot")] == ["good/000", "good/001"]


DOCS = (Path(__file__).parents[3] / "docs" / "capture.md").read_text(encoding="utf-8")


def test_every_option_and_every_concern_is_described() -> None:
    flags = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {flag for flag in flags if f"`{flag}`" not in DOCS} == {"--help"} & flags
    assert [concern.value for concern in Concern if f"\n| `{concern.value}` |" not in DOCS] == []


def test_the_lines_of_json_that_are_shown_are_such() -> None:
    shown = DOCS.partition("```json\n")[2].partition("```")[0].splitlines()
    kinds = [TypeAdapter(Event).validate_json(line).event for line in shown]
    assert kinds == ["kept", "held_back", "undone", "summary"]
