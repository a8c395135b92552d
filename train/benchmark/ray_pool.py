"""The jobs of a benchmark on a cluster, by Ray (the extra `ray`)."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from edge.errors import ConfigError
from train.benchmark.job import Job, Workshop
from train.benchmark.pool import Failure, Outcome, outcome_of

__all__ = ["LOCAL", "RayPool"]

LOCAL = "local"

_KNOCK_TIMEOUT_S = 10.0

_OBJECT_STORE_BYTES = 100_000_000
"""Jobs and results are a few kilobytes each; Ray would take a third of the memory."""

# What Ray reads from the environment alone: to send no statistics, and to leave GPUs visible as they are.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class RayPool:
    """Tasks of a Ray cluster, each with as many of its CPUs as the workshop says threads, and maybe a GPU.

    `address` is that of a running cluster (`auto`: the one that this machine belongs to), or `local`: a Ray
    of `workers` tasks at a time is started for as long as `run` goes on. Every node needs this version of
    edge-inspect and sees data, feature cache and results under the same paths.
    """

    def __init__(self, address: str, workers: int, workshop: Workshop) -> None:
        self._address = address
        self._workers = workers
        self._workshop = workshop

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """See `Pool.run`. Raises `ConfigError` where there is no Ray, or no cluster."""
        ray = _ray()
        with ExitStack() as stack:
            self._connect(ray, stack)
            gpus = 1 if self._workshop.accelerator == "cuda" else 0
            task = ray.remote(num_cpus=self._workshop.threads, num_gpus=gpus, max_retries=0)(outcome_of)
            waiting: dict[Any, Job] = {task.remote(job, self._workshop): job for job in jobs}
            try:
                while waiting:
                    ready, _ = ray.wait(list(waiting), num_returns=1)
                    job = waiting.pop(ready[0])
                    try:
                        outcome: Outcome = ray.get(ready[0])
                    except ray.exceptions.RayError as error:
                        outcome = Outcome(job, Failure(f"Ray: {error}"))
                    yield outcome
            finally:
                for reference in waiting:
                    ray.cancel(reference, force=True)

    def _connect(self, ray: ModuleType, stack: ExitStack) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address == LOCAL:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="edge-ray-", ignore_cleanup_errors=True)
            )
            options |= {
                "address": LOCAL,
                "num_cpus": self._workers * self._workshop.threads,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_temp_dir": folder,
            }
        else:
            _knock(self._address)
            options["address"] = self._address
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--ray {self._address}: no Ray cluster there ({error})") from error
        stack.callback(ray.shutdown)


def _knock(address: str) -> None:
    """Where nobody listens Ray tries for many minutes, and says nothing; raises `ConfigError`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # auto, and whatever else Ray knows how to find
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray {address}: no Ray cluster there ({error})") from error


def _ray() -> ModuleType:
    try:
        import ray  # noqa: PLC0415 an extra: only who names --ray needs it
        import ray.exceptions  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray ({error}); pip install 'edge-inspect[train,ray]'") from error
    module: ModuleType = ray
    return module
