"""`edge-calibrate` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from edge.commands.calibrate import app

RUN = CliRunner().invoke


def scores_file(folder: Path, count: int = 400) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{score},good" for score in rng.standard_normal(count)]
    rows += [f"{score},dent" for score in 5 + rng.standard_normal(20)]
    path = folder / "scores.csv"
    path.write_text("score,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_program_reads_what_is_promised(tmp_path: Path) -> None:
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["kept"] is True
    assert said["asked_alpha"] == 0.01
    assert said["alpha"] <= 0.01
    assert said["confidence"] == 0.95
    assert said["good_parts"] == 400
    assert said["found_by_defect"]["dent"]["of"] == 20


def test_a_person_reads_the_promise_first(tmp_path: Path) -> None:
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--costs", "1:50"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("At most 0.746 % of good parts are rejected, with 95 % confidence")
    assert "of the bad parts scored" in result.stdout


def test_too_few_parts_end_with_an_error(tmp_path: Path) -> None:
    path = scores_file(tmp_path, 50)
    result = RUN(app, ["fit", "--scores", str(path)])
    assert result.exit_code == 11
    assert "that takes 299" in result.stderr
    taken = RUN(app, ["fit", "--scores", str(path), "--best-effort", "--json"])
    assert taken.exit_code == 0
    assert json.loads(taken.stdout)["kept"] is False


def test_wrong_command_lines(tmp_path: Path) -> None:
    assert RUN(app, ["fit"]).exit_code == 2
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--costs", "50"])
    assert result.exit_code == 11
    assert "two numbers, such as 1:50" in result.stderr


def test_how_many_parts() -> None:
    result = RUN(app, ["need", "--alpha", "0.01", "--delta", "0.05", "--json"])
    assert json.loads(result.stdout)["parts"] == 299
    table = RUN(app, ["need"])
    assert table.exit_code == 0
    assert "2995" in table.stdout
