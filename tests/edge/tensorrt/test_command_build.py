"""`edge-build`, on a pretend machine with TensorRT and on this one without."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from edge.archive import pack_bundle
from edge.commands import build
from tests.edge.tensorrt.pretending import Machine, machine
from tests.tiny_bundle import make_tiny_bundle

RIG = {"enterprise": "acme", "site": "here", "area": "a", "line": "l", "cell": "c"}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with machine() as made:
        monkeypatch.setattr(build, "load_tensorrt", lambda: made.trt)
        monkeypatch.setattr(build, "this_gpu", lambda: made.gpu)
        yield made
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def rig_yaml(path: Path, bundle: Path, **more: object) -> Path:
    rig = {"rig": RIG, "camera": {"source": "folder", "path": "."}, "bundle": str(bundle), **more}
    path.write_text(yaml.safe_dump(rig))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build.app, [str(argument) for argument in arguments])


def report(result: Result) -> build.BuildReport:
    assert result.exit_code == 0, result.output
    return build.BuildReport.model_validate_json(result.stdout)


def test_builds_says_so_and_the_second_time_finds_them(there: Machine, bundle: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", bundle, "--engines", tmp_path / "engines")
    first = report(run(*arguments, "--json"))
    assert [stage.cached for stage in first.stages] == [False] * 3
    assert all(stage.plan.stat().st_size == stage.plan_bytes for stage in first.stages)
    assert first.engines_dir == tmp_path / "engines"
    second = report(run(*arguments, "--json"))
    assert [stage.cached for stage in second.stages] == [True] * 3
    assert [stage.build_s for stage in second.stages] == [stage.build_s for stage in first.stages]
    assert there.pretend.made["build"] == 3
    shown = run(*arguments)
    assert shown.exit_code == 0
    assert shown.stdout.count("was there") == 3
    assert str(tmp_path / "engines") in shown.stdout.replace("\n", "")


def test_force_builds_anew(there: Machine, bundle: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", bundle, "--engines", tmp_path / "engines", "--json")
    run(*arguments)
    assert [stage.cached for stage in report(run(*arguments, "--force")).stages] == [False] * 3
    assert there.pretend.made["build"] == 6


def test_the_rig_says_how(there: Machine, bundle: Path, tmp_path: Path) -> None:
    runtime = {"backend": "tensorrt", "engines_dir": "here", "workspace_mb": 64, "dla_stages": ["shape"]}
    rig = rig_yaml(tmp_path / "rig.yaml", bundle, runtime=runtime)
    made = report(run("--config", rig, "--json"))
    assert made.engines_dir == tmp_path / "here"
    keys = {
        stage.stage: json.loads(stage.plan.with_suffix(".json").read_text())["key"]["options"]
        for stage in made.stages
    }
    assert {options["workspace_mb"] for options in keys.values()} == {64}
    assert {name: options["dla_core"] for name, options in keys.items()} == {
        "colour": None,
        "shape": 0,
        "distance": None,
    }


def test_prune_keeps_the_rigs_own(there: Machine, bundle: Path, tmp_path: Path) -> None:
    rig = rig_yaml(tmp_path / "rig.yaml", bundle, runtime={"backend": "tensorrt", "engines_dir": "engines"})
    old = make_tiny_bundle(tmp_path / "old", colour=(0.9, 0.9, 0.9))
    new = make_tiny_bundle(tmp_path / "new", colour=(0.1, 0.1, 0.1))
    report(run("--config", rig, "--bundle", old, "--json"))
    made = report(run("--config", rig, "--bundle", new, "--prune", "--json"))
    assert {stage.bundle for stage in made.stages} == {new, bundle}
    assert len(made.pruned) == 1  # of the old bundle's graphs only `colour` is not shared
    assert not made.pruned[0].exists()
    assert all(stage.plan.exists() for stage in made.stages)


def test_a_zip_is_unpacked_first(there: Machine, bundle: Path, tmp_path: Path) -> None:
    pack_bundle(bundle, tmp_path / "b.zip")
    made = report(
        run("--bundle", tmp_path / "b.zip", "--into", tmp_path / "new", "--engines", tmp_path / "e", "--json")
    )
    assert {stage.bundle for stage in made.stages} == {tmp_path / "new"}
    assert (tmp_path / "new" / "manifest.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 3, "give --bundle, or --config"),
        (("--bundle", "b.zip"), 3, "given are 1 .zip files and no --into"),
        (("--bundle", "bundle", "--into", "new"), 3, "given are 0 .zip files and --into"),
        (("--bundle", "none"), 5, "no such bundle"),
        (("--config", "none.yaml"), 3, "none.yaml: can't be read"),
        (("--config", "onnx.yaml"), 3, "runtime.backend is onnx, which needs no engines"),
        (("--config", "dla.yaml"), 3, "the bundle .* has no stage pupil; it has colour, shape, distance"),
        (("--config", "wrong.yaml"), 3, "wrong.yaml:.*runtime.workspace_gb: unknown key"),
    ],
)
def test_what_is_wrong_is_said(  # noqa: PLR0917  # three of them are fixtures
    arguments: tuple[str, ...],
    code: int,
    said: str,
    there: Machine,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pack_bundle(bundle, tmp_path / "b.zip")
    rig_yaml(tmp_path / "onnx.yaml", bundle)
    rig_yaml(tmp_path / "dla.yaml", bundle, runtime={"backend": "tensorrt", "dla_stages": ["pupil"]})
    rig_yaml(tmp_path / "wrong.yaml", bundle, runtime={"backend": "tensorrt", "workspace_gb": 1})
    with pytest.raises(SystemExit) as ended:
        build.app([*arguments])
    assert ended.value.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(said, captured.err)
    assert "Traceback" not in captured.err
    assert there.pretend.made["build"] == 0


def test_where_there_is_no_tensorrt(bundle: Path) -> None:
    script = "import sys; sys.modules['tensorrt'] = None; from edge.commands.build import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--bundle", str(bundle), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 6
    assert done.stdout == ""
    assert "error: TensorRT is not installed" in done.stderr
    assert "Traceback" not in done.stderr
