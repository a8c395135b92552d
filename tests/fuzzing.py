"""How many cases the fuzz tests try: few in CI, as many times more as EDGE_INSPECT_FUZZ says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["FACTOR", "cases"]

FACTOR = int(os.environ.get("EDGE_INSPECT_FUZZ", "1"))


def cases(count: int) -> settings:
    """Settings for a fuzz test with so many cases in CI.

    A long run draws anew each time and keeps no deadline: what it finds becomes a test of its own.
    """
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
