from __future__ import annotations

import pytest

from tests.score_power import SHIFTS, drift_row, in_docs


@pytest.mark.parametrize("quiet", [0, 500])
def test_the_docs_say_what_the_watch_finds(quiet: int) -> None:
    row = drift_row(50, quiet)
    assert len(row.split("|")) == len(SHIFTS) + 4
    assert row in in_docs().splitlines()
