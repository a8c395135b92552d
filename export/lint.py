"""Whether a stage's graph is one that TensorRT builds, before anyone waits for it on a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from pydantic import BaseModel, ConfigDict

from edge.bundle import Bundle
from edge.errors import LintFailed
from export.graph_view import view_of
from export.lint_rules import RULES
from export.operators import operator_table

__all__ = ["Finding", "lint_bundle", "lint_file", "lint_model", "refuse_errors"]


class Finding(BaseModel):
    """What is wrong with a graph: where, by which rule, and how to mend it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["error", "warning"]
    file: str
    node: str | None
    rule: str
    message: str
    mend: str

    def __str__(self) -> str:
        place = self.file if self.node is None else f"{self.file}, {self.node}"
        return f"{place}: {self.message}; {self.mend} [{self.rule}]"


def lint_model(model: onnx.ModelProto, file: str) -> tuple[Finding, ...]:
    """All that the rules find in a model; `file` is its name."""
    view, table = view_of(model), operator_table()
    return tuple(
        Finding(
            severity=found.severity,
            file=file,
            node=None if found.node is None else _place(model, found.node),
            rule=name,
            message=found.message,
            mend=found.mend,
        )
        for name, rule in RULES.items()
        for found in rule(view, table)
    )


def lint_file(path: Path) -> tuple[Finding, ...]:
    """The same for an .onnx file; raises `LintFailed` where it is none."""
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise LintFailed(f"{path}: can't be read ({error.strerror}); check the path") from error
    except DecodeError as error:
        raise LintFailed(f"{path}: is not an ONNX file ({error}); export it anew") from error
    if not model.graph.node:
        raise LintFailed(f"{path}: is not an ONNX file, or an empty one; export it anew")
    return lint_model(model, path.name)


def lint_bundle(bundle: Bundle) -> tuple[Finding, ...]:
    """The same for each file that a stage of the bundle runs, each once."""
    files = dict.fromkeys(stage.file for stage in bundle.manifest.stages)
    return tuple(
        finding.model_copy(update={"file": file})
        for file in files
        for finding in lint_file(bundle.path / file)
    )


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raises `LintFailed` where one of the findings is an error."""
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise LintFailed(f"TensorRT could not build this, {len(errors)} errors:\n" + "\n".join(errors))


def _place(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """A node's operator and name, or where it stands if it has none."""
    if node.name:
        return f"{node.op_type} {node.name!r}"
    number = next(place for place, other in enumerate(model.graph.node) if other is node or other == node)
    return f"{node.op_type} #{number}"
