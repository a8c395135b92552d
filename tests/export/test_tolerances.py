"""One set of bounds: a device may differ by what the workstation verified by, and by what the docs say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from edge.bundle import Precision
from edge.selftest import TOLERANCES
from export.verification import Tolerances

DOCS = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_device_may_be_no_worse_than_the_workstation_and_need_be_no_better(precision: Precision) -> None:
    assert Tolerances().of(precision).tensor == TOLERANCES[precision]


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_docs_have_the_bounds(precision: Precision) -> None:
    table = DOCS.read_text(encoding="utf-8").partition("## Tolerances")[2]
    row = next(line for line in table.splitlines() if line.startswith(f"| {precision} |"))
    tensor, score = (float(cell) for cell in row.split("|")[2:4])
    assert (tensor, score) == (Tolerances().of(precision).tensor, Tolerances().of(precision).score)
