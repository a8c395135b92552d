"""docs/symptoms.md knows every reason that the rig can give."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from edge import errors
from edge.promise_messages import PromiseWarning
from edge.reasons import reason_of
from edge.scene.health import SceneReason
from edge.score_messages import ScoreWarning

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "symptoms.md").read_text(encoding="utf-8")
KNOWN = set(re.findall(r"`([a-z_]+)`", PAGE))
GIVERS = {"Failure": 0, "_undecided": 2, "_failed": 2, "error_verdict": 0, "_refused": 0, "Reply": 1}
"""What makes a reason, and which of its arguments that is."""

NOT_SAID = {"camera_away"}
"""Its cause is told instead."""


def _calls() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "edge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = GIVERS.get(name)
            if place is None or len(node.args) <= place:
                continue
            argument = node.args[place]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield str(path.relative_to(ROOT)), argument.value


def _camera_errors(base: type[errors.EdgeError] = errors.CameraError) -> Iterator[str]:
    yield reason_of(base(""))
    for kind in base.__subclasses__():
        yield from _camera_errors(kind)


def test_every_reason_of_a_verdict_is_explained() -> None:
    said = list(_calls())
    assert {"no_part", "overrun", "not_kept"} <= {reason for _, reason in said}
    assert [(path, reason) for path, reason in said if reason not in KNOWN] == []


def test_every_reason_of_a_refused_command_is_explained() -> None:
    section = PAGE.partition("## A command that is refused")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`([a-z_]+)`", section))
    said = {reason for path, reason in _calls() if "order" in path}
    assert {"malformed", "expired", "not_by_command"} <= said
    assert said - explained == set()


def test_every_reason_of_the_camera_is_explained() -> None:
    reasons = set(_camera_errors())
    assert "camera_frozen" in reasons
    assert reasons - KNOWN - NOT_SAID == set()


@pytest.mark.parametrize(
    "reason", [*(r.value for r in SceneReason), *get_args(ScoreWarning), *get_args(PromiseWarning)]
)
def test_every_warning_of_scene_scores_and_promise_is_explained(reason: str) -> None:
    assert reason in KNOWN
