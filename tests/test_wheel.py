"""The wheel, built and used as from an index: it gives the schemas of what it sends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.schemas import schema_files

ROOT = Path(__file__).parents[1]
PATIENCE_S = 300


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("edge", "train", "export"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(folder),
            ".",
        ],
        cwd=source,
        check=True,
        timeout=PATIENCE_S,
    )
    shutil.rmtree(source)
    (built,) = folder.glob("*.whl")
    return built


def test_it_gives_the_schemas_of_its_messages(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    def schemas(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "edge.schemas", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        ).stdout

    assert f"{schemas('--list').split()[0]}.schema.json" in schema_files()
    assert json.loads(schemas("--show", "verdict")) == json.loads(schema_files()["verdict.schema.json"])
    schemas("written")
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "written").iterdir()}
    assert written == schema_files()


def test_what_was_promised_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("edge/frozen_schemas/")}
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "edge" / "frozen_schemas").glob("*.json")}
    assert held == here
