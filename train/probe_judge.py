"""What a distillation's map of the probe is worth: its figure, from features that are computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError
from edge.preprocessing import Preprocessing
from edge.scoring import ScoreSpec, image_score, smooth_map
from train.metrics import aupro, image_auroc
from train.model import torch_tensors
from train.views import prepare

__all__ = ["PROBE_FPR", "JudgedView", "figure_of", "judged_views", "student_figure"]

PROBE_FPR = 0.05
_Float = npt.NDArray[np.float32]


class JudgedView:
    """A sample of the probe, as its view: tensors, the foreground and the defect (side, side)."""

    def __init__(self, sample: Sample, preprocessing: Preprocessing, wanted: frozenset[str]) -> None:
        prepared = prepare(sample, preprocessing, wanted)
        side = preprocessing.depth_px
        try:
            marked = sample.mask()  # (H, W)
        except CaptureError as error:
            raise DatasetError(str(error)) from error
        self.tensors = torch_tensors(prepared.tensors)
        self.foreground = prepared.mask
        self.defect = prepared.view.take(marked.astype(np.uint8), side, nearest=True).astype(bool)
        self.is_bad = sample.defect is not None


def judged_views(
    probe: Sequence[Sample], preprocessing: Preprocessing, wanted: frozenset[str]
) -> tuple[JudgedView, ...]:
    """The probe under a preprocessing; raises `DatasetError` naming the file."""
    return tuple(JudgedView(sample, preprocessing, wanted) for sample in probe)


def figure_of(views: Sequence[JudgedView], maps: Sequence[_Float], score: ScoreSpec) -> float:
    """The mean of I-AUROC and AUPRO at 5 % of anomaly maps (m, m), within the views; 1 is perfect."""
    squares = [smooth_map(cells, view.foreground, score) for view, cells in zip(views, maps, strict=True)]
    scores = [
        image_score(square, view.foreground, score) for view, square in zip(views, squares, strict=True)
    ]
    i_auroc = image_auroc([view.is_bad for view in views], scores)
    by_limit = aupro([view.defect for view in views], squares, (PROBE_FPR,))
    return (i_auroc + by_limit[PROBE_FPR]) / 2


def student_figure(
    student: nn.Module,
    distance: nn.Module,
    *,
    assembled: Tensor,
    targets: Tensor,
    views: Sequence[JudgedView],
    score: ScoreSpec,
) -> float:
    """The figure of a student; `assembled` and `targets` (P, C, m, m) belong to the views in their order."""
    device = next(student.parameters()).device
    maps: list[_Float] = []
    for x, target, view in zip(assembled, targets, views, strict=True):
        y = student(x[None].to(device)).cpu()  # (1, C, m, m)
        cells: Tensor = distance(target[None], y, view.tensors["mask"])  # (1, 1, m, m)
        maps.append(np.asarray(cells[0, 0].float().numpy(), dtype=np.float32))
    return figure_of(views, maps, score)
