from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from edge.scoring import ScoreSpec, image_score, smooth_map

_Cells = npt.NDArray[np.float32]

CELLS = hnp.arrays(np.float32, (6, 6), elements=st.floats(0, 100, width=32))
MASKS = hnp.arrays(bool, (24, 24))


@given(CELLS, MASKS, st.floats(0, 6))
def test_smoothing_never_leaves_the_map_s_range_and_is_zero_outside(
    cells: _Cells, mask: npt.NDArray[np.bool_], smoothing_px: float
) -> None:
    square = smooth_map(cells, mask, ScoreSpec(smoothing_px=smoothing_px))
    assert square.shape == (24, 24)
    assert square.dtype == np.float32
    assert (square[~mask] == 0).all()
    if mask.any():
        assert square[mask].min() >= cells.min() - 1e-4 * max(1, cells.max())
        assert square[mask].max() <= cells.max() * (1 + 1e-4)


@given(st.floats(0, 50, width=32), st.floats(0, 6))
def test_an_even_map_stays_even(value: float, smoothing_px: float) -> None:
    everywhere = np.ones((24, 24), bool)
    square = smooth_map(np.full((6, 6), value, np.float32), everywhere, ScoreSpec(smoothing_px=smoothing_px))
    np.testing.assert_allclose(square, value, rtol=1e-5, atol=1e-30)


def test_a_hot_cell_lies_where_its_pixels_lie() -> None:
    cells = np.zeros((6, 6), np.float32)
    cells[1, 4] = 1.0
    square = smooth_map(cells, np.ones((24, 24), bool), ScoreSpec(smoothing_px=1.0))
    rows, columns = np.mgrid[:24, :24]
    assert (square * rows).sum() / square.sum() == pytest.approx(1 * 4 + 1.5, abs=0.05)
    assert (square * columns).sum() / square.sum() == pytest.approx(4 * 4 + 1.5, abs=0.3)  # the edge is near


@given(hnp.arrays(np.float32, (24, 24), elements=st.floats(0, 100, width=32)), MASKS, st.floats(0.001, 1.0))
def test_each_kind_of_score_is_what_its_name_says(
    square: _Cells, mask: npt.NDArray[np.bool_], share: float
) -> None:
    inside = sorted((float(v) for v in square[mask]), reverse=True)
    expected = {"max": 0.0, "mean": 0.0, "top_mean": 0.0}
    if inside:
        top = inside[: max(1, round(share * len(inside)))]
        expected = {"max": inside[0], "mean": sum(inside) / len(inside), "top_mean": sum(top) / len(top)}
    scores = {
        kind: image_score(square, mask, ScoreSpec.model_validate({"kind": kind, "top_share": share}))
        for kind in expected
    }
    assert scores == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert scores["mean"] <= scores["top_mean"] * (1 + 1e-6) + 1e-9
    assert scores["top_mean"] <= scores["max"] * (1 + 1e-6)


def test_what_lies_outside_the_part_has_no_say() -> None:
    square = np.zeros((8, 8), np.float32)
    square[0, 0] = 1000.0
    mask = np.zeros((8, 8), bool)
    mask[4:, 4:] = True
    square[5, 5] = 2.0
    assert image_score(square, mask, ScoreSpec()) == 2.0


@pytest.mark.parametrize(
    "given_", [{"kind": "median"}, {"smoothing_px": -1}, {"top_share": 0}, {"top_share": 1.5}, {"knd": "max"}]
)
def test_a_score_that_there_is_not(given_: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given_))):
        ScoreSpec.model_validate(given_)


def test_bicubic_overshoots_and_bilinear_does_not() -> None:
    cells = np.zeros((8, 8), np.float32)
    cells[3, 4] = 1.0
    everywhere = np.ones((64, 64), bool)
    bilinear, bicubic = (
        smooth_map(cells, everywhere, ScoreSpec.model_validate({"smoothing_px": 0.0, "interpolation": how}))
        for how in ("bilinear", "bicubic")
    )
    assert bilinear.min() == 0.0
    assert bilinear.max() <= 1.0
    assert bicubic.min() < -0.05
    step = np.zeros((8, 8), np.float32)
    step[:, 4:] = 1.0
    over = smooth_map(step, everywhere, ScoreSpec(smoothing_px=0.0, interpolation="bicubic"))
    assert image_score(over, everywhere, ScoreSpec()) > 1.05


def test_bicubic_is_torch_s_in_which_ast_brings_up_its_map() -> None:
    torch = pytest.importorskip("torch")
    cells = np.random.default_rng(0).random((24, 24)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(cells)[None, None], scale_factor=8, mode="bicubic", align_corners=False
    )[0, 0].numpy()
    spec = ScoreSpec(smoothing_px=0.0, interpolation="bicubic")
    assert np.allclose(smooth_map(cells, np.ones((192, 192), bool), spec), theirs, atol=1e-5)
