"""Order statistics by digits against a sort of everything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from train.metrics.quantiles import good_scores_at


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_is_what_a_sort_gives(dtype: type[np.floating], data: st.DataObject) -> None:
    bits = arrays.arrays(f"u{np.dtype(dtype).itemsize}", (3, 4))  # every float there is, and -0.0
    maps: list[npt.NDArray[np.floating]] = [
        np.nan_to_num(data.draw(bits).view(dtype), nan=0.0, posinf=1.0, neginf=-1.0) for _ in range(2)
    ]
    masks = [np.zeros((3, 4), dtype=bool), np.eye(3, 4, dtype=bool)]
    everything = np.sort(np.concatenate([m[~mask] for mask, m in zip(masks, maps, strict=True)]))
    positions = np.array(data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=8)))
    found = good_scores_at(masks, maps, positions, chunk_pixels=data.draw(st.integers(1, 30)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, everything[positions])
