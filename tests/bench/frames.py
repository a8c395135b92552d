"""Frames of simulated parts, rendered before anything is timed."""

from __future__ import annotations

from edge.frame import Frame
from edge.simulation import RigScene
from edge.simulation.dataset import frame_from_shot

__all__ = ["simulated_frames"]

_SEED = 99


def simulated_frames(product: str, count: int, *, defective_share: float = 0.5) -> list[Frame]:
    """`count` parts of a product, each under the camera alone."""
    scene = RigScene(product, seed=_SEED, parts=count, defective_share=defective_share)
    frames = []
    for index in range(count):
        shot = scene.shot(index)
        if shot is None:
            raise RuntimeError(f"the scene of {product!r} ended after {index} of {count} parts")
        frames.append(frame_from_shot(scene, index, shot))
    return frames
