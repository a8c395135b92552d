"""`edge-demo` as a person runs it: real broker, real daemon in a process of its own, real librealsense."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from edge.broker import find_mosquitto
from edge.camera.truth import PartTruth, read_truth
from edge.commands.demo import app
from edge.demo.gathering import Evidence, Gathering, PartResult
from edge.demo.sheet import Tile, contact_sheet
from edge.demo.summary import delivered_once
from edge.demo.view import TerminalView
from edge.errors import BrokerError
from edge.messages import PictureKind, Verdict
from edge.publisher import Picture, picture_info
from edge.simulation import RigScene
from edge.testing import Heard
from edge.testing.verdicts import sample_verdict
from tests.tiny_bundle import make_tiny_bundle

PATIENCE_S = 120

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fails the plates whose tiny score is above the middle of the first six."""
    return make_tiny_bundle(
        tmp_path_factory.mktemp("bundle"), threshold=1.4, provenance={"train_seed": "17, 18"}
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def wait_until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.05)


class TestRun:
    @pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"])
    def test_each_verdict_stands_beside_the_truth(self, bundle: Path, broker: str, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run(
            "--bundle", bundle, "--parts", 6, "--seed", 5, "--out", out, "--broker", broker, "--json"
        )
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert told == json.loads((out / "summary.json").read_text())
        assert (told["verdicts"], told["duplicates"], told["heatmaps"]) == (6, 0, 6)
        assert (told["delivered_once"], told["broker"], told["train_seed"]) == (True, broker, "17, 18")

        scene = RigScene("plate", seed=5, parts=6)
        shots = [shot for i in range(6) if (shot := scene.shot(i)) is not None]
        assert [(line["part_id"], line["truth"]) for line in told["lines"]] == [
            (shot.part_id, shot.defect or "good") for shot in shots
        ]
        right = [
            (line["outcome"] == "fail") == (line["score"] > 1.4) == (line["threshold"] < line["score"])
            for line in told["lines"]
        ]
        assert all(right)
        agree = [(line["outcome"] == "fail") == (line["truth"] != "good") for line in told["lines"]]
        assert [line["agrees"] for line in told["lines"]] == agree
        assert told["agreement"] == {"found": sum(agree), "shown": 6}
        bad = [line for line in told["lines"] if line["truth"] != "good"]
        assert told["false_rejects"]["shown"] == 6 - len(bad)
        assert sum(kind["shown"] for kind in told["finds"].values()) == len(bad)
        assert 0 < told["latency_p50_ms"] <= told["latency_max_ms"]

        for line, shot in zip(told["lines"], shots, strict=True):
            overlay = cv2.imread(str(out / line["overlay"]))
            assert overlay is not None
            assert overlay.shape == shot.rgb.shape
        sheet = cv2.imread(told["contact_sheet"])
        assert sheet is not None
        assert [truth.part_id for truth in read_truth(out / "truth")] == [shot.part_id for shot in shots]

    def test_people_read_each_part_and_the_sum_of_them(self, bundle: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run("--bundle", bundle, "--parts", 3, "--out", out)
        assert result.exit_code == 0, result.output
        for text in ("plate-00002", "verdicts received   3 of 3, 0 twice", "trained on parts of seed 17, 18"):
            assert text in result.stdout
        assert str(out / "overlays") in result.stdout
        assert str(out / "contact-sheet.png") in result.stdout

    def test_no_decision_is_delivered_too_and_agrees_with_nothing(self, tmp_path: Path) -> None:
        uncalibrated = make_tiny_bundle(tmp_path / "b", threshold=None)
        result = run("--bundle", uncalibrated, "--parts", 2, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert {(line["outcome"], line["reason"]) for line in told["lines"]} == {
            ("no_decision", "uncalibrated")
        }
        assert (told["undecided"], told["agreement"]["found"], told["heatmaps"]) == (2, 0, 2)
        assert told["train_seed"] is None

    def test_a_model_that_gives_nan_is_an_error_with_a_photo_and_no_heatmap(self, tmp_path: Path) -> None:
        broken = make_tiny_bundle(tmp_path / "b", broken="nan")
        result = run("--bundle", broken, "--parts", 2, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert [line["reason"] for line in told["lines"]] == ["not_finite"] * 2
        assert (told["undecided"], told["heatmaps"]) == (2, 0)
        assert all((tmp_path / "out" / line["overlay"]).is_file() for line in told["lines"])


class TestRefusals:
    @pytest.mark.parametrize("seed", [17, 18])
    def test_a_seed_that_the_bundle_was_trained_on(self, bundle: Path, seed: int, tmp_path: Path) -> None:
        result = run("--bundle", bundle, "--seed", seed, "--out", tmp_path / "out")
        assert result.exit_code == 3
        assert f"--seed {seed}: this bundle was trained on" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_a_product_that_the_simulation_does_not_know(self, tmp_path: Path) -> None:
        other = make_tiny_bundle(tmp_path / "b", product="casting")
        result = run("--bundle", other, "--out", tmp_path / "out")
        assert result.exit_code == 3
        assert "'casting'; the simulated rig has" in result.stderr

    def test_a_folder_that_holds_something(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        result = run("--bundle", bundle, "--out", tmp_path)
        assert result.exit_code == 3
        assert "holds something already" in result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_damaged_bundle(self, bundle: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "b"
        shutil.copytree(bundle, damaged)
        (damaged / "shape.onnx").write_bytes(b"no model")
        result = run("--bundle", damaged, "--out", tmp_path / "out")
        assert result.exit_code == 5
        assert "shape.onnx: differs from the sha256" in result.stderr

    def test_a_daemon_that_can_not_work_ends_the_demo_with_its_own_code_and_words(
        self, tmp_path: Path
    ) -> None:
        broken = make_tiny_bundle(tmp_path / "b", broken="wrong_shape")
        result = run("--bundle", broken, "--out", tmp_path / "out")
        assert result.exit_code == 5
        assert "edge-daemon ended with 5" in result.stderr
        assert "'colour_map' of colour.onnx is" in result.stderr


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


class TestEnds:
    def start(self, bundle: Path, out: Path, parts: int = 500) -> subprocess.Popen[str]:
        command = ["--bundle", bundle, "--parts", parts, "--out", out, "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.commands.demo", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        wait_until(lambda: len(list((out / "overlays").glob("*.jpg"))) >= 2 or process.poll() is not None)
        assert process.poll() is None
        return process

    def test_ctrl_c_ends_in_order_and_loses_nothing(self, bundle: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with self.start(bundle, out) as process:
            children = children_of(process.pid)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
            stdout, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        told = json.loads(stdout)
        assert (told["interrupted"], told["delivered_once"]) == (True, True)
        assert 2 <= told["verdicts"] == json.loads((out / "daemon.json").read_text())["verdicts"] < 500
        assert Path(told["contact_sheet"]).is_file()
        assert "lost" not in (out / "daemon.log").read_text()
        assert len(children) == 2
        assert not [pid for pid in children if runs(pid)]

    @pytest.mark.slow
    def test_killed_outright_it_leaves_no_child(self, bundle: Path, tmp_path: Path) -> None:
        with self.start(bundle, tmp_path / "out") as process:
            children = children_of(process.pid)
            process.kill()
        assert len(children) == 2
        wait_until(lambda: not [pid for pid in children if runs(pid)])

    @pytest.mark.slow
    @needs_mosquitto
    def test_a_broker_that_dies_is_no_success(self, bundle: Path, tmp_path: Path) -> None:
        with self.start(bundle, tmp_path / "out", parts=25) as process:
            [broker] = [pid for pid in children_of(process.pid) if "mosquitto" in command_of(pid)]
            os.kill(broker, signal.SIGKILL)
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode == BrokerError.exit_code


def verdict_about(part_id: str, *, fails: bool) -> Verdict:
    return sample_verdict(regions=int(fails)).model_copy(
        update={"part_id": part_id, "result_id": str(uuid.uuid4())}
    )


class TestGathering:
    @pytest.fixture
    def truth(self, tmp_path: Path) -> Path:
        rows = [{"shot": 0, "part_id": "a", "defect": "dent", "mask": None}]
        (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    def messages(self, part_id: str = "a") -> tuple[Heard, list[Heard]]:
        """A verdict, and its pictures with their twins."""
        verdict = verdict_about(part_id, fails=True)
        pictures = []
        for number, kind in enumerate(PictureKind):
            encoding = "float16-le" if kind is PictureKind.MAP else "image/jpeg"
            picture = Picture(kind, bytes([number]), encoding, 64, 48, 0.0, 2.0)  # type: ignore[arg-type]
            root = f"a/b/c/d/e/inspection/{kind.value}"
            pictures.append(Heard(root, picture.data, 0, False))
            pictures.append(Heard(f"{root}/info", picture_info(picture, verdict).to_json(), 0, False))
        return Heard("a/b/c/d/e/inspection/verdict", verdict.to_json(), 1, False), pictures

    def test_a_verdict_that_comes_twice_is_counted(self, truth: Path) -> None:
        gathering = Gathering(truth)
        verdict, _ = self.messages()
        first = gathering.take(verdict, time.monotonic_ns())
        assert isinstance(first, PartResult)
        assert (first.truth_text, first.agrees) == ("dent", True)
        assert gathering.take(verdict, time.monotonic_ns()) is None
        assert (len(gathering.results), gathering.duplicates) == (1, 1)

    def test_a_part_that_was_never_shown_agrees_with_nothing(self, truth: Path) -> None:
        result = Gathering(truth).take(self.messages("b")[0], time.monotonic_ns())
        assert isinstance(result, PartResult)
        assert (result.truth_text, result.agrees) == ("unknown", False)

    @pytest.mark.parametrize("verdict_at", [0, 3, 6])
    @pytest.mark.parametrize("backwards", [False, True])
    def test_pictures_find_their_verdict_in_any_order(
        self, truth: Path, verdict_at: int, backwards: bool
    ) -> None:
        gathering = Gathering(truth)
        verdict, pictures = self.messages()
        order = pictures[::-1] if backwards else pictures
        given: list[Evidence] = []
        for heard in [*order[:verdict_at], verdict, *order[verdict_at:]]:
            taken = gathering.take(heard, time.monotonic_ns())
            if isinstance(taken, PartResult):
                taken = gathering.complete(taken.verdict.result_id)
            if isinstance(taken, Evidence):
                given.append(taken)
        assert [(e.heatmap_jpeg, e.photo_jpeg, e.map_float16, e.high) for e in given] == [
            (b"\0", b"\1", b"\2", 2.0)
        ]
        assert gathering.without_pictures == 0

    def test_what_is_no_verdict_is_refused(self, truth: Path) -> None:
        with pytest.raises(BrokerError, match="not what the topic promises"):
            Gathering(truth).take(Heard("x/inspection/verdict", b'{"outcome": "pass"}', 1, False), 0)


class TestDeliveredOnce:
    def results(self, *part_ids: str, known: bool = True) -> list[PartResult]:
        return [
            PartResult(
                verdict=verdict_about(part_id, fails=False),
                truth=PartTruth(shot=0, part_id=part_id, defect=None, mask=None) if known else None,
                latency_ms=1.0,
            )
            for part_id in part_ids
        ]

    def test_one_verdict_for_each_part(self) -> None:
        assert delivered_once(self.results("a", "b"), 0, made=2, shown=2)

    def test_an_interrupted_run_is_held_to_what_the_daemon_made(self) -> None:
        assert delivered_once(self.results("a", "b"), 0, made=2, shown=None)
        assert not delivered_once(self.results("a", "b"), 0, made=3, shown=None)

    def test_one_that_is_missing_comes_twice_or_is_about_another_part(self) -> None:
        assert not delivered_once(self.results("a"), 0, made=2, shown=2)
        assert not delivered_once(self.results("a"), 0, made=1, shown=2)
        assert not delivered_once(self.results("a", "b"), 1, made=2, shown=2)
        assert not delivered_once(self.results("a", "a"), 0, made=2, shown=2)
        assert not delivered_once(self.results("a", "b", known=False), 0, made=2, shown=2)
        assert not delivered_once(self.results("a", "b"), 0, made=None, shown=2)


class TestPage:
    def test_its_address_is_printed_and_the_page_is_opened_where_that_is_asked(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found: list[tuple[str, bytes]] = []

        def look(page: str) -> None:
            with urllib.request.urlopen(page, timeout=PATIENCE_S) as answer:
                found.append((page, answer.read()))

        monkeypatch.setattr("webbrowser.open", look)
        common = ("--bundle", bundle, "--parts", 3, "--seed", 5)
        result = run(*common, "--open", "--out", tmp_path / "open")
        assert result.exit_code == 0, result.output
        ((page, body),) = found
        assert f"dashboard: {page} in a browser" in result.output
        assert b"verdict-word" in body


class TestLiveTable:
    def test_a_terminal_shows_the_newest_rows_that_fit_beside_the_truth(self) -> None:
        console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20, record=True)
        results = TestDeliveredOnce().results(*(f"plate-{n:05d}" for n in range(30)))
        with TerminalView(console, 30) as view:
            view.started("mosquitto", "127.0.0.1:1883", "http://127.0.0.1:8787/")
            for result in results:
                view.verdict(result)
        shown = console.export_text()
        last = shown[shown.rindex("┏") :]
        assert "plate-00029" in last
        assert "plate-00000" not in last
        assert "good" in last
        assert "30 of 30 agree with the truth" in last
        assert len(last.splitlines()) <= 20


class TestContactSheet:
    def tile(self, seq: int, agrees: bool, grey: int) -> Tile:
        picture = np.full((200, 200, 3), grey, np.uint8)
        return Tile(seq, picture, picture, (f"part {seq}", "fail"), agrees)

    def decoded(self, tiles: list[Tile]) -> np.ndarray:
        sheet = cv2.imdecode(np.frombuffer(contact_sheet(tiles), np.uint8), cv2.IMREAD_COLOR)
        assert sheet is not None
        return np.asarray(sheet)

    def test_a_long_run_leaves_out_none_that_disagrees(self) -> None:
        tiles = [self.tile(seq, seq not in (150, 199), 100) for seq in range(150)]
        tiles += [self.tile(seq, seq not in (150, 199), 250) for seq in range(150, 200)]
        sheet = self.decoded(tiles)
        tile_px = 2 * 200 * 200
        assert int((sheet == 250).all(axis=2).sum()) // tile_px == 2
        assert int((sheet == 100).all(axis=2).sum()) // tile_px == 118

    def test_one_part_is_a_sheet(self) -> None:
        assert self.decoded([self.tile(0, True, 77)]).shape[1] < 450


def test_the_bundle_that_ships_shows_parts_that_it_was_not_trained_on(tmp_path: Path) -> None:
    result = run("--parts", 2, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["train_seed"] is not None


def test_help_has_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "edge-demo --parts 200" in result.stdout
