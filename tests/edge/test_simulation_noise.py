"""The simulated D405 errs as the real one was measured to err."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.simulation.noise import ColourNoise, DepthNoise, quantise_depth
from edge.simulation.relief import white_field
from edge.simulation.tray import tray_colour

SHAPE = (480, 640)
MEASURED_AUTOCORRELATION = {1: 0.97, 4: 0.86, 8: 0.62, 12: 0.37, 16: 0.19, 24: 0.0}


def plane(distance_m: float) -> npt.NDArray[np.float32]:
    return np.full(SHAPE, distance_m, dtype=np.float32)


@pytest.fixture(scope="module")
def mat() -> npt.NDArray[np.uint8]:
    colour = tray_colour(np.random.default_rng(5), *SHAPE, rgb=(0.30, 0.36, 0.44), contrast=0.11)
    return ColourNoise().apply(colour, np.random.default_rng(6))


@pytest.mark.parametrize(
    ("distance_m", "low_m", "high_m"), [(0.457, 2.2e-3, 2.8e-3), (0.24, 0.28e-3, 0.75e-3)]
)
def test_standard_deviation_is_the_measured_one(
    mat: npt.NDArray[np.uint8], distance_m: float, low_m: float, high_m: float
) -> None:
    noise = DepthNoise(holes=0, left_strip=False)
    sigmas = [
        float(noise.apply(plane(distance_m), mat, np.random.default_rng(seed)).std()) for seed in range(6)
    ]
    assert low_m < np.mean(sigmas) < high_m


def test_noise_grows_with_the_square_of_the_distance(mat: npt.NDArray[np.uint8]) -> None:
    noise = DepthNoise(holes=0, left_strip=False)
    near, far = (
        np.mean([noise.apply(plane(z), mat, np.random.default_rng(seed)).std() for seed in range(6)])
        for z in (0.15, 0.30)
    )
    assert far / near == pytest.approx(4.0, rel=0.05)


def test_noise_is_blobby_as_measured(mat: npt.NDArray[np.uint8]) -> None:
    noise = DepthNoise(holes=0, left_strip=False)
    errors = []
    for seed in range(8):
        disparity = 6.9 / noise.apply(plane(0.24), mat, np.random.default_rng(seed)).astype(np.float64)
        errors.append(disparity - disparity.mean())
    variance = np.mean([np.mean(e * e) for e in errors])
    for lag, measured in MEASURED_AUTOCORRELATION.items():
        along = np.mean([np.mean(e[:, lag:] * e[:, :-lag]) for e in errors]) / variance
        down = np.mean([np.mean(e[lag:] * e[:-lag]) for e in errors]) / variance
        assert (along + down) / 2 == pytest.approx(measured, abs=0.06), lag


def test_disparity_comes_in_steps_of_a_32nd(mat: npt.NDArray[np.uint8]) -> None:
    depth = DepthNoise(holes=0, left_strip=False).apply(plane(0.3), mat, np.random.default_rng(0))
    steps = 6.9 / depth.astype(np.float64) * 32
    assert np.abs(steps - np.rint(steps)).max() < 1e-2
    assert len(np.unique(np.rint(steps))) > 5


def test_textured_tray_is_filled_as_measured_but_for_the_left_strip(mat: npt.NDArray[np.uint8]) -> None:
    depth = DepthNoise().apply(plane(0.24), mat, np.random.default_rng(1))
    valid = depth > 0
    assert 0.93 <= valid.mean() < 0.97
    strip = int(np.ceil(6.9 / 0.24))
    assert not valid[:, :strip].any()
    assert valid[:, strip:].mean() > 0.99


def test_an_object_casts_its_occlusion_to_the_left(mat: npt.NDArray[np.uint8]) -> None:
    depth = plane(0.30)
    depth[160:320, 250:400] = 0.20
    valid = DepthNoise(sigma_disparity_px=0, holes=0).apply(depth, mat, np.random.default_rng(0)) > 0
    # Disparities of 23 and 34.5 px: the right imager misses what lies up to 11.5 px left of the object.
    assert not valid[170:310, 240:250].any()
    assert valid[170:310, 50:236].all()
    assert valid[170:310, 402:].all()


def test_dark_and_plain_surfaces_lose_more_than_the_mat(mat: npt.NDArray[np.uint8]) -> None:
    def fill(rgb: npt.NDArray[np.uint8]) -> float:
        noise = DepthNoise(left_strip=False)
        return float((noise.apply(plane(0.24), rgb, np.random.default_rng(2)) > 0).mean())

    black = np.full((*SHAPE, 3), 6, dtype=np.uint8)
    white = np.full((*SHAPE, 3), 255, dtype=np.uint8)
    plain = np.full((*SHAPE, 3), 128, dtype=np.uint8)
    assert 0.38 < fill(black) < 0.80
    assert 0.38 < fill(white) < 0.80
    assert fill(plain) < fill(mat)


@given(
    integer=st.integers(min_value=0, max_value=65535),
    unit_m=st.sampled_from([1e-4, 1e-3, 2.5e-4, 1e-5]),
)
def test_quantised_depth_gives_its_integer_back(integer: int, unit_m: float) -> None:
    unit = np.float32(unit_m)
    depth = np.full((2, 2), np.float32(integer) * unit, dtype=np.float32)
    quantised = quantise_depth(depth, unit_m)
    assert quantised.dtype == np.float32
    assert quantised[0, 0] == np.float32(integer) * unit
    assert int(np.rint(quantised[0, 0] / unit)) == integer
    np.testing.assert_array_equal(quantise_depth(quantised, unit_m), quantised)


def test_depth_that_does_not_fit_16_bits_is_invalid() -> None:
    assert quantise_depth(np.array([[7.0, 6.5]], dtype=np.float32), 1e-4).tolist() == [[0.0, np.float32(6.5)]]


def test_colour_noise_has_its_sigma_in_dark_and_bright_places() -> None:
    for level in (0.05, 0.5):
        grey = np.full((200, 200, 3), level, dtype=np.float32)
        rgb = ColourNoise(sigma=2.0, blur_px=0).apply(grey, np.random.default_rng(0))
        assert rgb.std() == pytest.approx(2.0, abs=0.1)
        assert rgb.mean() == pytest.approx(255 * np.sqrt(level), abs=0.2)


def test_vignetting_darkens_the_corners() -> None:
    light = ColourNoise(vignetting=0.2).vignette(101, 201)
    assert light[50, 100] == pytest.approx(1.0)
    assert light[0, 0] == pytest.approx(0.8)


def test_white_field_is_white_and_of_unit_variance() -> None:
    field = white_field(np.random.default_rng(0), (512, 512))
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0.0, abs=0.01)
    assert field.std() == pytest.approx(1.0, abs=0.01)
    assert np.mean(field[:, 1:] * field[:, :-1]) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    "arguments",
    [
        {"focal_baseline_px_m": 0.0},
        {"sigma_disparity_px": -0.1},
        {"disparity_step_px": 0.0},
        {"holes": -1.0},
        {"sigma_disparity_px": float("nan")},
    ],
)
def test_impossible_depth_noise_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="depth noise"):
        DepthNoise(**arguments)  # type: ignore[arg-type]  # one value type for all parameters


def test_impossible_colour_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="colour noise"):
        ColourNoise(vignetting=1.0)
