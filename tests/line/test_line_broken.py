"""Broken on purpose: each command says what is wrong, ends with its code, and leaves nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.broker import LocalBroker
from edge.camera.config import SimulatedCamera
from edge.camera.factory import source_from_config
from edge.camera.recorder import sidecar_path
from edge.captures import CaptureInfo, IntrinsicsInfo, write_capture, write_capture_info
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import RigScene
from edge.testing import Listener
from tests.line.commands import gone, lines, needs_mosquitto, refused, rig_yaml, run, validator
from tests.tiny_bundle import make_tiny_bundle

PARTS = 3


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of three simulated plates, with its sidecar."""
    path = tmp_path_factory.mktemp("line-recording") / "plates.db3"
    with source_from_config(
        SimulatedCamera(product="plate", seed=5, parts=PARTS, record_to=path)
    ) as simulated:
        assert len(list(simulated)) == PARTS
    return path


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures: a good part, the same without any depth, and the tray without a part."""
    folder = tmp_path_factory.mktemp("line-awkward") / "lot"
    scene = RigScene("plate", 41, defective_share=0.0, width_px=320, height_px=240)
    info = CaptureInfo(depth_unit_m=scene.depth_unit_m, intrinsics=IntrinsicsInfo.of(scene.intrinsics))
    write_capture_info(folder, info)
    for shot in (scene.shot(0), scene.shot(0), scene.tray(2)):
        assert shot is not None
        write_capture(folder, "good", frame_from_shot(scene, 0, shot))
    depth = folder / "good" / "001.depth.png"
    assert cv2.imwrite(str(depth), np.zeros((240, 320), np.uint16))
    return folder


def one_byte_changed(folder: Path) -> Path:
    bundle = make_tiny_bundle(folder)
    data = bytearray((bundle / "shape.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "shape.onnx").write_bytes(data)
    return bundle


def tensor_that_nobody_gives(folder: Path) -> Path:
    return make_tiny_bundle(folder, broken="unknown_tensor")


class TestBundle:
    @pytest.mark.parametrize(
        ("broken", "words"),
        [
            (one_byte_changed, ("shape.onnx", "differs from the sha256", "export it anew")),
            (tensor_that_nobody_gives, ("'colour'", "'infrared', which nobody gives", "the device offers")),
        ],
    )
    def test_no_command_of_the_device_runs_it(
        self, captures: Path, tmp_path: Path, broken: Callable[[Path], Path], words: tuple[str, ...]
    ) -> None:
        bundle = broken(tmp_path / "bundle")
        rig = rig_yaml(tmp_path, bundle, {"source": "folder", "path": str(captures / "test")})
        before = sorted(tmp_path.rglob("*"))
        inspected = run("edge-inspect", bundle, captures / "test", "--out", tmp_path / "out", "--json")
        refused(inspected, 5, *words)
        refused(run("edge-daemon", rig, "--json"), 5, *words)
        assert inspected.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before


class TestRecording:
    @pytest.mark.parametrize("sidecar", [True, False])
    @needs_mosquitto
    def test_bits_flipped_in_the_middle(
        self, bundle: Path, recording: Path, broker: LocalBroker, tmp_path: Path, sidecar: bool
    ) -> None:
        path = tmp_path / "damaged.db3"
        data = bytearray(recording.read_bytes())
        for place in range(len(data) // 2, len(data) // 2 + 8):
            data[place] ^= 0xFF
        path.write_bytes(data)
        if sidecar:
            shutil.copy(sidecar_path(recording), sidecar_path(path))
        done = run("edge-inspect", bundle, path, "--out", tmp_path / "out", "--json")
        refused(done, 4, "damaged.db3")
        assert done.stdout == ""
        assert not (tmp_path / "out").exists()
        rig = rig_yaml(tmp_path, bundle, {"source": "recording", "path": str(path)}, broker.port)
        with Listener(broker.host, broker.port) as listener:
            refused(run("edge-daemon", rig), 4, "damaged.db3")
            listener.wait_for("/availability", gone)
            assert listener.heard("/verdict") == []
            last = listener.heard("/state/machine")[-1].json()
        assert (last["state"], last["reason"]) == ("Halted", "recording_corrupt")


class TestDepthOfAnotherSize:
    def test_captures_are_refused_before_the_first_part(
        self, bundle: Path, captures: Path, tmp_path: Path
    ) -> None:
        lot = tmp_path / "lot"
        shutil.copytree(captures / "test", lot)
        victim = sorted(lot.glob("*/*.depth.png"))[-1]
        assert cv2.imwrite(str(victim), cv2.imread(str(victim), cv2.IMREAD_UNCHANGED)[::2, ::2])
        done = run("edge-inspect", bundle, lot, "--out", tmp_path / "out", "--json")
        refused(done, 4, str(victim), "160×120", "320×240")
        assert (done.stdout, (tmp_path / "out").exists()) == ("", False)

    @needs_mosquitto
    def test_parts_before_it_keep_their_verdicts(
        self, bundle: Path, category: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        copied = tmp_path / "plate"
        shutil.copytree(category, copied)
        victim = copied / "test" / "foreign_other" / "xyz" / "002.tiff"
        xyz = cv2.imread(str(victim), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(victim), xyz[:-1])
        done = run("edge-inspect", bundle, copied, "--out", tmp_path / "out", "--json")
        refused(done, 4, str(victim), "320×239", "320×240")
        assert [line["part"] for line in lines(done)] == ["foreign_other/000", "foreign_other/001"]
        assert not (tmp_path / "out").exists()
        rig = rig_yaml(tmp_path, bundle, {"source": "folder", "path": str(copied)}, broker.port)
        with Listener(broker.host, broker.port) as listener:
            refused(run("edge-daemon", rig), 4, str(victim))
            listener.wait_for("/availability", gone)
            verdicts = [heard.json() for heard in listener.heard("/verdict")]
            last = listener.heard("/state/machine")[-1].json()
        assert [verdict["part_id"] for verdict in verdicts] == ["foreign_other/000", "foreign_other/001"]
        assert (last["state"], last["reason"]) == ("Halted", "capture_error")

    def test_a_split_is_not_another_split(self, bundle: Path, category: Path) -> None:
        done = run("edge-inspect", bundle, category / "test", "--split", "train")
        refused(done, 4, "is not the split 'train'")


class TestConfiguration:
    def test_a_misspelt_key_is_named_with_its_file_its_line_and_what_is_allowed(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        rig = rig_yaml(tmp_path, bundle, {"source": "simulated", "product": "plate", "partz": 3})
        words = (
            f"{rig}:2: camera.partz: unknown key",
            'did you mean "parts"?',
            "allowed: ",
            "defective_share",
        )
        refused(run("edge-daemon", rig), 3, *words)
        checked = run("edge-daemon", "--check", rig)
        assert checked.returncode == 3
        assert all(word in checked.stderr for word in words), checked.stderr
        assert list(tmp_path.iterdir()) == [rig]


class TestBroker:
    @needs_mosquitto
    def test_a_refused_password_ends_it_before_the_camera_is_touched(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "password").write_text("wrong\n")
        camera = {
            "source": "simulated",
            "product": "plate",
            "parts": 1,
            "truth_to": str(tmp_path / "truth"),
            "record_to": str(tmp_path / "recording.db3"),
        }
        with LocalBroker("mosquitto", username="rig", password="right") as guarded:
            rig = rig_yaml(
                tmp_path, bundle, camera, guarded.port, more=", username: rig, password_file: password"
            )
            done = run("edge-daemon", rig, "--json")
        refused(done, 7, "refused the user 'rig'")
        assert done.stdout == ""
        assert "wrong" not in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["password", "rig.yaml", "state"]


class TestCamera:
    @needs_mosquitto
    def test_no_camera_is_found_missing_by_asking_and_not_by_waiting(
        self, bundle: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        """librealsense's own `start` would wait for one to be plugged in, and end with another message."""
        camera = {"source": "live", "serial": "none-has-this", "record_to": str(tmp_path / "live.db3")}
        rig = rig_yaml(tmp_path, bundle, camera, broker.port)
        with Listener(broker.host, broker.port) as listener:
            refused(run("edge-daemon", rig), 4, "no RealSense ", "plug")
            listener.wait_for("/availability", gone)
            assert listener.heard("/verdict") == []
            last = listener.heard("/state/machine")[-1].json()
        assert (last["state"], last["reason"]) == ("Halted", "camera_not_found")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["rig.yaml", "state"]


class TestNoDecision:
    EXPECTED = (
        ("good/000", "pass", None),
        ("good/001", "no_decision", "depth_invalid"),
        ("good/002", "no_decision", "no_part"),
    )

    def test_edge_inspect_passes_nothing_that_it_can_not_see(self, awkward: Path, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle", threshold=1e6)
        done = run("edge-inspect", bundle, awkward, "--json")
        assert done.returncode == 21, done.stderr
        said = lines(done)
        assert tuple((line["part"], line["outcome"], line["reason"]) for line in said) == self.EXPECTED
        assert [line["score"] is None for line in said] == [False, True, True]

    @needs_mosquitto
    def test_neither_does_the_daemon_and_it_goes_on(
        self, awkward: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle", threshold=1e6)
        rig = rig_yaml(tmp_path, bundle, {"source": "folder", "path": str(awkward)}, broker.port)
        with Listener(broker.host, broker.port) as listener:
            done = run("edge-daemon", rig)
            assert done.returncode == 0, done.stderr
            listener.wait_for("/availability", gone)
            verdicts = [heard.json() for heard in listener.heard("/verdict")]
            pictures = listener.wait_for("/image/rgb", lambda heard: len(heard) == len(self.EXPECTED))
            heatmaps = listener.heard("/heatmap")
        assert tuple((v["part_id"], v["outcome"], v["reason"]) for v in verdicts) == self.EXPECTED
        assert [v["score"] is None for v in verdicts] == [False, True, True]
        for verdict in verdicts:
            validator("verdict").validate(verdict)
        assert (len(pictures), len(heatmaps)) == (len(self.EXPECTED), 1)

    @needs_mosquitto
    def test_empty_trays_of_the_simulated_rig_are_no_parts(self, broker: LocalBroker, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle", threshold=1e6)
        camera = {"source": "simulated", "product": "plate", "parts": PARTS, "empty_share": 1.0}
        with Listener(broker.host, broker.port) as listener:
            done = run("edge-daemon", rig_yaml(tmp_path, bundle, camera, broker.port))
            assert done.returncode == 0, done.stderr
            verdicts = [v.json() for v in listener.wait_for("/verdict", lambda heard: len(heard) == PARTS)]
        assert {(v["outcome"], v["reason"]) for v in verdicts} == {("no_decision", "no_part")}
