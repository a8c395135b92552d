"""The processes that train one model together, each on its device, by Lightning Fabric."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from typing_extensions import Self

from edge.errors import ConfigError, EdgeError, TrainingError
from train.rows import RowFile

__all__ = ["Hardware", "Workers"]

_T = TypeVar("_T")


class Hardware(BaseModel):
    """What to train on. `devices` counts those of this machine; None is all that torchrun started, else 1.

    `precision` as Fabric names it: the networks' products in that precision, weights, losses and all that
    is kept in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    devices: int | None = Field(default=None, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"


class Workers:
    """This process among those that train together; worker 0 is the first, and alone writes the run.

    Each worker runs the same program over the same files. A context, at whose end they part; a process that
    ends without that may be aborted by a thread of gloo's. Raises `ConfigError` where the machine has not
    what is asked for.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        hardware = hardware or Hardware()
        accelerator = hardware.accelerator
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # by torchrun
        devices = hardware.devices or started
        if accelerator == "cuda" and torch.cuda.device_count() < devices:
            raise ConfigError(
                f"--accelerator cuda with {devices} devices: torch sees {torch.cuda.device_count()} here; "
                "mend the driver, lower --devices, or take --accelerator cpu"
            )
        if accelerator == "cpu" and hardware.precision == "16-mixed":
            raise ConfigError("--precision 16-mixed needs a GPU; on a CPU take bf16-mixed or 32-true")
        if started > 1 and devices != started:
            raise ConfigError(
                f"--devices {devices}, but torchrun started {started} processes here; leave --devices away"
            )
        nodes = (
            int(os.environ.get("WORLD_SIZE", "1")) // started if "TORCHELASTIC_RUN_ID" in os.environ else 1
        )
        together = devices * nodes > 1
        # A network is whole in one graph here: no parameter is ever left out of the backward pass.
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=hardware.precision,
            strategy=DDPStrategy() if together else "auto",
        )
        self.accelerator = accelerator
        self.precision = hardware.precision
        self._local = devices
        self._joined = together
        if together:
            self.fabric.launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Fabric does this for NCCL alone; gloo's threads, still running at the interpreter's end, abort it.
        if self._joined and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        self._joined = False

    @property
    def rank(self) -> int:
        return int(self.fabric.global_rank)

    @property
    def count(self) -> int:
        return int(self.fabric.world_size)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def on_this_machine(self) -> int:
        """How many workers share this machine's cores."""
        return self._local

    def share(self, count: int) -> range:
        """Which of `count` things this worker does."""
        return range(self.rank, count, self.count)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done in here, all have done when the first goes on; an error of one is an error of all.

        Without this, a worker that finds a broken image would leave the others waiting for it.
        """
        if self.count == 1:
            yield
            return
        said: str | None = None
        failure: EdgeError | None = None
        try:
            yield
        except EdgeError as error:
            failure, said = error, str(error)
        found: list[str | None] = [None] * self.count
        torch.distributed.all_gather_object(found, said)
        if failure is not None:
            raise failure
        for number, text in enumerate(found):
            if text is not None:
                raise TrainingError(f"worker {number} of {self.count}: {text}")

    def of_first(self, value: _T) -> _T:
        """Worker 0's value, everywhere."""
        return value if self.count == 1 else self.fabric.broadcast(value, src=0)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over the workers of a scalar."""
        return value if self.count == 1 else torch.as_tensor(self.fabric.all_reduce(value, reduce_op="mean"))

    def rows(self, path: Path, count: int, shape: tuple[int, ...]) -> RowFile:
        """A new file of rows that all workers hold."""
        made: RowFile | None = None
        with self.together():
            if self.is_first:
                made = RowFile(path, count, shape, create=True)
        return made or RowFile(path, count, shape, create=False)

    def synchronise_norms(self, network: nn.Module) -> None:
        """Let a network's batch norms see the whole batch. Torch has that for GPUs; CPUs see their share."""
        if self.count > 1 and self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # torch's
