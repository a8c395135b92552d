"""From the rig to the workstation: what edge-capture keeps is what training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.simulation.rig import RigScene
from tests.line.commands import lines, refused, rig_yaml, run
from train.datasets import DatasetOptions, open_dataset

CAMERA = {"source": "simulated", "product": "plate", "seed": 31, "defective_share": 0.0, "parts": 8}


def test_captured_parts_are_a_data_set(tmp_path: Path) -> None:
    product = tmp_path / "plate"
    rig = rig_yaml(tmp_path, tmp_path / "no-bundle-yet", CAMERA)
    taken = run(
        "edge-capture",
        "--rig",
        rig,
        "--out",
        product / "lot-1",
        "--good",
        "--every",
        0,
        "--count",
        6,
        "--json",
    )
    assert taken.returncode == 0, taken.stderr
    assert lines(taken)[-1]["counts"] == {"good": 6}
    bad = {**CAMERA, "seed": 32, "defective_share": 1.0, "defects": ["scratch"], "parts": 2}
    rig = rig_yaml(tmp_path, tmp_path / "no-bundle-yet", bad)
    taken = run("edge-capture", "--rig", rig, "--out", product / "test-1", "--bad", "scratch", "--every", 0)
    assert taken.returncode == 0, taken.stderr

    data = open_dataset(product, "captures", None, 0.34, DatasetOptions(test_lots="test-*"))
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 2, 2)
    assert {sample.defect for sample in data.test} == {"scratch"}
    scene = RigScene("plate", 31, 8, defective_share=0.0)
    shot, frame = scene.shot(0), data.train[0].frame()
    assert shot is not None
    np.testing.assert_array_equal(frame.rgb, shot.rgb)
    np.testing.assert_array_equal(frame.depth_m, shot.depth_m)

    wrong = run("edge-capture", "--rig", rig, "--out", product / "lot-1", "--good", "--every", 0)
    refused(wrong, 4, "serial is simulated-plate-32 and simulated-plate-31 there", "use a new folder")
