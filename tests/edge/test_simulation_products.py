"""Good parts of one product are alike, and no two are the same."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ConfigError
from edge.simulation.products import CELL_M, PRODUCTS, product_named

HEIGHT_RANGE_M = (4e-3, 17e-3)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_part_fits_its_radius_and_stands_on_the_tray(name: str) -> None:
    product = product_named(name)
    for seed in range(3):
        part = product.part(np.random.default_rng(seed))
        rows, columns = np.nonzero(part.solid)
        middle = (part.solid.shape[0] - 1) / 2
        reach_m = np.hypot(rows - middle, columns - middle).max() * CELL_M
        assert 0.8 * product.radius_m < reach_m < product.radius_m
        assert part.cell_m == CELL_M
        assert (part.height_m[~part.solid] == 0).all()
        assert (part.height_m[part.solid] > 0).all()
        assert HEIGHT_RANGE_M[0] < part.height_m.max() < HEIGHT_RANGE_M[1]
        assert ((part.albedo > 0) & (part.albedo <= 1)).all()
        assert part.height_m.dtype == part.albedo.dtype == part.gloss.dtype == np.float32


@pytest.mark.parametrize("name", PRODUCTS)
def test_good_parts_differ_a_little(name: str) -> None:
    product = product_named(name)
    one, two = (product.part(np.random.default_rng(seed)) for seed in (1, 2))
    both = one.solid & two.solid
    assert both.sum() > 0.9 * one.solid.sum()
    difference_m = np.abs(one.height_m - two.height_m)[both]
    assert 0.01e-3 < np.median(difference_m) < 1e-3
    colour = np.abs(np.sqrt(one.albedo) - np.sqrt(two.albedo))[both]
    assert 0.003 < np.median(colour) < 0.08


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_part_depends_on_its_random_numbers_alone(name: str) -> None:
    one, two = (product_named(name).part(np.random.default_rng(3)) for _ in range(2))
    assert one.height_m.tobytes() == two.height_m.tobytes()
    assert one.albedo.tobytes() == two.albedo.tobytes()


def test_products_are_told_apart_by_their_openings() -> None:
    solid = {
        name: float(product_named(name).part(np.random.default_rng(0)).solid.sum()) * CELL_M**2 * 1e6
        for name in PRODUCTS
    }
    # Areas in mm²: a plate of 84 × 56 less corners and screw holes; a grid of 76 × 76 less 36 openings.
    assert solid["plate"] == pytest.approx(84 * 56 - (4 - np.pi) * 36 - 4 * np.pi * 2.4**2, rel=0.01)
    assert 76 * 76 * 0.4 < solid["lattice"] < 76 * 76 * 0.75
    assert solid["ring"] == pytest.approx(np.pi * (36.2**2 - 11.5**2), rel=0.05)


def test_an_unknown_product_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no simulated product is called 'cup'; choose one of blob"):
        product_named("cup")
