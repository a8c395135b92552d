"""`python -m tests.bench.memory BUNDLE INSPECTIONS`: the memory of a process that does nothing but inspect.

A process of its own: what was measured before would count, too. Prints one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

__all__ = ["Memory", "memory_of"]

_FRAMES = 4
_WARM_UP = 20


class Memory(BaseModel):
    """Resident memory in MB: with all imported and the frames rendered; with the runner loaded and
    `_WARM_UP` inspections done; after `inspections` more; and the highest it ever was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inspections: int
    before_mb: float
    warm_mb: float
    end_mb: float
    peak_mb: float


def memory_of(bundle: Path, inspections: int) -> Memory:
    """Inspect so often in a process of its own; raises `CalledProcessError` where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", str(bundle), str(inspections)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    return Memory.model_validate_json(done.stdout)


def _status_mb(key: str) -> float:
    """A figure of /proc/self/status: VmRSS, or VmHWM for the highest."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {key}")


def _inspect(path: Path, inspections: int) -> Memory:
    from edge.bundle import load_bundle
    from edge.heatmap import heatmap_jpeg
    from edge.inspector import Inspector
    from edge.runtime import runner_for
    from tests.bench.frames import simulated_frames

    bundle = load_bundle(path)
    frames = simulated_frames(bundle.product, _FRAMES)
    before_mb = _status_mb("VmRSS")
    with runner_for(bundle) as runner:
        inspector = Inspector(bundle, runner)

        def run(count: int) -> float:
            for number in range(count):
                heatmap_jpeg(inspector.inspect(frames[number % _FRAMES]))
            return _status_mb("VmRSS")

        warm_mb = run(_WARM_UP)
        end_mb = run(inspections)
    return Memory(
        inspections=inspections,
        before_mb=before_mb,
        warm_mb=warm_mb,
        end_mb=end_mb,
        peak_mb=max(_status_mb("VmHWM"), warm_mb, end_mb),  # the kernel counts the highest lazily
    )


if __name__ == "__main__":
    sys.stdout.write(_inspect(Path(sys.argv[1]), int(sys.argv[2])).model_dump_json())
