"""What a D405 makes of the truth: noise, holes and steps in depth; noise and vignetting in colour.

The figures were measured on public frames of a D405 at 640×480: disparity in steps of 1/32 px,
focal length × baseline ≈ 6.9 px·m, σ_z = z²·s / (f·b) with s ≈ 0.08 px (2.4 mm at 0.457 m), and an
autocorrelation of .97 .86 .62 .37 .19 0 at lags of 1 4 8 12 16 24 px.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError
from edge.frame import DepthImage, RgbImage
from edge.simulation.relief import FloatImage, float_image, white_field

__all__ = ["ColourNoise", "DepthNoise", "quantise_depth"]

# A box of 19 px (the matcher's window) under a narrow Gaussian (its sub-pixel interpolation, and the
# optics) has the measured autocorrelation to within 0.03.
_BOX_PX = 19
_GAUSS_PX = 1.5
_MARGIN_PX = 16


@dataclass(frozen=True, slots=True)
class DepthNoise:
    """Noise of passive stereo, in the terms in which a stereo camera errs: disparity.

    `focal_baseline_px_m` focal length × baseline; `sigma_disparity_px` standard deviation of the
    disparity; `disparity_step_px` its quantisation; `holes` scales how readily the matcher gives up on
    dark, bright, plain and steep places (0 = never); `left_strip` whether the strip along the left border
    is invalid that the right imager does not see; `occlusion` the same for what hides behind an object.
    """

    focal_baseline_px_m: float = 6.9
    sigma_disparity_px: float = 0.08
    disparity_step_px: float = 1 / 32
    holes: float = 1.0
    left_strip: bool = True
    occlusion: bool = True

    def __post_init__(self) -> None:
        if not (self.focal_baseline_px_m > 0 and self.disparity_step_px > 0):
            raise ConfigError(
                f"depth noise with f·b={self.focal_baseline_px_m} px·m and steps of "
                f"{self.disparity_step_px} px; both must be positive"
            )
        if not (self.sigma_disparity_px >= 0 and self.holes >= 0):
            raise ConfigError(
                f"depth noise with σ={self.sigma_disparity_px} px, holes={self.holes}; "
                "neither may be negative"
            )

    def apply(self, depth_m: DepthImage, rgb: RgbImage, rng: np.random.Generator) -> DepthImage:
        """Depth (H, W) in metres as the camera would report it, 0 where it reports none; not yet in units.

        `depth_m` the true depth, positive everywhere; `rgb` what the imagers see, uint8 (H, W, 3).
        """
        shape = depth_m.shape
        true_px = np.float32(self.focal_baseline_px_m) / depth_m
        noise = _blobs(rng, (shape[0], shape[1])) * np.float32(self.sigma_disparity_px)
        step = np.float32(self.disparity_step_px)
        measured_px = np.rint((_matched(true_px) + noise) / step) * step
        measured_px = np.maximum(measured_px, step)

        invalid = np.zeros(shape, dtype=np.bool_)
        if self.holes > 0:
            invalid |= _unmatched(depth_m, rgb, rng, self.holes)
        columns = np.arange(shape[1], dtype=np.float32)
        seen_right = columns - true_px  # where the right imager sees the point
        if self.left_strip:
            invalid |= seen_right < 0
        if self.occlusion:
            nearer = np.minimum.accumulate(seen_right[:, ::-1], axis=1)[:, ::-1]
            invalid |= seen_right - nearer > 0.5
        result: DepthImage = np.where(
            invalid, np.float32(0), np.float32(self.focal_baseline_px_m) / measured_px
        )
        return result


@dataclass(frozen=True, slots=True)
class ColourNoise:
    """Noise of the imager behind its ISP: `sigma` in 8-bit steps, `blur_px` of the optics, `vignetting` the
    relative loss of light in the corners."""

    sigma: float = 1.6
    blur_px: float = 0.55
    vignetting: float = 0.18

    def __post_init__(self) -> None:
        if not (self.sigma >= 0 and self.blur_px >= 0 and 0 <= self.vignetting < 1):
            raise ConfigError(
                f"colour noise with σ={self.sigma}, blur={self.blur_px} px, vignetting={self.vignetting}; "
                "σ and blur may not be negative, vignetting must lie in [0, 1)"
            )

    def vignette(self, height_px: int, width_px: int) -> FloatImage:
        """Relative light (H, W): 1 in the middle, 1 - `vignetting` in the corners."""
        y = np.linspace(-1, 1, height_px, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width_px, dtype=np.float32)[None, :]
        light: FloatImage = 1 - np.float32(self.vignetting / 2) * (x * x + y * y)
        return light

    def apply(self, linear: FloatImage, rng: np.random.Generator) -> RgbImage:
        """8-bit colour (H, W, 3) of linear light (H, W, 3), 0 or more, 1 = white.

        The tone curve is a square root: it turns the imager's shot noise into noise of one size, so that
        `sigma` holds for dark and for bright places.
        """
        light = linear
        if self.blur_px > 0:
            light = float_image(cv2.GaussianBlur(linear, (0, 0), self.blur_px))
        value = np.sqrt(light)
        grain = white_field(rng, linear.shape) if self.sigma > 0 else np.zeros_like(value)
        # Rounds to the nearest and saturates.
        noisy = cv2.addWeighted(value, 255, grain, self.sigma, 0, dtype=cv2.CV_8U)
        return np.asarray(noisy, dtype=np.uint8)


def quantise_depth(depth_m: DepthImage, unit_m: float) -> DepthImage:
    """Depth as a driver gives it: float32(integer) × float32(unit), the integer the nearest in 16 bits.

    Exactly this product, so that `rint(depth / unit)` gives the integer back and a push as z16 loses
    nothing. 0 stays 0; what does not fit into 16 bits becomes 0.
    """
    units = np.rint(depth_m / np.float32(unit_m))
    units[units > np.iinfo(np.uint16).max] = 0
    quantised: DepthImage = units.astype(np.uint16).astype(np.float32) * np.float32(unit_m)
    return quantised


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """A Gaussian field (H, W) of unit variance with the measured autocorrelation."""
    margin = _MARGIN_PX
    white = white_field(rng, (shape[0] + 2 * margin, shape[1] + 2 * margin))
    gauss = cv2.getGaussianKernel(13, _GAUSS_PX)[:, 0]
    kernel = np.convolve(np.full(_BOX_PX, 1 / _BOX_PX), gauss)
    smooth = cv2.sepFilter2D(cv2.blur(white, (_BOX_PX, _BOX_PX)), -1, gauss, gauss)
    return float_image(smooth[margin:-margin, margin:-margin] / np.float32((kernel**2).sum()))


def _matched(disparity_px: FloatImage) -> FloatImage:
    """The disparity that a matcher with a window finds: what is narrower than the window is lost."""
    return float_image(cv2.blur(cv2.medianBlur(disparity_px, 5), (3, 3)))


def _unmatched(
    depth_m: DepthImage, rgb: RgbImage, rng: np.random.Generator, holes: float
) -> npt.NDArray[np.bool_]:
    """Where the matcher gives up, bool (H, W): plain, dark or blown-out places, and steep ones."""
    height, width = depth_m.shape
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = cv2.blur(grey, (9, 9))
    variance = np.maximum(cv2.blur(grey * grey, (9, 9)) - mean * mean, 0)
    doubt = np.maximum(np.float32(0.6) - np.sqrt(variance) * np.float32(0.6 / 4), 0)  # plain
    np.maximum(doubt, (np.float32(60) - mean) * np.float32(1 / 60), out=doubt)  # dark
    np.maximum(doubt, (mean - np.float32(225)) * np.float32(1 / 30), out=doubt)  # blown out

    kernel = np.ones((5, 5), np.uint8)
    steep = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel) > np.float32(3e-3)
    np.maximum(doubt, steep * np.float32(0.85), out=doubt)

    half = white_field(rng, (height // 2 + 1, width // 2 + 1))
    sigma = 1.6
    smooth = cv2.GaussianBlur(half, (0, 0), sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)
    field = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    # Three σ where all is well, so 1 ‰ of the tray; less the more there is to doubt.
    threshold = np.float32(3.0) - np.float32(2.6 * holes) * doubt
    unmatched: npt.NDArray[np.bool_] = field > threshold
    return unmatched
