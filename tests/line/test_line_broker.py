"""From a folder of images to the broker, as an outsider sees it: mosquitto's own subscriber."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import pytest
from typing_extensions import Self

from edge.broker import LocalBroker
from edge.mvtec3d import list_category
from tests.line.category import HEIGHT_PX, TEST_PARTS, WIDTH_PX
from tests.line.commands import needs_mosquitto, rig_yaml, run, validator
from tests.tiny_bundle import make_tiny_bundle

ROOT = "acme/dresden/assembly/line-3/cell-2/inspection"
HOST = "127.0.0.1"
BEGIN, END = "test/begin", "test/end"
PATIENCE_S = 60.0


class Outsider:
    """`mosquitto_sub` on one topic, and what it prints between two messages of the test's own.

    The first, retained, arrives when the subscription stands; the last when all before it has.
    """

    def __init__(self, folder: Path, port: int, topic: str, *options: str) -> None:
        self._port, self._topic = port, topic
        self._said = folder / f"{topic.replace('/', '-')}.txt"
        topics = [argument for name in (topic, END, BEGIN) for argument in ("-t", name)]
        self._command = ["mosquitto_sub", "-h", HOST, "-p", str(port), "-q", "1", *topics, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._publish(BEGIN, "-r")
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=subprocess.STDOUT)
        try:
            self._wait_for(BEGIN)
        except AssertionError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def payloads(self) -> list[bytes]:
        """What was printed behind the topic's name, once the broker has delivered all that it has."""
        self._publish(END)
        self._wait_for(END)
        start = f"{self._topic} ".encode()
        return [line.removeprefix(start) for line in self._lines() if line.startswith(start)]

    def _publish(self, topic: str, *options: str) -> None:
        command = ["mosquitto_pub", "-h", HOST, "-p", str(self._port), "-q", "1", "-t", topic, "-m", "00"]
        subprocess.run([*command, *options], check=True, timeout=PATIENCE_S)

    def _lines(self) -> list[bytes]:
        return self._said.read_bytes().split(b"\n")

    def _wait_for(self, topic: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not any(line.startswith(topic.encode()) for line in self._lines()):
            assert time.monotonic() < end_s, f"no {topic}: {self._said.read_bytes()[-2000:]!r}"
            time.sleep(0.02)


def judge_all(
    folder: Path, bundle: Path, camera: dict[str, object], port: int
) -> tuple[list[dict[str, object]], list[dict[str, object]], list[np.ndarray]]:
    """Run the daemon to its camera's end; verdicts, heatmap infos and heatmaps as the outsider got them."""
    path = rig_yaml(folder, bundle, camera, port)
    with (
        Outsider(folder, port, f"{ROOT}/verdict", "-v") as verdicts,
        Outsider(folder, port, f"{ROOT}/heatmap/info", "-v") as infos,
        Outsider(folder, port, f"{ROOT}/heatmap", "-F", "%t %x") as heatmaps,
    ):
        done = run("edge-daemon", path, "--json")
        assert done.returncode == 0, done.stderr
        said = [json.loads(payload) for payload in verdicts.payloads()]
        told = [json.loads(payload) for payload in infos.payloads()]
        shown = [bytes.fromhex(payload.decode()) for payload in heatmaps.payloads()]
    result = json.loads(done.stdout)
    assert result["verdicts"] == result["acknowledged"] == len(said)
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in shown]
    return said, told, images


def check(
    verdicts: list[dict[str, object]],
    infos: list[dict[str, object]],
    heatmaps: list[np.ndarray],
    parts: list[str],
    size: tuple[int, int],
) -> None:
    """One valid verdict for each part, in order, and one heatmap of the frame's size for each verdict."""
    for verdict in verdicts:
        validator("verdict").validate(verdict)
    for info in infos:
        validator("picture_info").validate(info)
    assert [verdict["part_id"] for verdict in verdicts] == parts
    assert [verdict["seq"] for verdict in verdicts] == list(range(len(parts)))
    assert {verdict["outcome"] for verdict in verdicts} <= {"pass", "fail"}
    assert [info["result_id"] for info in infos] == [verdict["result_id"] for verdict in verdicts]
    assert len({verdict["result_id"] for verdict in verdicts}) == len(parts)
    assert [None if image is None else image.shape for image in heatmaps] == [(*size, 3)] * len(parts)


@needs_mosquitto
class TestFolderOnTheBroker:
    @pytest.mark.parametrize("inside", ["", "test"])
    def test_every_part_of_a_test_split_gets_a_verdict_and_a_heatmap(
        self, bundle: Path, category: Path, broker: LocalBroker, tmp_path: Path, inside: str
    ) -> None:
        camera: dict[str, object] = {"source": "folder", "path": str(category / inside)}
        verdicts, infos, heatmaps = judge_all(tmp_path, bundle, camera, broker.port)
        parts = [sample.part_id for sample in list_category(category, "test")]
        assert len(parts) == TEST_PARTS
        check(verdicts, infos, heatmaps, parts, (HEIGHT_PX, WIDTH_PX))
        assert {verdict["outcome"] for verdict in verdicts} == {"pass", "fail"}

    @pytest.mark.sample
    def test_the_28_test_parts_of_the_real_sample(
        self, sample_category: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle", product="cable_gland")
        camera: dict[str, object] = {"source": "folder", "path": str(sample_category / "test")}
        verdicts, infos, heatmaps = judge_all(tmp_path, bundle, camera, broker.port)
        samples = list_category(sample_category, "test")
        optics = samples[0].intrinsics
        check(verdicts, infos, heatmaps, [s.part_id for s in samples], (optics.height_px, optics.width_px))
        assert len(verdicts) == 28
