"""`edge-doctor` as a person runs it, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from edge.bundle import load_bundle
from edge.calibration_store import CalibrationStore
from edge.commands.doctor import FOUND_ERRORS
from edge.demo.rig import packaged_bundle
from edge.doctor.report import Finding, Level, Report
from tests.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).parents[3]
PATIENCE_S = 300

RIG = """\
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera: {source: simulated, product: plate}
bundle: bundle
broker: {port: 1}
daemon: {state_dir: state}
"""


def edge_doctor(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge.commands.doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def by_check(report: Report) -> dict[tuple[str, str], Level]:
    return {(finding.subject, finding.check): finding.level for finding in report.findings}


def test_this_machine_and_the_demos_bundle() -> None:
    done = edge_doctor("--bundle", packaged_bundle(), "--selftest", "--json")
    schema = json.loads((ROOT / "docs/schemas/doctor.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(done.stdout), schema)
    report = Report.model_validate_json(done.stdout)
    assert report.selftest is not None
    assert report.selftest.passed
    levels = by_check(report)
    assert levels["selftest", "samples"] is Level.OK
    assert levels["packages", "versions"] is Level.OK
    assert levels["camera", "librealsense"] is Level.OK
    assert ("packages", "import") not in levels
    assert done.returncode == (FOUND_ERRORS if Level.ERROR in levels.values() else 0)


def test_a_whole_rig_of_which_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(
        """\
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera: {source: simulated, product: plate}
bundle: missing
broker: {port: 1}
daemon: {state_dir: state}
""",
        encoding="utf-8",
    )
    done = edge_doctor("--config", tmp_path / "rig.yaml", "--selftest", "--json")
    assert done.returncode == FOUND_ERRORS
    levels = by_check(Report.model_validate_json(done.stdout))
    assert levels["config", "config"] is Level.OK
    wrong = {name for name, level in levels.items() if level is Level.ERROR}
    assert {("bundle", "bundle"), ("broker", "port"), ("selftest", "bundle")} <= wrong
    assert levels["disk", "writable"] is Level.OK
    assert [path.name for path in tmp_path.iterdir()] == ["rig.yaml"]


def test_a_rig_with_a_mistake_is_one_finding_among_others(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", threshold=None)
    (tmp_path / "rig.yaml").write_text("rig: {enterprise: acme}\n", encoding="utf-8")
    done = edge_doctor("--config", tmp_path / "rig.yaml", "--bundle", bundle)
    assert done.returncode == FOUND_ERRORS
    assert "rig.yaml:1" in done.stdout.replace("\n", "").replace(" ", "")
    assert "It is not calibrated" in " ".join(done.stdout.split())


def test_tensorrt_that_is_not_there_is_an_error_where_it_is_wanted() -> None:
    pytest.importorskip("edge.runtime.tensorrt")
    done = edge_doctor("--bundle", packaged_bundle(), "--backend", "tensorrt", "--selftest", "--json")
    report = Report.model_validate_json(done.stdout)
    if by_check(report)["gpu", "tensorrt"] is Level.OK:
        pytest.skip("TensorRT is installed")
    assert done.returncode == FOUND_ERRORS
    assert report.selftest is None
    assert by_check(report)["selftest", "load"] is Level.ERROR


def test_it_starts_without_what_may_be_broken() -> None:
    script = (
        "import sys, edge.commands.doctor\n"
        "heavy = ('numpy', 'cv2', 'scipy', 'onnxruntime', 'paho', 'cryptography', 'pyrealsense2')\n"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip() == ""


def test_an_install_that_is_not_whole_is_told_on_the_page() -> None:
    script = "import sys; sys.modules['cryptography'] = None\nfrom edge.commands.doctor import main\nmain()"
    command = [sys.executable, "-c", script, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == FOUND_ERRORS
    assert "Traceback" not in done.stderr
    report = Report.model_validate_json(done.stdout)
    (found,) = (finding for finding in report.findings if finding.check == "install")
    assert found.level is Level.ERROR
    assert "cryptography" in found.what
    assert by_check(report)["packages", "versions"] is Level.OK


def test_a_rig_is_looked_at_without_what_runs_its_model(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "rig.yaml").write_text(RIG, encoding="utf-8")
    script = "import sys; sys.modules['onnxruntime'] = None\nfrom edge.commands.doctor import main\nmain()"
    command = [sys.executable, "-c", script, "--config", str(tmp_path / "rig.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == FOUND_ERRORS
    report = Report.model_validate_json(done.stdout)
    levels = by_check(report)
    assert levels["bundle", "bundle"] is Level.OK  # the rest is looked at all the same
    (found,) = (one for one in report.findings if (one.subject, one.check) == ("bundle", "calibration"))
    assert found.level is Level.ERROR
    assert "can't be told" in found.what
    assert "onnxruntime" in found.what


def test_the_calibration_that_the_rig_judges_by_is_shown(tmp_path: Path) -> None:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "bundle"))
    assert bundle.calibration is not None
    (tmp_path / "rig.yaml").write_text(RIG, encoding="utf-8")

    def shown() -> Finding:
        done = edge_doctor("--config", tmp_path / "rig.yaml", "--json")
        findings = Report.model_validate_json(done.stdout).findings
        return next(one for one in findings if (one.subject, one.check) == ("bundle", "calibration"))

    before = shown()
    assert before.details["calibration_id"] == bundle.calibration.calibration_id
    assert before.details["source"] == "the bundle"
    kept = bundle.calibration.model_copy(
        update={
            "version": 2,
            "calibration_id": "c2",
            "threshold": 0.75,
            "method": "conformal",
            "provisional": False,
            "false_reject_rate": 0.05,
            "confidence": 0.95,
        }
    )
    CalibrationStore(tmp_path / "state").add(kept)
    now = shown()
    assert now.level is Level.OK
    assert now.details["calibration_id"] == "c2"
    assert (now.details["version"], now.details["threshold"]) == (2, 0.75)
    assert "at most 5 % of good parts are rejected, with 95 % confidence" in now.what
    (path,) = (tmp_path / "state/calibrations").glob("*/000002.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("0.75", "0.95"), encoding="utf-8")
    damaged = shown()
    assert damaged.level is Level.ERROR
    assert damaged.details["error"] == "CalibrationDamaged"
    assert "Put the file back from a copy" in damaged.what
