"""Each choice that AST, the paper or their readers made differently."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import binary_dilation

from edge.depth import pixel_shuffle
from edge.errors import DepthUnusable
from edge.frame import Frame
from edge.preprocessing import TENSORS, Prepared, Preprocessing, ZConfig, preprocess, tensor_shapes
from edge.testing.frames import flat_frame

AST = {
    "image_px": 64,
    "depth_px": 192,
    "map_cells": 24,
    "hole_passes": 3,
    "framing": {"mode": "whole"},
    "foreground": {
        "part_threshold_m": 0.007,
        "mask_threshold_m": 0.007,
        "closing_px": 1,
        "opening_px": 1,
        "min_area_mm2": 0.01,
        "dilation_px": 4,
        "dilation_shape": "square",
        "fill": False,
        "background": "corners",
        "shrinking": "touched",
        "cells": "soft",
    },
    "z": {"source": "raw", "scale_m": 0.01, "clamp": None, "normalised": "frame"},
}


def ast(**foreground: object) -> Preprocessing:
    return Preprocessing.model_validate({**AST, "foreground": {**AST["foreground"], **foreground}})  # type: ignore[dict-item]


def part_frame(seed: int = 3) -> Frame:
    """A part of uneven height with holes in its depth, on a bed with a little noise."""
    rng = np.random.default_rng(seed)
    frame = flat_frame(width_px=320, height_px=320)
    depth_m = frame.depth_m + rng.normal(scale=3e-4, size=frame.depth_m.shape)
    depth_m[100:210, 90:240] -= 0.02 + 0.004 * rng.random((110, 150))
    depth_m[rng.random(depth_m.shape) < 0.1] = 0.0
    depth_m[150:163, 150:160] = 0.0  # wider than three passes reach
    return replace(frame, depth_m=depth_m.astype(np.float32))


def resized(image: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.float64]:
    """Bilinear between pixel centres, written out: what torch calls align_corners=False."""

    def along(axis_in: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
        place = np.clip((np.arange(count) + 0.5) * axis_in.shape[0] / count - 0.5, 0, axis_in.shape[0] - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, axis_in.shape[0] - 1)
        share = (place - low)[:, None]
        return axis_in[low] * (1 - share) + axis_in[high] * share

    return along(along(image.astype(np.float64), side).T, side).T


def ast_by_hand(depth_m: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], ...]:
    """AST's preprocessing as its description has it: z (192, 192), mask (24, 24), mask (192, 192)."""
    z = depth_m.astype(np.float64)
    for _ in range(3):
        padded = np.pad(z, 1)
        around = np.stack(
            [padded[i : i + z.shape[0], j : j + z.shape[1]] for i in range(3) for j in range(3)]
        )
        count = (around > 0).sum(axis=0)
        z = np.where(z > 0, z, around.sum(axis=0) / np.maximum(count, 1))
    corners = [p[p > 0].mean() for p in (z[:2, :2], z[:2, -2:], z[-2:, :2], z[-2:, -2:])]
    down, across = np.linspace(0, 1, z.shape[0])[:, None], np.linspace(0, 1, z.shape[1])[None, :]
    background = (corners[0] * (1 - across) + corners[1] * across) * (1 - down) + (
        corners[2] * (1 - across) + corners[3] * across
    ) * down
    foreground = (np.abs(background - z) > 0.007) & (z > 0)
    channel = np.where(foreground, (z - z[foreground].mean()) * 100, 0.0)
    square = resized(foreground.astype(np.float64), 192) > 0
    grown = binary_dilation(square, np.ones((8, 8)))
    return resized(channel, 192), resized(grown.astype(np.float64), 24), grown.astype(np.float64)


def test_with_ast_s_choices_mask_and_z_are_ast_s() -> None:
    frame = part_frame()
    made = preprocess(frame, ast(), {"z", "mask"})
    z, soft, grown = ast_by_hand(frame.depth_m)
    assert np.array_equal(made.mask, grown.astype(bool))
    assert np.allclose(made.tensors["mask"][0, 0], soft, atol=1e-6)
    assert ((soft > 0) & (soft < 1)).sum() > 0  # soft indeed
    found = pixel_shuffle(np.asarray(made.tensors["z"][0], np.float32), 8)  # (192, 192)
    # OpenCV's affine warp places its samples to 1/32 of a pixel.
    assert np.abs(found - z).max() < 0.05 * np.abs(z).max()
    assert np.abs(found - z).mean() < 0.002 * np.abs(z).max()


@pytest.mark.parametrize("reach", [1, 2, 4, 5])
@pytest.mark.parametrize("shape", ["square", "ellipse"])
def test_the_mask_grows_as_scipy_s_dilation_has_it(reach: int, shape: str) -> None:
    frame = part_frame()
    bare = preprocess(frame, ast(dilation_px=0), {"mask"}).mask
    grown = preprocess(frame, ast(dilation_px=reach, dilation_shape=shape), {"mask"}).mask
    if shape == "square":
        kernel = np.ones((2 * reach, 2 * reach))
    else:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    assert np.array_equal(grown, binary_dilation(bare, kernel))


@pytest.mark.parametrize("cells", ["touched", "half", "soft"])
def test_the_cells_of_a_mask(cells: str) -> None:
    made = preprocess(part_frame(), ast(cells=cells), {"mask"})
    found = made.tensors["mask"][0, 0]
    blocks = made.mask.reshape(24, 8, 24, 8).mean(axis=(1, 3))  # (24, 24) the share that is set
    if cells == "touched":
        assert np.array_equal(found, blocks > 0)
    elif cells == "half":
        assert np.array_equal(found, blocks >= 0.5)
    else:
        assert ((found >= 0) & (found <= 1)).all()
        assert (found[blocks == 1] == 1).all()
        assert (found[blocks == 0] == 0).all()


@pytest.mark.parametrize("cells", ["half", "soft"])
def test_a_part_that_falls_between_the_cells_is_never_a_map_of_zeros(cells: str) -> None:
    frame = flat_frame(width_px=320, height_px=320)
    depth_m = frame.depth_m.copy()
    depth_m[160, 40:280] -= 0.02  # a wire, a pixel thick, on the border between two rows of cells
    wire = replace(frame, depth_m=depth_m)
    setup = ast(cells=cells, dilation_px=0, shrinking="nearest")
    with pytest.raises(DepthUnusable, match=r"no cell of the map; set foreground\.cells to touched"):
        preprocess(wire, setup, {"mask"})
    kept = preprocess(wire, ast(cells="touched", dilation_px=0, shrinking="nearest"), {"mask"})
    assert kept.tensors["mask"].any()
    empty = preprocess(frame, setup, {"mask"})  # an empty tray stays what it was: for the caller to judge
    assert not empty.tensors["mask"].any()


def test_touched_takes_whatever_a_pixel_of_the_square_has_of_the_part() -> None:
    frame = part_frame()
    near = preprocess(frame, ast(dilation_px=0, shrinking="nearest"), {"mask"}).mask
    touched = preprocess(frame, ast(dilation_px=0), {"mask"}).mask
    assert (near <= touched).all()
    assert touched.sum() > near.sum()


def test_passes_come_before_the_background_and_a_wide_hole_stays_a_hole() -> None:
    frame = part_frame()
    none = preprocess(frame, Preprocessing.model_validate({**AST, "hole_passes": 0}), {"mask"})
    three = preprocess(frame, ast(), {"mask"})
    assert none.part.sum() < three.part.sum()  # missing depth is background until it is filled
    assert not three.part[156, 155]
    assert three.part[151, 155]
    assert preprocess(frame, ast(fill=True), {"mask"}).part[156, 155]


def test_an_empty_corner_stops_ast_s_background_and_not_ours() -> None:
    frame = part_frame()
    depth_m = frame.depth_m.copy()
    depth_m[:8, :8] = 0.0
    broken = replace(frame, depth_m=depth_m)
    with pytest.raises(DepthUnusable, match="the top left corner has no depth"):
        preprocess(broken, ast(), {"mask"})
    assert preprocess(broken, ast(background="plane"), {"mask"}).part.any()


def test_no_clamp_lets_a_spike_through_and_a_clamp_does_not() -> None:
    frame = part_frame()
    depth_m = frame.depth_m.copy()
    depth_m[150, 120] = 3.0

    def largest(clamp: float | None) -> float:
        setup = Preprocessing.model_validate({**AST, "z": {"source": "raw", "clamp": clamp}})
        return float(np.abs(preprocess(replace(frame, depth_m=depth_m), setup, {"z"}).tensors["z"]).max())

    assert largest(8.0) == 8.0
    assert largest(None) > 8.0


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "background": st.sampled_from(["plane", "corners"]),
            "dilation_shape": st.sampled_from(["ellipse", "square"]),
            "shrinking": st.sampled_from(["nearest", "touched"]),
            "cells": st.sampled_from(["touched", "half", "soft"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "source": st.sampled_from(["raw", "height"]),
            "normalised": st.sampled_from(["square", "frame"]),
        }
    ),
    st.integers(0, 3),
)
def test_every_choice_keeps_the_promised_tensors(
    foreground: dict[str, str], z: dict[str, str], passes: int
) -> None:
    setup = Preprocessing.model_validate(
        {
            "image_px": 32,
            "depth_px": 64,
            "map_cells": 8,
            "hole_passes": passes,
            "framing": {"mode": "whole", "fit": "letterbox"},
            "foreground": foreground,
            "z": z,
        }
    )
    made: Prepared = preprocess(part_frame(), setup, set(TENSORS))
    assert {name: (str(a.dtype), a.shape) for name, a in made.tensors.items()} == tensor_shapes(setup)
    assert all(np.isfinite(array.astype(np.float64)).all() for array in made.tensors.values())
    outside = pixel_shuffle(np.asarray(made.tensors["z"][0], np.float32), 8)[~made.mask]
    assert (outside == 0).all()  # what is judged as background is 0 in z
    again = Preprocessing.model_validate(setup.model_dump(mode="json"))
    assert again == setup


def test_a_choice_that_does_not_exist_is_refused() -> None:
    for wrong in ({"cells": "binary"}, {"background": "none"}, {"dilation_shape": "cross"}):
        with pytest.raises(ValidationError):
            ast(**wrong)
    with pytest.raises(ValidationError):
        ZConfig.model_validate({"clamp": 0})
