from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import train.report
from edge.errors import TrainingError
from train.report.page import data_uri, number, percent, render, write_page

TEMPLATES = Path(train.report.__file__).parent / "templates"


def test_a_page_escapes_what_it_is_given() -> None:
    html = render("base.html.j2", title="<script>alert(1)</script>")
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_what_the_template_asks_for_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base.html.j2")


def test_light_dark_and_paper_know_the_same_colours() -> None:
    style = (TEMPLATES / "base.html.j2").read_text(encoding="utf-8")
    light, dark, paper = (
        set(re.findall(r"(--[\w-]+):", block)) - {"--font", "--mono"}
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    assert light == dark == paper
    used = {
        name for path in TEMPLATES.glob("*.j2") for name in re.findall(r"var\((--[\w-]+)\)", path.read_text())
    }
    assert used <= light | {"--font", "--mono"}


def test_templates_name_nothing_outside_the_page() -> None:
    for path in TEMPLATES.glob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"https?:|//[\w.]+/|@import|<script|url\(", text), path.name


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(tmp_path / "new" / "page.html", "ä")
    assert (tmp_path / "new" / "page.html").read_bytes() == "ä".encode()
    write_page(tmp_path / "new" / "page.html", "b")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    with pytest.raises(TrainingError, match="can't be written"):
        write_page(tmp_path / "new" / "page.html" / "below", "c")
    with pytest.raises(TrainingError, match="can't be written"):
        write_page(tmp_path / "new", "c")
    assert (tmp_path / "new" / "page.html").read_text() == "b"


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0, "0 %"), (0.012, "1.2 %"), (0.1, "10 %"), (1.0, "100 %")]
)
def test_shares_are_percent(value: float | None, said: str) -> None:
    assert percent(value) == said


def test_numbers_and_pictures() -> None:
    assert (number(0.96251), number(None), number(1.0, 2)) == ("0.963", "–", "1.00")
    assert data_uri(b"\x00\xff", "png") == "data:image/png;base64,AP8="
