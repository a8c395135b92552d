"""Who does the jobs: worker processes of this machine, or a cluster (`train.benchmark.ray_pool`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

import torch

from edge.errors import EdgeError
from train.benchmark.job import Job, JobResult, Workshop, run_job

__all__ = ["Failure", "LocalPool", "Outcome", "Pool", "outcome_of"]

_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result; `unexpected` where that is a mistake of ours, then with its traceback."""

    error: str
    unexpected: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job with its result or its failure."""

    job: Job
    result: JobResult | Failure


class Pool(Protocol):
    """Does jobs in any order; one that fails, or whose worker dies, leaves the others alone."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Each job's outcome, as soon as it is there; closing the iterator ends the workers."""


def outcome_of(job: Job, workshop: Workshop) -> Outcome:
    """Do a job; whatever it raises becomes its failure."""
    try:
        return Outcome(job, run_job(job, workshop))
    except EdgeError as error:
        return Outcome(job, Failure(str(error)))
    except Exception:  # noqa: BLE001 a job must not take the others' worker with it; its traceback is told
        return Outcome(job, Failure(traceback.format_exc(), unexpected=True))


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection[Job | None, Outcome]
    job: Job | None = None


class LocalPool:
    """`workers` processes, started anew (`spawn`): no lock or thread of the parent is copied into them."""

    def __init__(self, workers: int, workshop: Workshop) -> None:
        self._workers = workers
        self._workshop = workshop

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """See `Pool.run`."""
        waiting = list(reversed(jobs))
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.job for worker in workers):
                while waiting and len(workers) < min(self._workers, len(jobs)):
                    workers.append(self._start(len(workers)))
                for worker in workers:
                    if worker.job is None and waiting:
                        worker.job = waiting.pop()
                        with suppress(OSError):  # it is dead: found out below
                            worker.connection.send(worker.job)
                wait([thing for w in workers for thing in (w.connection, w.process.sentinel)])
                for worker in list(workers):
                    outcome = _received(worker)
                    if outcome is not None:
                        worker.job = None
                        yield outcome
                    elif not worker.process.is_alive():
                        workers.remove(worker)
                        worker.connection.close()
                        if worker.job is not None:
                            yield Outcome(worker.job, Failure(_death(worker.process)))
        finally:
            _stop(workers)

    def _start(self, slot: int) -> _Worker:
        gpus = 0 if self._workshop.accelerator == "cpu" else torch.cuda.device_count()
        gpu = slot % gpus if gpus else None
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._workshop, gpu), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _received(worker: _Worker) -> Outcome | None:
    try:
        return worker.connection.recv() if worker.connection.poll() else None
    except (EOFError, OSError):
        return None


def _death(process: SpawnProcess) -> str:
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return f"its worker ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its worker was ended by {name}" + ("; was memory short?" if name == "SIGKILL" else "")


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        if worker.job is not None:
            worker.process.terminate()
        else:
            with suppress(OSError):
                worker.connection.send(None)
    for worker in workers:
        worker.process.join(_STOP_TIMEOUT_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


def _work(connection: Connection[Outcome, Job | None], workshop: Workshop, gpu: int | None) -> None:
    """A worker's life: jobs until there are none, or until whoever gives them is gone."""
    if gpu is not None:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(gpu))  # before CUDA is woken: one for each worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while (job := connection.recv()) is not None:
            connection.send(outcome_of(job, workshop))


def _end_with_parent() -> None:
    """A killed parent must not leave a training behind, which a new start would begin a second time."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
