"""The simulated rig: a D405 above a tray, on which one part after another lies, good or defective."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError
from edge.frame import DepthImage, Intrinsics, RgbImage
from edge.simulation.defects import DEFECTS, apply_defect
from edge.simulation.lighting import Light, shade
from edge.simulation.noise import ColourNoise, DepthNoise, quantise_depth
from edge.simulation.products import Product, product_named
from edge.simulation.relief import FloatImage, Relief, float_image
from edge.simulation.scene import Shot
from edge.simulation.tray import tray_colour
from edge.simulation.view import Hits, Pose, View, Window, d405_intrinsics

__all__ = ["Appearance", "RigScene"]

_DEPTH_UNIT_M = 1e-4
_SUPERSAMPLING = 2
_SHADOW_MARGIN_M = 12e-3
_TOP_M = 20e-3  # no good part is taller
_ON_PART_M = 0.25e-3  # a ray that ends higher than this above the tray ends on the part
# What counts as changed in the truth mask: a step of the camera's depth at 0.24 m, and about 10 of 255
# grey levels of the surface's own colour.
_SEEN_HEIGHT_M = 0.25e-3
_SEEN_COLOUR = 0.04
# What a careful person can see at 480 rows: more pixels of a defect that shows by its shape alone.
_LEAST_PX = {"dent": 45, "foreign_same": 45}
_LEAST_COLOURED_PX = 16
_TRIES = 12

# What each stream of random numbers is for: one more draw in one leaves the others as they are.
_RIG, _TRAY, _FATE, _POSE, _PART, _LIGHT, _DEFECT, _DEPTH, _COLOUR = range(9)


@dataclass(frozen=True, slots=True)
class Appearance:
    """What the rig looks like, and how much it varies from part to part.

    `tray_rgb` (gamma 2, 0 to 1) and `tray_contrast` (relative); `distance_m` from camera to tray and
    `tilt_deg`, the most by which the camera leans, both drawn once per seed (`distance_m` to 3 %);
    `reach_m` (x, y) how far from the middle a part may lie; `light_spread` standard deviation of the
    light's strength from shot to shot, relative.

    What a rig drifts by: `lean_deg` (about the camera's x and y axes, right-handed: x right, y down) takes
    the place of the tilt that would be drawn; `light` is the lamps' strength (red, green, blue), relative.
    """

    tray_rgb: tuple[float, float, float] = (0.30, 0.36, 0.44)
    tray_contrast: float = 0.11
    distance_m: float = 0.24
    tilt_deg: float = 2.0
    reach_m: tuple[float, float] = (0.045, 0.030)
    light_spread: float = 0.04
    lean_deg: tuple[float, float] | None = None
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0.15 <= self.distance_m <= 0.45:
            raise ConfigError(
                f"simulated camera {self.distance_m} m above the tray; must lie in 0.15 to 0.45 m"
            )
        if not 0 <= self.tilt_deg <= 10:
            raise ConfigError(f"simulated camera tilted by {self.tilt_deg}°; must lie in 0 to 10°")
        if self.lean_deg is not None and not all(abs(lean) <= 10 for lean in self.lean_deg):
            raise ConfigError(f"simulated camera leans by {self.lean_deg}°; must lie in -10 to 10°")
        if not all(0 <= strength <= 10 for strength in self.light):
            raise ConfigError(f"simulated light is {self.light} times as strong; must lie in 0 to 10")


_APPEARANCE = Appearance()
_DEPTH_NOISE = DepthNoise()
_COLOUR_NOISE = ColourNoise()


class RigScene:
    """Parts of one product under a simulated D405; `shot(i)` depends on the seed and `i` alone.

    `product` one of `PRODUCTS`; `parts` how many shots there are (None: no end); `defective_share` the
    probability of a defect, its kind drawn evenly from `defects` (None: all of `DEFECTS`), its size scaled
    by `severity`; `empty_share` the probability of a tray without a part. `depth_noise` or `colour_noise`
    None gives ideal images (depth still in the camera's units).

    A shot's mask marks what the camera sees of the defect itself, found by looking at the same part with
    and without it: where the shape differs by a quarter of a millimetre, or the surface's own colour by ten
    grey levels. The shadow that a foreign body casts is not part of it.

    What the product looks like does not depend on the seed, so a model trained on one seed knows the parts
    of another; the rig (tilt, distance, lamp, tray's texture) does. Raises `ConfigError` for impossible
    arguments.
    """

    def __init__(
        self,
        product: str,
        seed: int,
        parts: int | None = None,
        *,
        defective_share: float = 0.5,
        width_px: int = 640,
        height_px: int = 480,
        defects: Sequence[str] | None = None,
        severity: float = 1.0,
        empty_share: float = 0.0,
        depth_noise: DepthNoise | None = _DEPTH_NOISE,
        colour_noise: ColourNoise | None = _COLOUR_NOISE,
        appearance: Appearance = _APPEARANCE,
    ) -> None:
        kinds = DEFECTS if defects is None else tuple(defects)
        if seed < 0:
            raise ConfigError(f"simulation seed is {seed}; must be 0 or more")
        if parts is not None and parts < 0:
            raise ConfigError(f"simulated parts are {parts}; must be 0 or more, or None for no end")
        _check_share("defective_share", defective_share)
        _check_share("empty_share", empty_share)
        if not kinds or not set(kinds) <= set(DEFECTS):
            raise ConfigError(f"defects are {list(kinds)}; name one or more of {', '.join(DEFECTS)}")
        if not severity > 0:
            raise ConfigError(f"defect severity is {severity}; must be positive (1 = as drawn)")
        self._product: Product = product_named(product)
        self._seed, self._parts = seed, parts
        self._defective_share, self._empty_share = defective_share, empty_share
        self._kinds, self._severity = kinds, severity
        self._depth_noise, self._colour_noise = depth_noise, colour_noise
        self._appearance = appearance

        rng = self._stream(0, _RIG)
        tilt = np.deg2rad(appearance.tilt_deg) * np.sqrt(rng.random())
        direction = rng.uniform(0, 2 * np.pi)
        tilt_x_rad, tilt_y_rad = float(tilt * np.cos(direction)), float(tilt * np.sin(direction))
        if appearance.lean_deg is not None:  # the view's tilts are the tray's, seen from the camera
            tilt_x_rad, tilt_y_rad = (-math.radians(lean) for lean in appearance.lean_deg)
        self._view = View(
            intrinsics=d405_intrinsics(width_px, height_px),
            distance_m=appearance.distance_m * (1 + rng.uniform(-0.03, 0.03)),
            tilt_x_rad=tilt_x_rad,
            tilt_y_rad=tilt_y_rad,
        )
        self._check_reach()
        self._azimuth = np.deg2rad(-120) + rng.normal(0, 0.25)
        self._elevation = np.deg2rad(rng.uniform(52, 62))
        self._tray_depth_m = self._view.tray_depth_m()
        tray = tray_colour(
            self._stream(0, _TRAY),
            height_px,
            width_px,
            rgb=appearance.tray_rgb,
            contrast=appearance.tray_contrast,
        )
        # The lamp stands to one side: that side of the tray is a little brighter.
        across = np.linspace(-1, 1, width_px, dtype=np.float32)[None, :] * np.float32(np.cos(self._azimuth))
        down = np.linspace(-1, 1, height_px, dtype=np.float32)[:, None] * np.float32(np.sin(self._azimuth))
        self._falloff: FloatImage = 1 + np.float32(0.05) * (across + down)
        if colour_noise is not None:
            self._falloff = self._falloff * colour_noise.vignette(height_px, width_px)
        self._tray: FloatImage = tray * self._falloff[..., None]

    @property
    def product(self) -> str:
        """The product's name."""
        return self._product.name

    @property
    def intrinsics(self) -> Intrinsics:
        """Of colour and depth, which share one view point as on a D405."""
        return self._view.intrinsics

    @property
    def depth_unit_m(self) -> float:
        """The step of the camera's depth integers: the D405's own, 0.1 mm."""
        return _DEPTH_UNIT_M

    def shot(self, index: int) -> Shot | None:
        """The shot of that number, counted from 0; None past the scene's end."""
        if index < 0:
            raise ConfigError(f"shot {index} was asked for; shots are counted from 0")
        if self._parts is not None and index >= self._parts:
            return None
        rng = self._stream(index, _FATE)
        empty = rng.random() < self._empty_share
        defective = rng.random() < self._defective_share
        if empty:
            return self.tray(index)
        kind = self._kinds[int(rng.integers(len(self._kinds)))] if defective else None
        return self._part_shot(index, kind)

    def tray(self, index: int) -> Shot:
        """The tray without a part, as the camera would see it at the time of that shot."""
        light = self._light(index)
        linear = self._tray * np.asarray(light.gain, dtype=np.float32)
        rgb, depth_m = self._photograph(index, linear, self._tray_depth_m)
        nothing = np.zeros(depth_m.shape, dtype=np.bool_)
        return Shot(rgb=rgb, depth_m=depth_m, truth_mask=nothing, part_id=f"empty-{index:05d}", defect=None)

    def _check_reach(self) -> None:
        reach_x, reach_y = self._appearance.reach_m
        i = self.intrinsics
        for x in (-reach_x, reach_x):
            for y in (-reach_y, reach_y):
                seen = self._view.window((x, y), self._product.radius_m, _TOP_M)
                if seen.x0 == 0 or seen.y0 == 0 or seen.x1 == i.width_px or seen.y1 == i.height_px:
                    raise ConfigError(
                        f"a {self.product} at ({x:g}, {y:g}) m would leave the frame of {i.width_px}×"
                        f"{i.height_px} px, {self._view.distance_m:.3f} m away; lower `appearance.reach_m` "
                        "or raise `appearance.distance_m`"
                    )

    def part_mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Where the part of that shot would lie if it were good: bool (H, W); for tests and pictures."""
        pose = self._pose(index)
        good = self._product.part(self._stream(index, _PART))
        window = self._window(pose, good)
        hits = self._cast(good, pose, window, _top(good))
        mask = np.zeros(self._tray_depth_m.shape, dtype=np.bool_)
        mask[window.slices] = _shrink(float_image(hits.height_m > _ON_PART_M)) >= 0.5
        return mask

    def _part_shot(self, index: int, kind: str | None) -> Shot:
        pose, light = self._pose(index), self._light(index)
        good = self._product.part(self._stream(index, _PART))
        if kind is None:
            relief, truth = good, np.zeros(self._tray_depth_m.shape, dtype=np.bool_)
        else:
            relief, truth = self._spoil(index, kind, good, pose)
        window = self._window(pose, relief)
        hits = self._cast(relief, pose, window, _top(relief))

        # What of the part and of the tray beside it each pixel sees, and how much light falls there.
        colour, beneath = shade(relief, light.turned(pose.angle_rad))
        on_part = float_image(hits.height_m > _ON_PART_M)
        part = _shrink(_sample(colour, hits) * on_part[..., None]) * self._falloff[window.slices][..., None]
        ground = _shrink(_sample(beneath, hits) * (1 - on_part))
        linear = self._tray.copy()
        linear[window.slices] *= ground[..., None]
        linear[window.slices] += part
        linear *= np.asarray(light.gain, dtype=np.float32)

        depth_m = self._tray_depth_m.copy()
        _, _, dz = self._rays(window)
        depth_m[window.slices] = _shrink(self._view.depth_at(dz, hits.height_m))
        rgb, measured_m = self._photograph(index, linear, depth_m)
        part_id = f"{self._product.name}-{index:05d}"
        return Shot(rgb=rgb, depth_m=measured_m, truth_mask=truth, part_id=part_id, defect=kind)

    def _spoil(self, index: int, kind: str, good: Relief, pose: Pose) -> tuple[Relief, npt.NDArray[np.bool_]]:
        """The part with a defect that the camera can see, and the defect's mask (H, W).

        The mask is found by looking at the same part with and without the defect. One that does not show
        (a scratch that fell into a lattice's openings) is drawn anew, a little larger each time.
        """
        truth = np.zeros(self._tray_depth_m.shape, dtype=np.bool_)
        least_px = _LEAST_PX.get(kind, _LEAST_COLOURED_PX) * (self.intrinsics.height_px / 480) ** 2
        for attempt in range(_TRIES):
            rng = self._stream(index, _DEFECT, attempt)
            bad = apply_defect(kind, good, rng, self._severity * 1.1**attempt)
            window = self._changed_window(good, bad, pose)
            if window is None:
                continue
            top_m = max(_top(good), _top(bad))
            after, before = (self._cast(relief, pose, window, top_m) for relief in (bad, good))
            deeper = np.abs(after.height_m - before.height_m) > np.float32(_SEEN_HEIGHT_M)
            repainted = np.sqrt(_sample(bad.albedo, after)) - np.sqrt(_sample(good.albedo, before))
            on_part = np.minimum(after.height_m, before.height_m) > np.float32(_ON_PART_M)
            changed = deeper | ((np.abs(repainted).max(axis=2) > np.float32(_SEEN_COLOUR)) & on_part)
            # A thin line that fills two fifths of a pixel is seen in it.
            seen = _shrink(float_image(changed)) >= 0.4
            if int(seen.sum()) >= least_px:
                truth[window.slices] = seen
                return bad, truth
        raise ConfigError(
            f"no {kind} of severity {self._severity} on part {index} of {self.product} covers "
            f"{least_px:.0f} pixels in {_TRIES} tries; raise `severity` or the resolution"
        )

    def _window(self, pose: Pose, relief: Relief) -> Window:
        """The pixels on which the part or its shadow may fall."""
        reach_m = self._product.radius_m + _SHADOW_MARGIN_M
        return self._view.window((pose.x_m, pose.y_m), reach_m, _top(relief) * pose.scale)

    def _changed_window(self, good: Relief, bad: Relief, pose: Pose) -> Window | None:
        """The pixels on which two versions of a part may differ; None where they are equal."""
        red, green, blue = cv2.split((good.albedo != bad.albedo).astype(np.uint8))
        differs = (good.height_m != bad.height_m) | ((red | green | blue) > 0)
        columns, rows = np.flatnonzero(differs.any(axis=0)), np.flatnonzero(differs.any(axis=1))
        if not len(columns):
            return None
        size = np.array([columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1])
        middle = np.array([columns[-1] + columns[0], rows[-1] + rows[0]]) / 2
        cell_m = good.cell_m * pose.scale
        x, y = (middle - (np.array(differs.shape[::-1]) - 1) / 2) * cell_m
        cos, sin = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
        centre = (float(pose.x_m + cos * x - sin * y), float(pose.y_m + sin * x + cos * y))
        top_m = max(_top(good), _top(bad)) * pose.scale
        return self._view.window(centre, float(np.hypot(*size)) / 2 * cell_m + 1e-3, top_m)

    def _cast(self, relief: Relief, pose: Pose, window: Window, top_m: float) -> Hits:
        return self._view.cast(
            self._rays(window), pose, relief.height_m, relief.cell_m, top_m=top_m * pose.scale
        )

    def _rays(self, window: Window) -> tuple[FloatImage, FloatImage, FloatImage]:
        n = _SUPERSAMPLING
        u = float_image((np.arange(window.x0 * n, window.x1 * n) + 0.5) / n - 0.5)[None, :]
        v = float_image((np.arange(window.y0 * n, window.y1 * n) + 0.5) / n - 0.5)[:, None]
        return self._view.rays(u, v)

    def _photograph(self, index: int, linear: FloatImage, depth_m: DepthImage) -> tuple[RgbImage, DepthImage]:
        colour_noise = self._colour_noise or ColourNoise(sigma=0, blur_px=0, vignetting=0)
        rgb = colour_noise.apply(linear, self._stream(index, _COLOUR))
        if self._depth_noise is not None:
            depth_m = self._depth_noise.apply(depth_m, rgb, self._stream(index, _DEPTH))
        return rgb, quantise_depth(depth_m, _DEPTH_UNIT_M)

    def _pose(self, index: int) -> Pose:
        rng = self._stream(index, _POSE)
        reach_x, reach_y = self._appearance.reach_m
        return Pose(
            x_m=float(rng.uniform(-reach_x, reach_x)),
            y_m=float(rng.uniform(-reach_y, reach_y)),
            angle_rad=float(rng.uniform(0, 2 * np.pi)),
            scale=float(1 + np.clip(rng.normal(0, self._product.size_spread), -0.03, 0.03)),
        )

    def _light(self, index: int) -> Light:
        rng = self._stream(index, _LIGHT)
        azimuth = self._azimuth + rng.normal(0, 0.10)
        elevation = self._elevation + rng.normal(0, 0.03)
        strength = 1 + np.clip(rng.normal(0, self._appearance.light_spread), -0.2, 0.2)
        red, blue = np.clip(rng.normal(1, 0.012, size=2), 0.9, 1.1)
        level = np.cos(elevation)
        return Light(
            towards=(
                float(level * np.cos(azimuth)),
                float(level * np.sin(azimuth)),
                float(np.sin(elevation)),
            ),
            ambient=float(np.clip(rng.normal(0.42, 0.02), 0.3, 0.6)),
            gain=(
                float(strength * red) * self._appearance.light[0],
                float(strength) * self._appearance.light[1],
                float(strength * blue) * self._appearance.light[2],
            ),
        )

    def _stream(self, index: int, purpose: int, attempt: int = 0) -> np.random.Generator:
        name = zlib.crc32(self._product.name.encode())
        return np.random.default_rng(np.random.SeedSequence([self._seed, index, name, purpose, attempt]))


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ConfigError(f"{name} is {share}; must lie in 0 to 1")


def _top(relief: Relief) -> float:
    return float(relief.height_m.max())


def _sample(image: FloatImage, hits: Hits) -> FloatImage:
    sampled = cv2.remap(image, hits.column, hits.row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float_image(sampled)


def _shrink(image: FloatImage) -> FloatImage:
    size = (image.shape[1] // _SUPERSAMPLING, image.shape[0] // _SUPERSAMPLING)
    return float_image(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
