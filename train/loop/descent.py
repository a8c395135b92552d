"""One gradient descent: a plain loop on one worker or many, that can be interrupted at any step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from edge.errors import TrainingError
from train.loop.checkpoints import Checkpoints, PhaseState, adam_from_tensors, adam_to_tensors, weights_of
from train.loop.workers import Workers
from train.optimiser import OptimiserConfig

__all__ = ["Loop", "Watch", "descend"]

_N = TypeVar("_N", bound=nn.Module)

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Objective, this worker's rows, the whole batch's rows → this worker's loss; their mean is the batch's."""


class Watch(Protocol):
    """Whoever looks at a network while it is trained, and may end it."""

    def after(self, step: int, network: nn.Module) -> bool:
        """Called after each step with its number, from 1; True ends the descent."""

    def finish(self, network: nn.Module) -> None:
        """Put the weights that are to be kept into the network."""

    def save(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """What a checkpoint must hold of it."""

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, object]) -> None:
        """The inverse of `save`."""


class Loop:
    """What all descents of a run share."""

    def __init__(self, workers: Workers, checkpoints: Checkpoints) -> None:
        self.workers = workers
        self.checkpoints = checkpoints


def descend(
    phase: str,
    network: _N,
    objective: Callable[[_N], nn.Module],
    loss_of: LossOf,
    *,
    optimiser: OptimiserConfig,
    views: int,
    seed: int,
    loop: Loop,
    step_done: Callable[[int], None],
    watch: Watch | None = None,
) -> tuple[float, ...]:
    """Train `network` in place; the loss of each step. It is on the CPU and in eval mode afterwards.

    `objective(network)` is the module whose `forward` gives the loss (DDP's hooks hang on a module's call).
    A batch of the configuration is one step of all workers together: each takes its share. The order of
    the batches follows from the seed alone. Where the run's checkpoints hold this phase, it goes on from
    there, to the same weights. Raises `TrainingError` where a loss or a weight is not finite.
    """
    workers, checkpoints = loop.workers, loop.checkpoints
    total, batch = optimiser.total_steps(views), min(optimiser.batch, views)
    if batch < workers.count:
        raise TrainingError(
            f"{phase}: a batch of {batch} can't be shared by {workers.count} workers; lower --devices, or "
            f"raise {phase}_optimiser.batch"
        )
    saved = checkpoints.load(phase)
    if saved is not None and saved.finished:
        network.load_state_dict(saved.tensors["weights"])
        network.eval()
        if watch is not None:
            watch.restore({}, _notes_of_watch(saved))
        step_done(total)
        return saved.curve

    trained = copy.deepcopy(network)
    workers.synchronise_norms(trained)
    # FrEIA's permutations are parameters, too, of whole numbers.
    weights = [p for p in trained.parameters() if p.requires_grad]
    adam = torch.optim.Adam(
        weights,
        lr=optimiser.learning_rate,
        weight_decay=optimiser.weight_decay,
        fused=workers.precision != "16-mixed",  # whose gradients Fabric must unscale before it clips them
    )
    fabric = workers.fabric
    module, stepper = fabric.setup(objective(trained), adam)
    curve: list[float] = []
    if saved is not None:
        curve = _restore(saved, trained, adam, workers, watch)
        step_done(len(curve))
    module.train()
    for rows in islice(_batches(views, batch, seed), len(curve), total):
        loss = loss_of(module, rows[workers.rank :: workers.count], rows)
        value = float(workers.mean(loss.detach()))
        if not math.isfinite(value):
            raise TrainingError(
                f"{phase}: the loss of step {len(curve) + 1} is {value}; "
                f"lower {phase}_optimiser.learning_rate"
            )
        stepper.zero_grad()
        fabric.backward(loss)
        if optimiser.clip_norm is not None:
            fabric.clip_gradients(module, stepper, max_norm=optimiser.clip_norm, error_if_nonfinite=False)
        stepper.step()
        curve.append(value)
        step_done(1)
        ended = watch is not None and watch.after(len(curve), trained)
        if ended:
            step_done(total - len(curve))
            break
        if len(curve) % checkpoints.every_steps == 0 and len(curve) < total:
            with workers.together():
                checkpoints.save(phase, _state(curve, trained, adam, workers, watch))
    if watch is not None:
        watch.finish(trained)
    _keep(phase, trained, network, curve, loop=loop, watch=watch)
    return tuple(curve)


def _keep(
    phase: str, trained: nn.Module, network: nn.Module, curve: list[float], *, loop: Loop, watch: Watch | None
) -> None:
    """Put what was trained into the network, and end the phase."""
    workers = loop.workers
    kept = workers.of_first(weights_of(trained))  # batch statistics are each worker's own
    wrong = [name for name, value in kept.items() if not bool(torch.isfinite(value).all())]
    if wrong:
        raise TrainingError(f"{phase}: {wrong[0]} is not finite; lower {phase}_optimiser.learning_rate")
    network.load_state_dict(kept)
    network.eval()
    notes = {} if watch is None else {"watch": watch.save()[1]}
    state = PhaseState(tuple(curve), finished=True, tensors={"weights": kept}, notes=notes)
    with workers.together():
        loop.checkpoints.save(phase, state)


def _state(
    curve: list[float], network: nn.Module, adam: torch.optim.Optimizer, workers: Workers, watch: Watch | None
) -> PhaseState:
    tensors = {"weights": network.state_dict(), "adam": adam_to_tensors(adam)}
    notes: dict[str, object] = {"scaler": workers.fabric.strategy.precision.state_dict()}
    if watch is not None:
        tensors["watch"], notes["watch"] = watch.save()
    return PhaseState(tuple(curve), finished=False, tensors=tensors, notes=notes)


def _restore(
    saved: PhaseState,
    network: nn.Module,
    adam: torch.optim.Optimizer,
    workers: Workers,
    watch: Watch | None,
) -> list[float]:
    network.load_state_dict(saved.tensors["weights"])
    adam_from_tensors(adam, saved.tensors["adam"])
    scaler = saved.notes["scaler"]
    if isinstance(scaler, dict) and scaler:
        workers.fabric.strategy.precision.load_state_dict(scaler)
    if watch is not None:
        watch.restore(saved.tensors.get("watch", {}), _notes_of_watch(saved))
    return list(saved.curve)


def _notes_of_watch(saved: PhaseState) -> dict[str, object]:
    notes = saved.notes["watch"]
    return notes if isinstance(notes, dict) else {}


def _batches(views: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers, none of them short: each view at most once per epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(views, generator=generator)
        for start in range(0, views - batch + 1, batch):
            yield order[start : start + batch]
