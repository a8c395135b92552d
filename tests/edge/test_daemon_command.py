"""`edge-daemon` as a person or systemd runs it: a whole rig in a process of its own, over a real broker."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edge.broker import LocalBroker, find_mosquitto
from edge.bundle import FileSpec, Manifest, StageSpec, TensorSpec, write_manifest
from edge.calibration_file import write_calibration
from edge.clock import utc_now
from edge.commands.daemon import app
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from edge.quantile import calibrate_by_quantile
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256
from edge.testing import Listener

CELLS = 8
PATIENCE_S = 120

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model says 0.5 wherever there is a part, with a threshold of 1."""
    folder = tmp_path_factory.mktemp("bundle")
    shape = [1, 1, CELLS, CELLS]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["mask", "half"], ["map"])],
        "half",
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, shape)],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    file = folder / "half.onnx"
    onnx.save(model, file)
    digest = write_manifest(
        folder,
        Manifest(
            product="tested",
            method="half",
            preprocessing=Preprocessing(depth_px=64, map_cells=CELLS, framing=FramingConfig(mode="whole")),
            stages=(
                StageSpec(
                    name="half",
                    file=file.name,
                    precision="fp32",
                    inputs={"mask": "mask"},
                    outputs={"map": "anomaly_map"},
                ),
            ),
            tensors={"anomaly_map": TensorSpec(dtype="float32", shape=tuple(shape))},
            score=ScoreSpec(),
            files={file.name: FileSpec(sha256=file_sha256(file), bytes=file.stat().st_size)},
        ),
    )
    write_calibration(
        folder,
        calibrate_by_quantile([1.0], false_reject_rate=0.01, model_sha256=digest, created_utc=utc_now()),
    )
    return folder


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running


def rig_yaml(folder: Path, bundle: Path, port: int, **camera: object) -> Path:
    path = folder / "rig.yaml"
    camera = {"source": "simulated", "product": "blob", "parts": 3, "defective_share": 0.0} | camera
    path.write_text(
        f"""\
rig: {{enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}}
camera: {json.dumps(camera)}
bundle: {json.dumps(str(bundle))}
job_id: "4711"
broker: {{port: {port}}}
daemon: {{state_dir: state, flush_timeout_s: 20, max_frame_age_s: 30}}
""",
        encoding="utf-8",
    )
    return path


def edge_daemon(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge.commands.daemon", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@needs_mosquitto
class TestWholeRig:
    def test_each_part_of_a_simulated_rig_gets_its_verdict(
        self, bundle: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        path = rig_yaml(tmp_path, bundle, broker.port)
        with Listener(broker.host, broker.port) as listener:
            done = edge_daemon(path, "--json")
            assert done.returncode == 0, done.stderr
            verdicts = listener.wait_for("/verdict", lambda heard: len(heard) >= 3)
            listener.wait_for("/heatmap", lambda heard: len(heard) >= 3)
        result = json.loads(done.stdout)
        assert (result["verdicts"], result["acknowledged"]) == (3, 3)
        assert result["outcomes"]["pass"] == 3
        said = [v.json() for v in verdicts]
        assert [(v["seq"], v["outcome"], v["is_simulated"], v["job_id"]) for v in said] == [
            (0, "pass", True, "4711"),
            (1, "pass", True, "4711"),
            (2, "pass", True, "4711"),
        ]
        assert said[0]["epoch"] == int((tmp_path / "state" / "epoch").read_text())
        assert edge_daemon(path).returncode == 0
        assert int((tmp_path / "state" / "epoch").read_text()) > said[0]["epoch"]

    def test_sigterm_ends_an_endless_rig_cleanly(
        self, bundle: Path, broker: LocalBroker, tmp_path: Path
    ) -> None:
        path = rig_yaml(tmp_path, bundle, broker.port, parts=None)
        with (
            Listener(broker.host, broker.port) as listener,
            subprocess.Popen(
                [sys.executable, "-m", "edge.commands.daemon", str(path), "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            listener.wait_for("/verdict", lambda heard: len(heard) >= 2, timeout_s=PATIENCE_S)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, err
            offline = listener.wait_for("/availability", lambda heard: len(heard) >= 2)
            result = json.loads(out)
            assert len(listener.heard("/verdict")) == result["verdicts"] == result["acknowledged"]
        assert offline[-1].json()["reason"] == "stopped"
        assert listener.heard("/state/machine")[-1].json()["state"] == "Halted"

    def test_a_wrong_password_ends_it_with_7_before_the_camera_is_touched(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "password").write_text("wrong")
        with LocalBroker("mosquitto", username="rig", password="right") as guarded:
            path = rig_yaml(tmp_path, bundle, guarded.port)
            text = path.read_text().replace(
                f"port: {guarded.port}", f"port: {guarded.port}, username: rig, password_file: password"
            )
            path.write_text(text)
            done = edge_daemon(path)
        assert done.returncode == 7
        assert "refused the user 'rig'" in done.stderr
        assert "Traceback" not in done.stderr


class TestRefusals:
    def test_a_misspelt_key_is_named_with_file_and_line(self, bundle: Path, tmp_path: Path) -> None:
        path = rig_yaml(tmp_path, bundle, 1883)
        path.write_text(path.read_text().replace("job_id", "jobid"))
        for arguments in ([str(path)], ["--check", str(path)]):
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 3
            assert f'{path}:4: jobid: unknown key (did you mean "job_id"?); allowed: broker,' in result.output

    def test_check_names_all_mistakes_outside_the_file(self, tmp_path: Path) -> None:
        path = rig_yaml(tmp_path, tmp_path / "none", 1883)
        path.write_text(
            path.read_text().replace(
                "port: 1883", "username: u, password_file: nowhere, tls: {ca_file: none.pem}"
            )
        )
        result = CliRunner().invoke(app, ["--check", "--json", str(path)])
        assert result.exit_code == 3
        told = json.loads(result.stdout)
        assert told["ok"] is False
        assert [m for m in told["mistakes"] if "none.pem" in m and "ca_file" in m]
        assert [m for m in told["mistakes"] if "nowhere" in m and "password_file" in m]
        assert [m for m in told["mistakes"] if "no such bundle" in m]

    def test_check_says_that_all_is_well(self, bundle: Path, tmp_path: Path) -> None:
        path = rig_yaml(tmp_path, bundle, 1883)
        result = CliRunner().invoke(app, ["--check", str(path)])
        assert (result.exit_code, "all is well" in result.stdout) == (0, True)
        result = CliRunner().invoke(app, ["--check", "--json", str(path)])
        assert json.loads(result.stdout) == {"ok": True, "mistakes": []}

    def test_a_bundle_with_one_byte_changed_ends_it_with_5(self, bundle: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged"
        shutil.copytree(bundle, damaged)
        data = bytearray((damaged / "half.onnx").read_bytes())
        data[20] ^= 1
        (damaged / "half.onnx").write_bytes(data)
        result = CliRunner().invoke(app, [str(rig_yaml(tmp_path, damaged, 1883))])
        assert result.exit_code == 5
        assert "differs from the sha256" in result.output
        assert not (tmp_path / "state").exists()

    def test_help_has_an_example(self) -> None:
        result = CliRunner().invoke(app, ["--help"])
        assert result.exit_code == 0
        assert "edge-daemon --check rig.yaml" in result.output

    def test_no_file_is_a_wrong_command_line(self) -> None:
        assert CliRunner().invoke(app, []).exit_code == 2
