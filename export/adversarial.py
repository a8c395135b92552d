"""Inputs that no good part gives and a camera may: to see whether numbers stay in range.

Made in two ways: of a simulated frame that was tampered with, by the preprocessing that the device runs; and
of a golden sample of the product itself, whose tensors are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edge.depth import Mask
from edge.errors import DepthUnusable, ExportError
from edge.frame import DepthImage, Frame
from edge.preprocessing import Preprocessing, preprocess
from edge.simulation import RigScene
from edge.simulation.dataset import frame_from_shot

__all__ = ["adversarial_inputs", "tampered_frames", "tampered_tensors"]

_Array = npt.NDArray[np.generic]
_Arrays = Mapping[str, _Array]

SPIKE_M = 0.05
"""What stereo makes of a reflection: a few pixels that are nearer by this."""

BODY_M = 0.02
"""Height and width of a foreign body."""

_SIMULATED = "plate"
_SEED = 0
_UNCLAMPED_Z = 50.0
"""Half a metre at the usual scale: as far as z goes where nothing clamps it."""


def adversarial_inputs(
    preprocessing: Preprocessing, wanted: frozenset[str], golden: Mapping[str, _Arrays]
) -> dict[str, _Arrays]:
    """The tensors named in `wanted` of each such input, by a name that tells a person what it is.

    `golden` are preprocessed frames by name; the first is overwritten. A simulated frame that the
    preprocessing refuses is left out: on the device it reaches no stage.
    """
    found: dict[str, _Arrays] = {}
    try:
        frames = tampered_frames(_simulated_frame(), preprocessing)
    except DepthUnusable:
        frames = {}
    for name, frame in frames.items():
        with suppress(DepthUnusable):
            found[f"a simulated part with {name}"] = preprocess(frame, preprocessing, wanted).tensors
    for label in sorted(golden)[:1]:
        for name, tensors in tampered_tensors(golden[label], preprocessing).items():
            found[f"{label} with {name}"] = tensors
    return found


def tampered_frames(frame: Frame, preprocessing: Preprocessing) -> dict[str, Frame]:
    """A frame of a part, spoiled in ways that a rig knows; none where there is no part in it.

    Raises `DepthUnusable` where its background can't be found.
    """
    seen = preprocess(frame, preprocessing, frozenset())
    if not bool(seen.part.any()):
        return {}
    depth_m, part = frame.depth_m, seen.part  # (H, W) each
    pixel_m = seen.pixel_mm * 1e-3
    spike = _block(part, half_px=2.0)
    body = _block(part, half_px=BODY_M / 2 / pixel_m)
    hole = _block(part, half_px=0.25 * float(np.sqrt(part.sum())))
    left = part & (np.arange(frame.width_px) < _centre(part)[1])
    reach_m = 4 * (preprocessing.z.clamp or _UNCLAMPED_Z) * preprocessing.z.scale_m
    red = np.where(body[:, :, None], np.array([255, 0, 0], np.uint8), frame.rgb)  # (H, W, 3)
    black = np.zeros_like(frame.rgb)
    return {
        "a spike of 5 cm": replace(frame, depth_m=_nearer(depth_m, spike, SPIKE_M)),
        "a hole": replace(frame, depth_m=np.where(hole, np.float32(0), depth_m)),
        "a foreign body of 2 cm": replace(frame, rgb=red, depth_m=_nearer(depth_m, body, BODY_M)),
        "saturated z": replace(frame, depth_m=_nearer(depth_m, left, reach_m)),
        "no light": replace(frame, rgb=black),
        "glare": replace(frame, rgb=black + np.uint8(255)),
    }


def tampered_tensors(tensors: _Arrays, preprocessing: Preprocessing) -> dict[str, _Arrays]:
    """Preprocessed tensors of a part, overwritten: what no preprocessing gives, were it changed or wrong.

    Only what changes a tensor that is there is given.
    """
    z = preprocessing.z
    reach = z.clamp or _UNCLAMPED_Z
    changed: dict[str, dict[str, _Array]] = {
        name: {key: paint(tensors[key]) for key in ("image", "normals") if key in tensors}
        for name, paint in _PICTURES.items()
    }
    for name, size, rise_m in (
        ("a spike of 5 cm", 0, SPIKE_M),
        ("a foreign body of 2 cm", 3, BODY_M),
        ("an unfilled hole", 3, -_UNCLAMPED_Z),
    ):
        changed[name] = {}
        if "z" in tensors:
            value = np.float32(np.clip(rise_m / z.scale_m, -reach, reach))
            changed[name]["z"] = np.where(_middle_of(tensors["z"], size), value, tensors["z"])
        if "depth" in tensors:
            deep = np.asarray(tensors["depth"])  # (1, 1, D, D)
            moved = (
                np.maximum(deep - np.float32(rise_m), np.float32(0)) if rise_m > 0 else np.zeros_like(deep)
            )
            changed[name]["depth"] = np.where(_middle_of(deep, size), moved, deep)
    if "z" in tensors:
        given = tensors["z"]  # (1, r·r, m, m)
        halves = np.arange(given.shape[-1]) < given.shape[-1] // 2  # (m,)
        changed["saturated z"] = {"z": np.where(halves, np.float32(reach), np.float32(-reach)) + 0 * given}
    return {name: {**tensors, **new} for name, new in changed.items() if new}


def _chequered(picture: _Array) -> _Array:
    """(1, S, S, 3) of black and white pixels in turn."""
    places = np.indices(picture.shape[1:3]).sum(axis=0) % 2  # (S, S)
    return np.broadcast_to(places[None, :, :, None] * np.uint8(255), picture.shape).astype(picture.dtype)


_PICTURES: Mapping[str, Callable[[_Array], _Array]] = {
    "black pictures": np.zeros_like,
    "white pictures": lambda picture: np.full_like(picture, 255),
    "chequered pictures": _chequered,
}


def _middle_of(tensor: _Array, share_of: int) -> npt.NDArray[np.bool_]:
    """The middle cell of (1, C, m, m) in the first channel, or with `share_of` k the middle k-th of all."""
    chosen = np.zeros(tensor.shape, np.bool_)
    side = tensor.shape[-1]
    if not share_of:
        chosen[:, 0, side // 2, side // 2] = True
    else:
        edge = (side - max(1, side // share_of)) // 2
        chosen[..., edge : side - edge, edge : side - edge] = True
    return chosen


def _simulated_frame() -> Frame:
    scene = RigScene(_SIMULATED, _SEED, parts=1, defective_share=0.0)
    shot = scene.shot(0)
    if shot is None:
        raise ExportError("the simulated rig showed no part; report this")
    return frame_from_shot(scene, 0, shot)


def _centre(part: Mask) -> tuple[int, int]:
    """Row and column of the part's pixel that is nearest to its middle: a ring has none in the middle."""
    places = np.argwhere(part)  # (k, 2)
    row, column = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return int(row), int(column)


def _block(part: Mask, half_px: float) -> Mask:
    """(H, W): the square of 2·`half_px` about the part's middle."""
    row, column = _centre(part)
    rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
    block: Mask = (np.abs(rows - row) <= half_px) & (np.abs(columns - column) <= half_px)
    return block


def _nearer(depth_m: DepthImage, where: Mask, rise_m: float) -> DepthImage:
    """(H, W): nearer by `rise_m` where it is known, but not behind the camera."""
    risen = np.maximum(depth_m - np.float32(rise_m), np.float32(1e-3))
    return np.where(where & (depth_m > 0), risen, depth_m)
