"""The project's commands, run as a person runs them, and what may be said of one that ends with an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.broker import find_mosquitto
from edge.testing import Heard

__all__ = ["gone", "lines", "needs_mosquitto", "refused", "rig_yaml", "run", "validator"]

PATIENCE_S = 240
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


def run(
    name: str, *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The installed command `name`, to its end, in a process of its own."""
    program = Path(sys.executable).parent / name
    assert program.is_file(), f"{program}: is not installed; pip install -e '.[dev]'"
    return subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON objects of stdout, one a line, and nothing else."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def gone(heard: list[Heard]) -> bool:
    """Whether a rig has said that it goes: the last message of its verdicts' connection."""
    return bool(heard) and heard[-1].json()["state"] == "offline"


def refused(done: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    """That the command ended with this code and told why on stderr, without a traceback."""
    assert done.returncode == exit_code, done.stderr + done.stdout
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def rig_yaml(folder: Path, bundle: Path, camera: Mapping[str, object], port: int = 1, more: str = "") -> Path:
    """A rig's configuration; without `port` there is no broker at its address."""
    path = folder / "rig.yaml"
    path.write_text(
        f"""\
rig: {{enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}}
camera: {json.dumps(dict(camera))}
bundle: {json.dumps(str(bundle))}
broker: {{port: {port}{more}}}
daemon: {{state_dir: state, flush_timeout_s: 60, max_frame_age_s: 60}}
""",
        encoding="utf-8",
    )
    return path


def validator(name: str) -> jsonschema.Draft202012Validator:
    """The published schema of a message."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
