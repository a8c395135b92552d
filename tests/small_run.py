"""A training configuration that takes seconds, and good enough to find a large defect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from train.config import TrainConfig
from train.good_parts import Task

__all__ = ["TINY", "NoBars"]


class NoBars:
    """Progress that nobody watches."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield lambda steps: None


TINY = TrainConfig.model_validate(
    {
        "held_out_share": 0.34,
        "preprocessing": {
            "image_px": 96,
            "depth_px": 48,
            "map_cells": 12,
            "foreground": {"part_threshold_m": 0.003, "mask_threshold_m": 0.0025, "dilation_px": 2},
        },
        "method": {
            "name": "msd",
            "inputs": ["image", "normals", "z"],
            "backbone": {"blocks": [3]},
            "teacher": {"hidden": 8, "kernels": [3, 3]},
            "teacher_optimiser": {"steps": 12, "batch": 4, "clip_norm": 1.0},
            "student": {"hidden": 16, "blocks": 1},
            "student_optimiser": {"steps": 20, "batch": 4},
        },
        "score": {"smoothing_px": 1.0},
    }
)
