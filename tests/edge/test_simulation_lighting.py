"""Light falls on a relief as a person would expect."""

from __future__ import annotations

import numpy as np
import pytest

from edge.simulation.lighting import Light, shade
from edge.simulation.relief import FloatImage, Relief

SHAPE = (240, 240)
CELL_M = 0.25e-3
FROM_LEFT = Light(towards=(-0.6, 0.0, 0.8), ambient=0.4, gain=(1.0, 1.0, 1.0))


def relief_of(height_m: FloatImage, gloss: float = 0.0) -> Relief:
    return Relief(
        height_m=height_m.astype(np.float32),
        solid=height_m > 0,
        albedo=np.full((*SHAPE, 3), 0.5, dtype=np.float32),
        gloss=np.full(SHAPE, gloss, dtype=np.float32),
        cell_m=CELL_M,
    )


def box(height_m: float = 8e-3) -> FloatImage:
    height = np.zeros(SHAPE, dtype=np.float32)
    height[80:160, 100:140] = height_m
    return height


def test_a_flat_free_surface_shows_its_albedo() -> None:
    colour, beneath = shade(relief_of(np.full(SHAPE, 5e-3, dtype=np.float32)), FROM_LEFT)
    assert colour[120, 120] == pytest.approx([0.5] * 3, rel=1e-3)
    assert beneath[120, 120] == pytest.approx(1.0, rel=1e-3)


def test_the_shadow_falls_away_from_the_lamp_and_is_as_long_as_it_should_be() -> None:
    _, beneath = shade(relief_of(box()), FROM_LEFT)
    row = beneath[120]
    length_cells = 8e-3 * 0.6 / 0.8 / CELL_M  # 24 cells right of the box
    assert row[143 : 140 + int(length_cells) - 12].max() < 0.7
    assert row[140 + int(length_cells) + 12 :].min() > 0.9
    assert row[:60].min() > 0.9
    assert row[90:98].mean() > row[142:150].mean() + 0.2


def test_slopes_towards_the_lamp_are_brighter() -> None:
    x = np.arange(SHAPE[1], dtype=np.float32)
    ridge = np.repeat((10e-3 - np.abs(x - 120) * np.float32(CELL_M * 0.3))[None, :], SHAPE[0], axis=0)
    colour, _ = shade(relief_of(ridge), FROM_LEFT)
    left, right = colour[120, 60, 0], colour[120, 180, 0]
    assert left > 0.5 > right


def test_a_pit_is_darker_than_its_surroundings() -> None:
    height = np.full(SHAPE, 10e-3, dtype=np.float32)
    height[110:130, 110:130] = 2e-3
    colour, _ = shade(relief_of(height), FROM_LEFT)
    assert colour[120, 120, 0] < 0.7 * colour[40, 40, 0]


def test_gloss_adds_a_highlight_of_the_lamps_colour() -> None:
    flat = np.full(SHAPE, 5e-3, dtype=np.float32)
    overhead = Light(towards=(0.0, 0.0, 1.0), ambient=0.4, gain=(1.0, 1.0, 1.0))
    dull, glossy = (shade(relief_of(flat, gloss), overhead)[0][120, 120] for gloss in (0.0, 0.2))
    assert glossy - dull == pytest.approx([0.2] * 3, rel=1e-3)


def test_a_turned_part_sees_the_lamp_from_the_other_side() -> None:
    turned = FROM_LEFT.turned(np.pi)
    assert turned.towards == pytest.approx((0.6, 0.0, 0.8), abs=1e-9)
    assert FROM_LEFT.turned(0.0).towards == pytest.approx(FROM_LEFT.towards)
    quarter = FROM_LEFT.turned(np.pi / 2)
    assert quarter.towards == pytest.approx((0.0, 0.6, 0.8), abs=1e-9)
