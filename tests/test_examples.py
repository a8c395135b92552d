from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge.captures import list_captures

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"

RIG = """
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera: {source: simulated, product: plate, seed: 31, defective_share: 0, parts: 5}
bundle: bundles/plate
"""


def collect(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "collect.py"), "rig.yaml", "captures/plate/lot1", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_collecting_twice_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(RIG)
    first = collect(tmp_path, "--count", "2", "--no-wait")
    assert first.returncode == 0, first.stderr
    second = collect(tmp_path, "--label", "dent", "--count", "1", "--no-wait")
    again = collect(tmp_path, "--count", "1", "--no-wait")
    assert (second.returncode, again.returncode) == (0, 0)
    samples = list_captures(tmp_path / "captures" / "plate" / "lot1")
    assert [sample.part_id for sample in samples] == ["dent/000", "good/000", "good/001", "good/002"]
    assert samples[1].frame().depth_unit_m == 0.0001


def test_a_camera_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(
        RIG.replace(
            "source: simulated, product: plate, seed: 31, defective_share: 0, parts: 5", "source: live"
        )
    )
    result = collect(tmp_path, "--no-wait")
    assert result.returncode == 4
    assert "no RealSense" in result.stderr
    assert not (tmp_path / "captures").exists()
