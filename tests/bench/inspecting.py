"""Where the time of an inspection goes: its steps, each timed alone on what the step before it made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edge.background import height_over_background
from edge.bundle import ANOMALY_MAP, Bundle
from edge.depth import pieces_touching
from edge.frame import Frame
from edge.framing import view_of
from edge.heatmap import heatmap_jpeg, overlay_jpeg
from edge.inspector import Inspector, regions_above
from edge.preprocessing import mask_above, preprocess
from edge.ruled_score import RuledMap
from edge.runtime import Runner
from edge.scoring import image_score, smooth_map

__all__ = ["inspection_works", "step_works"]


def inspection_works(bundle: Bundle, runner: Runner, frame: Frame) -> dict[str, Callable[[], object]]:
    """A whole inspection, its preprocessing, its model, and the pictures of it."""
    config, wanted = bundle.manifest.preprocessing, bundle.wanted | {"mask"}
    tensors = preprocess(frame, config, wanted).tensors
    inspector = Inspector(bundle, runner)
    inspection = inspector.inspect(frame)
    return {
        "inspection": partial(inspector.inspect, frame),
        "preprocessing": partial(preprocess, frame, config, wanted),
        "model": partial(runner.run, tensors),
        "heatmap": partial(heatmap_jpeg, inspection),
        "overlay": partial(overlay_jpeg, inspection),
    }


def step_works(bundle: Bundle, runner: Runner, frame: Frame) -> dict[str, Callable[[], object]]:
    """The steps within preprocessing, and those after the model, in their order."""
    config = bundle.manifest.preprocessing
    foreground = config.foreground
    prepared = preprocess(frame, config, {"mask"})
    view = prepared.view
    background = partial(
        height_over_background,
        frame.depth_m,
        frame.intrinsics,
        foreground.background,
        foreground.border_share,
    )
    _, height_m = background()  # (H, W)
    pixel_m = prepared.pixel_mm / 1e3

    def masks() -> object:
        part = mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground)
        return pieces_touching(
            mask_above(height_m, foreground.mask_threshold_m, pixel_m, foreground) | part, part
        )

    cells = runner.run(preprocess(frame, config, bundle.wanted | {"mask"}).tensors)[ANOMALY_MAP][0, 0]
    score = bundle.manifest.score
    square = smooth_map(cells, prepared.mask, score)  # (side, side)
    threshold = image_score(square, prepared.mask, score) / 2
    return {
        "background": background,
        "masks": masks,
        "framing": partial(view_of, config.framing, frame.width_px, frame.height_px, prepared.part),
        "image": partial(view.take, frame.rgb, config.image_px),
        "scoring": lambda: image_score(smooth_map(cells, prepared.mask, score), prepared.mask, score),
        "regions": partial(
            regions_above, RuledMap(square, prepared.mask), threshold, view, prepared.pixel_mm
        ),
        "map_in_frame": partial(view.give_back, square, frame.width_px, frame.height_px),
    }
