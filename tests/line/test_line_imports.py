"""What the device's commands load while they work, not only when imported: nothing of the workstation."""

from __future__ import annotations

from pathlib import Path

from edge.broker import LocalBroker
from tests.line.commands import needs_mosquitto, rig_yaml, run

WORKSTATION = {
    "torch",
    "torchvision",
    "timm",
    "FrEIA",
    "sklearn",
    "onnx",
    "onnxscript",
    "safetensors",
    "train",
    "export",
}
TELL = {"PYTHONPROFILEIMPORTTIME": "1"}


def loaded(stderr: str) -> set[str]:
    """The top-level names of all modules that Python says it imported."""
    told = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in told}


def test_edge_inspect_works_without_the_workstations_packages(bundle: Path, captures: Path) -> None:
    done = run("edge-inspect", bundle, captures / "test", "--json", env=TELL)
    assert done.returncode == 20, done.stderr[-2000:]
    names = loaded(done.stderr)
    assert {"edge", "onnxruntime", "cv2"} <= names
    assert names & WORKSTATION == set()


@needs_mosquitto
def test_so_does_edge_daemon(bundle: Path, broker: LocalBroker, tmp_path: Path) -> None:
    camera = {"source": "simulated", "product": "plate", "parts": 1}
    done = run("edge-daemon", rig_yaml(tmp_path, bundle, camera, broker.port), env=TELL)
    assert done.returncode == 0, done.stderr[-2000:]
    names = loaded(done.stderr)
    assert {"edge", "onnxruntime", "pyrealsense2", "paho"} <= names
    assert names & WORKSTATION == set()
