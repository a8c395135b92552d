from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError
from train.report.few_parts import CurveRow, load_rows, spreads


def row(method: str, parts: int, seed: int, i_auroc: float) -> dict[str, object]:
    return {"method": method, "parts": parts, "seed": seed, "i_auroc": i_auroc, "aupro_30": 0.9, "more": 1}


def test_rows_become_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    values = [0.7, 0.8, 0.95]
    rows = [row("msd", 10, seed, value) for seed, value in enumerate(values)]
    (tmp_path / "results.json").write_text(json.dumps([row("msd", 20, 0, 0.9), *rows]))
    found = spreads(load_rows(tmp_path / "results.json"), lambda one: one.i_auroc)
    ten, twenty = found["msd"]
    assert (ten.parts, twenty.parts) == (10, 20)
    assert ten.mean == pytest.approx(np.mean(values))
    assert ten.sd == pytest.approx(np.std(values, ddof=1))
    assert twenty.sd is None


def test_methods_stay_apart() -> None:
    rows = [CurveRow.model_validate(row(name, 10, 0, value)) for name, value in (("a", 0.5), ("b", 0.6))]
    assert {name: points[0].mean for name, points in spreads(rows, lambda r: r.i_auroc).items()} == {
        "a": 0.5,
        "b": 0.6,
    }


def test_of_several_categories_the_spread_is_that_of_their_mean_over_seeds() -> None:
    rows = [
        CurveRow.model_validate({**row("a", 10, seed, value), "category": name})
        for name, seed, value in (("x", 0, 0.5), ("y", 0, 0.9), ("x", 1, 0.6), ("y", 1, 1.0))
    ]
    (point,) = spreads(rows, lambda one: one.i_auroc)["a"]
    assert point.mean == pytest.approx(0.75)
    assert point.sd == pytest.approx(np.std([0.7, 0.8], ddof=1))


def test_rows_that_were_given_all_parts_are_one_point() -> None:
    rows = [
        CurveRow.model_validate({**row("a", parts, 0, value), "category": name, "parts_asked": asked})
        for name, parts, value, asked in (
            ("x", 10, 0.5, 10),
            ("y", 10, 0.7, 10),
            ("x", 40, 0.8, None),
            ("y", 60, 1.0, None),
        )
    ]
    few, whole = spreads(rows, lambda one: one.i_auroc)["a"]
    assert (few.parts, few.mean) == (10, pytest.approx(0.6))
    assert (whole.parts, whole.mean) == (50, pytest.approx(0.9))


def test_rows_without_a_figure_are_left_out() -> None:
    unmarked = CurveRow.model_validate({**row("a", 10, 0, 0.5), "aupro_30": None})
    assert spreads([unmarked], lambda one: one.aupro_30) == {}
    assert spreads([unmarked], lambda one: one.i_auroc)["a"][0].mean == 0.5


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "the file"),
        ("{}", "JSON list"),
        ("[]", "holds no row"),
        (json.dumps([row("msd", 10, 0, 0.9), row("msd", 10, 1, 1.9)]), r"1\.i_auroc"),
        (json.dumps([row("msd", 0, 0, 0.9)]), r"0\.parts"),
        (json.dumps([row("msd", 10, 0, 0.9)]).replace("0.9,", "NaN,", 1), r"0\.i_auroc"),
        ('[{"method": "msd"}]', r"0\.parts"),
        (b"\xff\xfe", "the file"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str | bytes, word: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=word) as caught:
        load_rows(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_rows(tmp_path / "none.json")
