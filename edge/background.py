"""The background under a part: a plane, or the surface through the frame's corners."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.depth import BackgroundPlane, fit_background_plane, height_over_plane
from edge.errors import DepthUnusable
from edge.frame import DepthImage, Intrinsics

__all__ = ["BackgroundKind", "corner_surface", "height_over_background", "pass_fill"]

BackgroundKind = Literal["plane", "corners"]
"""`plane`: fitted to the ring along the border. `corners`: bilinear through the four corners, as in AST."""

_Float = npt.NDArray[np.float32]


def height_over_background(
    depth_m: DepthImage, intrinsics: Intrinsics, kind: BackgroundKind, border_share: float
) -> tuple[BackgroundPlane, _Float]:
    """The background's plane, and how far each pixel lies above it, metres, 0 where depth is invalid; (H, W).

    Over the corners' surface height is measured along the optical axis, as AST does, over the plane at
    right angles to it; the plane is then the one nearest to the corners. `border_share` see
    `fit_background_plane`. Raises `DepthUnusable`.
    """
    if kind == "plane":
        plane = fit_background_plane(depth_m, intrinsics, border_share=border_share)
        return plane, height_over_plane(depth_m, plane, intrinsics)
    corners_m = _corner_depths(depth_m)  # (2, 2)
    surface_m = corner_surface(depth_m)  # (H, W)
    return _plane_through(corners_m, depth_m, intrinsics), np.where(
        depth_m > 0, surface_m - depth_m, np.float32(0.0)
    ).astype(np.float32)


def corner_surface(depth_m: DepthImage) -> _Float:
    """Depth of the bilinear surface through the means of the four 2×2 corners (AST); (H, W) metres.

    Invalid pixels of a corner don't count. Raises `DepthUnusable`, naming the corner, where none is valid:
    the mean of nothing is NaN, and so would be every height.
    """
    corners_m = _corner_depths(depth_m)  # (2, 2)
    height, width = depth_m.shape
    down = np.linspace(0.0, 1.0, height)[:, None]
    across = np.linspace(0.0, 1.0, width)[None, :]
    top_m = corners_m[0, 0] * (1 - across) + corners_m[0, 1] * across  # (1, W)
    bottom_m = corners_m[1, 0] * (1 - across) + corners_m[1, 1] * across  # (1, W)
    return np.asarray(top_m * (1 - down) + bottom_m * down, dtype=np.float32)


def pass_fill(depth_m: DepthImage, passes: int) -> DepthImage:
    """Each invalid pixel as the mean of the valid ones of its 3×3, `passes` times over (AST: 3); (H, W).

    Valid pixels keep their value; what no pass reaches stays 0.
    """
    filled = np.array(depth_m, dtype=np.float32)
    for _ in range(passes):
        missing = filled <= 0
        if not bool(missing.any()):
            break
        total = cv2.boxFilter(filled, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        valid = np.asarray(~missing, dtype=np.float32)
        count = cv2.boxFilter(valid, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        mean = np.divide(total, count, out=np.zeros_like(filled), where=count > 0.5)
        filled = np.where(missing, mean, filled).astype(np.float32)
    return filled


def _corner_depths(depth_m: DepthImage) -> npt.NDArray[np.float64]:
    """(2, 2) mean depth of the valid pixels of each corner, top row first."""
    found = np.empty((2, 2), dtype=np.float64)
    for row, (rows, vertical) in enumerate(((slice(0, 2), "top"), (slice(-2, None), "bottom"))):
        for column, (columns, side) in enumerate(((slice(0, 2), "left"), (slice(-2, None), "right"))):
            patch = depth_m[rows, columns]
            valid = patch[patch > 0]
            if valid.size == 0:
                raise DepthUnusable(
                    f"the {vertical} {side} corner has no depth, so no surface goes through all four; "
                    "set foreground.background to plane, or raise hole_passes"
                )
            found[row, column] = valid.mean(dtype=np.float64)
    return found


def _plane_through(
    corners_m: npt.NDArray[np.float64], depth_m: DepthImage, intrinsics: Intrinsics
) -> BackgroundPlane:
    """The plane with the least squared distance in 1/Z from the four corners."""
    height, width = depth_m.shape
    xs, ys = np.meshgrid([0.5, width - 1.5], [0.5, height - 1.5])  # (2, 2) each
    rays = np.stack(
        [
            (xs.ravel() - intrinsics.cx_px) / intrinsics.fx_px,
            (ys.ravel() - intrinsics.cy_px) / intrinsics.fy_px,
            np.ones(4),
        ],
        axis=1,
    )  # (4, 3)
    inverse_depth = 1.0 / corners_m.ravel()
    coefficients = np.linalg.lstsq(rays, inverse_depth, rcond=None)[0]
    spread_m = (rays @ coefficients - inverse_depth) / inverse_depth**2
    if coefficients[2] <= 0:
        raise DepthUnusable(
            "the depths of the frame's corners do not lie on a surface in front of the camera; "
            "clear the corners, or set foreground.background to plane"
        )
    return BackgroundPlane(
        inverse_m=(float(coefficients[0]), float(coefficients[1]), float(coefficients[2])),
        rms_m=float(np.sqrt(np.mean(spread_m**2))),
        inlier_share=1.0,
    )
