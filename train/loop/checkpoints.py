"""What an unfinished run keeps on disk: for each phase the network, Adam's state, and the curve so far.

::

    <run>/checkpoint/
      teacher.safetensors      finished: weights and curve
      student.safetensors      under way: Adam's state as well, and what early stopping knows

The data's order needs no state: it follows from the seed and the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge.errors import TrainingError

__all__ = [
    "CHECKPOINT_FOLDER",
    "Checkpoints",
    "PhaseState",
    "adam_from_tensors",
    "adam_to_tensors",
    "weights_of",
]

CHECKPOINT_FOLDER = "checkpoint"
FORMAT = "edge-inspect.checkpoint.1"


@dataclass(frozen=True, slots=True, eq=False)
class PhaseState:
    """A phase after as many steps as its `curve` is long.

    `tensors` by group (`weights`, `adam`, …) and name; `notes` what else is to be known, as JSON can say it.
    """

    curve: tuple[float, ...]
    finished: bool
    tensors: Mapping[str, Mapping[str, Tensor]]
    notes: Mapping[str, object] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run, in `folder`; None keeps none. Only worker 0 writes (`write`)."""

    def __init__(
        self, folder: Path | None, *, every_steps: int = 50, write: bool = True, prefix: str = ""
    ) -> None:
        self._folder = folder
        self._write = write
        self._prefix = prefix
        self.every_steps = every_steps

    def within(self, label: str) -> Checkpoints:
        """For a member of a fusion: phases of the same name are kept apart."""
        return Checkpoints(
            self._folder,
            every_steps=self.every_steps,
            write=self._write,
            prefix=f"{self._prefix}{label}-",
        )

    def load(self, phase: str) -> PhaseState | None:
        """The state of a phase, None where it has not begun; raises `TrainingError` where it is damaged."""
        if self._folder is None:
            return None
        path = self._path(self._folder, phase)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise TrainingError(
                        f"{path}: is of format {metadata.get('format')!r}, must be {FORMAT!r}"
                    )
                tensors: dict[str, dict[str, Tensor]] = {}
                for key in file.keys():  # noqa: SIM118  # not a dict
                    group, _, name = key.partition("/")
                    tensors.setdefault(group, {})[name] = file.get_tensor(key)
                curve = tuple(float(value) for value in tensors.pop("curve")["loss"])
                notes = json.loads(metadata["notes"])
                return PhaseState(curve, metadata["finished"] == "true", tensors, notes)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(
                f"{path}: is damaged ({error}); delete it, and --resume trains that phase from its start"
            ) from error

    def save(self, phase: str, state: PhaseState) -> None:
        """Replace the phase's checkpoint, whole or not at all; raises `TrainingError`."""
        if self._folder is None or not self._write:
            return
        flat = {"curve/loss": torch.tensor(state.curve, dtype=torch.float64)}
        for group, tensors in state.tensors.items():
            flat |= {f"{group}/{name}": t.detach().cpu().contiguous() for name, t in tensors.items()}
        metadata = {
            "format": FORMAT,
            "finished": "true" if state.finished else "false",
            "notes": json.dumps(state.notes),
        }
        path = self._path(self._folder, phase)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(flat, temporary, metadata)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                temporary.unlink()
            raise TrainingError(
                f"{path}: the checkpoint can't be written ({error}); free the disk and run the same command "
                "with --resume"
            ) from error

    def _path(self, folder: Path, phase: str) -> Path:
        return folder / f"{self._prefix}{phase}.safetensors"


def adam_to_tensors(adam: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors, `<parameter>.<what>`; its settings are the configuration's."""
    state = adam.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def adam_from_tensors(adam: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `adam_to_tensors`; Adam must be that of the same network."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    adam.load_state_dict({**adam.state_dict(), "state": state})


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy on the CPU of all that a network keeps."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
