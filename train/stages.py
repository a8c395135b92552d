"""A method as a list of stages: modules wired by the names of tensors, as on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from edge.bundle import StageSpec

__all__ = ["Stage", "rename_tensors", "run_stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A module, what it is wired to, and an example of each of its inputs (in the order of `forward`)."""

    spec: StageSpec
    module: nn.Module
    examples: Mapping[str, Tensor]


def run_stages(stages: Sequence[Stage], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that the stages make of those of a frame, by name; batched along the first axis."""
    values = dict(tensors)
    made: dict[str, Tensor] = {}
    for stage in stages:
        result = stage.module(*(values[stage.spec.inputs[name]] for name in stage.examples))
        (name,) = stage.spec.outputs.values()
        values[name] = made[name] = result
    return made


def rename_tensors(stage: Stage, prefix: str, names: Mapping[str, str]) -> Stage:
    """The same stage under another name, in another file, with its tensors renamed where `names` says so."""
    spec = stage.spec
    return replace(
        stage,
        spec=StageSpec(
            name=f"{prefix}{spec.name}",
            file=f"{prefix}{spec.file}",
            precision=spec.precision,
            inputs={node: names.get(tensor, tensor) for node, tensor in spec.inputs.items()},
            outputs={node: names.get(tensor, tensor) for node, tensor in spec.outputs.items()},
        ),
    )
