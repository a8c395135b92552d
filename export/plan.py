"""Which stage is exported in which precision: what was asked for, brought to the stages that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import onnx

from edge.bundle import Precision
from edge.errors import ExportError
from export.precision import supports
from train.features import Backbone
from train.stages import Stage

__all__ = ["PrecisionRequest", "parse_precisions", "precisions_of"]

_NAMES: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class PrecisionRequest:
    """`everywhere` for all stages that have it, `by_stage` for those named.

    A distance has nothing that may run in fp16 or int8 and stays fp32, a backbone is not made int8 unless it
    is named: its error goes through all that comes after.
    """

    everywhere: Precision = "fp32"
    by_stage: Mapping[str, Precision] = field(default_factory=dict)


def parse_precisions(text: str) -> PrecisionRequest:
    """`fp16`; `teacher=fp16,student=int8`; or `int8,backbone=fp16`. Raises `ExportError`."""
    everywhere: list[Precision] = []
    by_stage: dict[str, Precision] = {}
    for part in text.split(","):
        stage, named, precision = (word.strip() for word in part.rpartition("="))
        found = next((name for name in _NAMES if name == precision), None)
        if found is None or (named and not stage):
            raise ExportError(
                f"--precision {text!r}: {part.strip()!r} is neither one of {', '.join(_NAMES)} nor "
                "stage=precision, as in teacher=fp16,student=int8"
            )
        if not named:
            everywhere.append(found)
        elif by_stage.setdefault(stage, found) != found:
            raise ExportError(f"--precision {text!r}: {stage!r} stands there twice")
    if len(everywhere) > 1:
        raise ExportError(f"--precision {text!r}: {', '.join(everywhere)} can't all be everywhere; keep one")
    return PrecisionRequest(everywhere[0] if everywhere else "fp32", by_stage)


def precisions_of(
    request: PrecisionRequest, stages: Sequence[Stage], graphs: Mapping[str, onnx.ModelProto]
) -> dict[str, Precision]:
    """The precision of each file; `graphs` are the float32 graphs by file.

    Raises `ExportError` where a stage that is named does not exist, can't run so, or shares its file with
    one that is to be another.
    """
    names = [stage.spec.name for stage in stages]
    unknown = sorted(set(request.by_stage) - set(names))
    if unknown:
        raise ExportError(f"--precision: there is no stage {unknown[0]!r}; there are {', '.join(names)}")
    asked: dict[str, tuple[str, Precision]] = {}
    for stage in stages:
        name, file = stage.spec.name, stage.spec.file
        if name not in request.by_stage:
            continue
        wanted = request.by_stage[name]
        if not supports(graphs[file], wanted):
            raise ExportError(
                f"--precision: nothing in stage {name!r} may run in {wanted}; not named, it stays fp32"
            )
        other, already = asked.setdefault(file, (name, wanted))
        if already != wanted:
            raise ExportError(
                f"--precision: {other!r} and {name!r} run one file, {file}, which can't be {already} and "
                f"{wanted}; give them one precision"
            )
    return {
        stage.spec.file: asked[stage.spec.file][1]
        if stage.spec.file in asked
        else _everywhere(request.everywhere, stage, graphs[stage.spec.file])
        for stage in stages
    }


def _everywhere(precision: Precision, stage: Stage, graph: onnx.ModelProto) -> Precision:
    spared = precision == "int8" and isinstance(stage.module, Backbone)
    return "fp32" if spared or not supports(graph, precision) else precision
