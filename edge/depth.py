"""Depth to what a model can use: background plane, foreground mask, filled holes, z channel, normals image.

The one implementation: training calls it too, so what a model was trained on is what the device computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DepthUnusable
from edge.frame import DepthImage, Intrinsics

__all__ = [
    "BackgroundPlane",
    "Mask",
    "fill_holes",
    "fit_background_plane",
    "foreground_mask",
    "height_over_plane",
    "largest_pieces",
    "normalise_z",
    "normals_image",
    "pieces_touching",
    "pixel_shuffle",
    "pixel_unshuffle",
]

Mask = npt.NDArray[np.bool_]
"""(H, W), True = belongs."""

_Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BackgroundPlane:
    """The plane on which the part lies: a·X + b·Y + g·Z = 1 in the camera's coordinates, metres.

    `inverse_m` is (a, b, g) in 1/metres. `rms_m` is the spread of the inliers across the plane,
    `inlier_share` the part of the valid border pixels that were kept.
    """

    inverse_m: tuple[float, float, float]
    rms_m: float
    inlier_share: float

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit normal, pointing towards the camera (Z negative)."""
        a, b, g = self.inverse_m
        length = float(np.hypot(np.hypot(a, b), g))
        return (-a / length, -b / length, -g / length)

    @property
    def tilt_deg(self) -> float:
        """The angle between the plane's normal and the optical axis."""
        return float(np.degrees(np.arccos(min(1.0, abs(self.normal[2])))))

    @property
    def distance_m(self) -> float:
        """From the camera's centre to the plane, along the plane's normal."""
        a, b, g = self.inverse_m
        return float(1.0 / np.hypot(np.hypot(a, b), g))

    def depth_at(self, x_px: npt.ArrayLike, y_px: npt.ArrayLike, intrinsics: Intrinsics) -> _Float:
        """Depth of the plane, metres, where the rays of these pixels meet it (broadcast together)."""
        return np.asarray(1.0 / self._inverse_depth(x_px, y_px, intrinsics), dtype=np.float32)

    def _inverse_depth(self, x_px: npt.ArrayLike, y_px: npt.ArrayLike, intrinsics: Intrinsics) -> _Float:
        a, b, g = self.inverse_m
        ray_x = (np.asarray(x_px, np.float32) - np.float32(intrinsics.cx_px)) / np.float32(intrinsics.fx_px)
        ray_y = (np.asarray(y_px, np.float32) - np.float32(intrinsics.cy_px)) / np.float32(intrinsics.fy_px)
        return np.asarray(np.float32(a) * ray_x + (np.float32(b) * ray_y + np.float32(g)), dtype=np.float32)


def fit_background_plane(
    depth_m: DepthImage,
    intrinsics: Intrinsics,
    *,
    border_share: float = 0.08,
    keep_share: float = 0.6,
    rounds: int = 8,
    min_points: int = 200,
) -> BackgroundPlane:
    """The background's plane, by trimmed least squares on the ring along the frame's border.

    `depth_m` (H, W) metres, 0 = invalid. The ring is `border_share` of the shorter side wide; in each
    round the `keep_share` of its points nearest to the plane are kept. 1/Z of a plane is linear in the
    pixel's coordinates, and a stereo camera's noise is uniform in 1/Z, so that is what is fitted.

    Raises `DepthUnusable` where fewer than `min_points` of the ring are valid.
    """
    height, width = depth_m.shape
    ring = max(2, round(border_share * min(height, width)))
    step = 2 if min(height, width) >= 200 else 1  # every second pixel says as much, four times as fast
    on_ring = np.zeros((height, width), dtype=bool)
    on_ring[:ring] = on_ring[-ring:] = True
    on_ring[:, :ring] = on_ring[:, -ring:] = True
    ys, xs = np.nonzero(on_ring[::step, ::step] & (depth_m[::step, ::step] > 0))
    ys, xs = ys * step, xs * step
    if ys.size < min_points:
        raise DepthUnusable(
            f"only {ys.size} pixels along the frame's border have depth, {min_points} are needed to find the "
            "background; check light and texture of the tray, the camera's distance (minimum and maximum), "
            "and that the part leaves the border free"
        )
    inverse_depth = 1.0 / depth_m[ys, xs].astype(np.float64)  # (n,)
    rays = np.stack(
        [
            (xs - intrinsics.cx_px) / intrinsics.fx_px,
            (ys - intrinsics.cy_px) / intrinsics.fy_px,
            np.ones(ys.size),
        ],
        axis=1,
    )  # (n, 3)
    # Where the trimming ends depends on where it starts: begin from several shares of the ring, of which
    # one is free of the part, and go on with the plane that most of the ring lies closest to.
    starts = _starts(xs, ys, inverse_depth, width, height)
    candidates = [_trim(rays, inverse_depth, start, keep_share, rounds=3) for start in starts]
    coefficients, _ = min(candidates, key=lambda candidate: candidate[1])
    residual = np.abs(rays @ coefficients - inverse_depth)
    kept = residual <= np.quantile(residual, keep_share)
    coefficients, _ = _trim(rays, inverse_depth, kept, keep_share, rounds=rounds)
    # The trimmed points show the scale of the noise; all that lies within it has its say in the last fit.
    residual = np.abs(rays @ coefficients - inverse_depth)
    scale = float(np.median(np.sort(residual)[: max(1, round(keep_share * residual.size))]))
    inlier = residual <= max(4.0 * scale, 1e-9)
    coefficients = _least_squares(rays, inverse_depth, inlier)
    if not np.isfinite(coefficients).all() or coefficients[2] <= 0:
        raise DepthUnusable(
            "the depth along the frame's border does not lie on a plane in front of the camera; "
            "clear the tray's border, and check the camera's view"
        )
    values = np.compress(inlier, inverse_depth)  # (k,)
    spread = (np.compress(inlier, rays, axis=0) @ coefficients - values) / values**2  # (k,) metres
    return BackgroundPlane(
        inverse_m=(float(coefficients[0]), float(coefficients[1]), float(coefficients[2])),
        rms_m=float(np.sqrt(np.mean(spread**2))),
        inlier_share=float(inlier.mean()),
    )


def _starts(
    xs: npt.NDArray[np.intp],
    ys: npt.NDArray[np.intp],
    inverse_depth: npt.NDArray[np.float64],
    width: int,
    height: int,
) -> list[Mask]:
    """Shares of the ring to begin from: the middle and the far half of its depths, and its four sides."""
    low, middle, high = np.quantile(inverse_depth, (0.25, 0.5, 0.75))
    shares = [(inverse_depth >= low) & (inverse_depth <= high), inverse_depth <= middle]
    shares += [xs < width // 3, xs >= width - width // 3, ys < height // 3, ys >= height - height // 3]
    return [share for share in shares if int(share.sum()) >= 0.1 * share.size]


def _trim(
    rays: npt.NDArray[np.float64],
    inverse_depth: npt.NDArray[np.float64],
    kept: Mask,
    keep_share: float,
    *,
    rounds: int,
) -> tuple[npt.NDArray[np.float64], float]:
    """Fit, keep the nearest, fit again: the coefficients (3,), and the sum of the kept residuals."""
    coefficients = _least_squares(rays, inverse_depth, kept)
    count = max(3, round(keep_share * inverse_depth.size))
    total = math.inf
    for _ in range(rounds):
        residual = np.abs(rays @ coefficients - inverse_depth)
        nearest = np.argpartition(residual, count - 1)[:count]
        total = float(residual.take(nearest).sum())
        kept = np.zeros_like(kept)
        kept[nearest] = True
        coefficients = _least_squares(rays, inverse_depth, kept)
    return coefficients, total


def _least_squares(
    rays: npt.NDArray[np.float64], values: npt.NDArray[np.float64], kept: Mask
) -> npt.NDArray[np.float64]:
    """(3,) coefficients c with rays·c ≈ values over the kept rows, by the normal equations."""
    rows = np.compress(kept, rays, axis=0)  # (k, 3); rays[kept] is the same, and takes five times as long
    normal = rows.T @ rows  # (3, 3)
    if np.linalg.cond(normal) > 1e12:
        raise DepthUnusable(
            "the pixels with depth along the frame's border lie on one line, which holds no plane; "
            "check light and texture of the tray"
        )
    return np.asarray(np.linalg.solve(normal, rows.T @ np.compress(kept, values)))


def height_over_plane(depth_m: DepthImage, plane: BackgroundPlane, intrinsics: Intrinsics) -> _Float:
    """How far each point lies from the plane, metres, positive towards the camera; (H, W).

    Where depth is invalid (0) the height is 0: ask `depth_m > 0` which those are.
    """
    height, width = depth_m.shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    # (1 − n·P) / |n| with P = Z·(ray_x, ray_y, 1) and n = inverse_m
    heights: _Float = plane._inverse_depth(columns, rows, intrinsics)  # (H, W)
    heights *= depth_m
    np.subtract(np.float32(1.0), heights, out=heights)
    heights *= np.float32(plane.distance_m)
    heights[depth_m <= 0] = 0.0
    return heights


def foreground_mask(
    height_m: _Float,
    *,
    threshold_m: float,
    closing_px: int = 1,
    opening_px: int = 5,
    min_area_px: int = 64,
    fill: bool = True,
) -> Mask:
    """What stands more than `threshold_m` above (or below) the background; (H, W) bool.

    Notches of the outline vanish by a closing with an ellipse of `closing_px` (a stereo camera's depth is
    missing in places along every edge), specks by an opening with one of `opening_px` and by
    `min_area_px`; detached foreign bodies stay. With `fill`, what the outline encloses belongs to the
    part too: missing depth inside it, and a hole that should not be there.
    """
    raised = (np.abs(height_m) > threshold_m).astype(np.uint8)
    closed = cv2.morphologyEx(raised, cv2.MORPH_CLOSE, _ellipse(closing_px))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _ellipse(opening_px))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    large = np.zeros(count, dtype=np.uint8)
    large[1:] = stats[1:, cv2.CC_STAT_AREA] >= min_area_px
    mask = np.asarray(large[labels], dtype=np.uint8)
    if fill:
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mask, outlines, -1, color=1, thickness=cv2.FILLED)
    return np.asarray(mask, dtype=bool)


def largest_pieces(mask: Mask, *, share: float) -> Mask:
    """The largest connected piece (8 neighbours) of a mask (H, W), and those at least `share` as large."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = np.array(stats[:, cv2.CC_STAT_AREA])
    areas[0] = 0  # the background
    return np.asarray((areas >= max(1.0, share * float(areas.max())))[labels], dtype=bool)


def pieces_touching(mask: Mask, seed: Mask) -> Mask:
    """The connected pieces (8 neighbours) of a mask (H, W) that hold at least one pixel of `seed`."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    held = np.zeros(count, dtype=bool)
    held[np.unique(labels[seed & mask])] = True
    held[0] = False
    return np.asarray(held[labels], dtype=bool)


def _ellipse(diameter_px: int) -> npt.NDArray[np.uint8]:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)), dtype=np.uint8
    )


def fill_holes(values: _Float, valid: Mask) -> _Float:
    """`values` with every invalid pixel filled from its surroundings, smoothly; (H, W) float32.

    Pull-push: valid-weighted halving until no hole is left, then each hole takes the level above it.
    Valid pixels keep their value bit for bit. Raises `DepthUnusable` where no pixel is valid.
    """
    if bool(valid.all()):
        return np.array(values, dtype=np.float32)
    if not bool(valid.any()):
        raise DepthUnusable("no pixel has depth; check that the camera's lens is free and within its range")
    height, width = values.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = valid.astype(np.float32)
    coarse_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    coarse_sum = cv2.resize(values * weight, half, interpolation=cv2.INTER_AREA)
    coarse_valid = coarse_weight > 0
    coarse = np.divide(coarse_sum, coarse_weight, out=np.zeros_like(coarse_sum), where=coarse_valid)
    above = fill_holes(coarse, coarse_valid)
    filled = cv2.resize(above, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(valid, values, filled), dtype=np.float32)


def normalise_z(values_m: _Float, mask: Mask, *, scale_m: float, clamp: float | None) -> _Float:
    """The z channel: (value − its mean over the mask) / `scale_m`, within ±`clamp`; 0 outside the mask.

    `values_m` (h, w), free of holes. AST's code (Rudolph et al., 2023) takes `scale_m` = 0.01 and no
    clamp (None); without one, a spike of depth is a number that no half-precision square can hold.
    """
    if not bool(mask.any()):
        return np.zeros_like(values_m)
    centred = (values_m - np.float32(values_m[mask].mean())) / np.float32(scale_m)
    held = centred if clamp is None else np.clip(centred, -clamp, clamp)
    return np.asarray(np.where(mask, held, 0.0), dtype=np.float32)


def normals_image(
    height_m: _Float, *, pixel_m: float, smoothing_px: float, relief_m: float
) -> npt.NDArray[np.uint8]:
    """Surface slope and small relief as an image; uint8 (h, w, 3).

    Channels: the x and y components of the surface normal, −1…1 on 0…255, and the height over its own
    surroundings (a Gaussian of 4 px), ±`relief_m` on 0…255. `height_m` (h, w) is free of holes; a pixel
    is `pixel_m` wide; `smoothing_px` is the Gaussian that calms the camera's noise first.
    """
    calm = cv2.GaussianBlur(height_m, (0, 0), smoothing_px) if smoothing_px > 0 else height_m
    slope_x = cv2.Sobel(calm, cv2.CV_32F, 1, 0, ksize=3, scale=1.0 / (8.0 * pixel_m))  # (h, w)
    slope_y = cv2.Sobel(calm, cv2.CV_32F, 0, 1, ksize=3, scale=1.0 / (8.0 * pixel_m))  # (h, w)
    length = np.sqrt(1.0 + slope_x**2 + slope_y**2)
    relief = (calm - cv2.GaussianBlur(calm, (0, 0), 4.0)) / np.float32(relief_m)
    channels = np.stack(
        [-slope_x / length, -slope_y / length, np.clip(relief, -1.0, 1.0)], axis=-1
    )  # (h, w, 3)
    return np.asarray(np.rint(channels * 127.0 + 128.0), dtype=np.uint8)


def pixel_unshuffle(values: _Float, factor: int) -> _Float:
    """(h, w) → (factor², h/factor, w/factor): each cell's pixels become its channels.

    `pixel_shuffle(pixel_unshuffle(x, r), r)` is x, bit for bit. Channel order as `torch.pixel_unshuffle`.
    Raises `ValueError` where a side is no multiple of `factor`.
    """
    height, width = values.shape
    if height % factor or width % factor:
        raise ValueError(f"a {height}×{width} image can't be unshuffled by {factor}")
    cells = values.reshape(height // factor, factor, width // factor, factor)
    return np.ascontiguousarray(
        cells.transpose(1, 3, 0, 2).reshape(factor * factor, height // factor, width // factor)
    )


def pixel_shuffle(channels: _Float, factor: int) -> _Float:
    """(factor², m, n) → (m·factor, n·factor): the inverse of `pixel_unshuffle`, bit for bit."""
    count, rows, columns = channels.shape
    if count != factor * factor:
        raise ValueError(f"{count} channels can't be shuffled by {factor}")
    cells = channels.reshape(factor, factor, rows, columns)
    return np.ascontiguousarray(cells.transpose(2, 0, 3, 1).reshape(rows * factor, columns * factor))
