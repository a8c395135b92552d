"""edge-report on a run and on a bundle of simulated parts, and the page that it writes, in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from edge.errors import ConfigError, DatasetError, TrainingError
from tests.browser import needs_chromium, opened
from train.checkpoint import load_log
from train.commands.report import app
from train.datasets import open_dataset
from train.evaluation import EvaluationOptions, evaluate, predictor_of_run

ROOT = Path(__file__).parents[2]
CURVE = [
    {"method": name, "parts": parts, "seed": seed, "i_auroc": 0.9, "aupro_30": 0.95}
    for name in ("msd", "memory-bank")
    for parts in (10, 20)
    for seed in (0, 1)
]


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def text_of(html: str) -> str:
    """What a reader reads, in one line."""
    words: list[str] = []
    hidden = False

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            nonlocal hidden
            hidden = tag == "style"

        def handle_data(self, data: str) -> None:
            if not hidden:
                words.append(data)

    Reader().feed(html)
    return " ".join(" ".join(words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, simulated: Path) -> Path:
    """The report of the tiny run, with a curve over few parts."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "curve.json").write_text(json.dumps(CURVE))
    result = report(
        "--run", tiny_run, "--data", simulated / "test", "--out", folder / "report.html",
        "--curve", folder / "curve.json", "--bootstrap", 50,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "report.html"


@pytest.fixture(scope="module")
def good_only(tmp_path_factory: pytest.TempPathFactory, simulated: Path) -> Path:
    """Test parts among which none is defective."""
    folder = tmp_path_factory.mktemp("good") / "lot"
    shutil.copytree(simulated / "train", folder)
    return folder


def test_the_figures_on_the_page_are_those_of_the_evaluation(
    written: Path, tiny_run: Path, simulated: Path
) -> None:
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    found = evaluate(predictor_of_run(tiny_run), samples, lambda n: None, EvaluationOptions(bootstrap=50))
    figures, text = found.figures, text_of(written.read_text(encoding="utf-8"))
    assert figures.intervals is not None
    low, high = figures.intervals.i_auroc.low, figures.intervals.i_auroc.high
    assert f"I-AUROC {figures.i_auroc:.3f} {low:.3f} – {high:.3f}" in text
    for name, value in (
        ("AUPRO@30", figures.aupro_30),
        ("AUPRO@5", figures.aupro_5),
        ("AUPRO@1", figures.aupro_1),
        ("FPR@95", figures.fpr_at_detection.rate),
    ):
        assert f"{name} {value:.3f}" in text
    assert f"Judged on {figures.good} good and {figures.defective} defective parts." in text


def test_verdicts_are_those_at_the_threshold_of_an_export(
    written: Path, tiny_run: Path, simulated: Path, bundle_folder: Path
) -> None:
    bundled = written.with_name("bundle.html")
    result = report("--bundle", bundle_folder, "--data", simulated / "test", "--out", bundled)
    assert result.exit_code == 0, result.output
    said = [
        re.search(
            r"At the threshold of (\S+), (\d+ of \d+) .*? and (\d+ of \d+) good", text_of(page.read_text())
        )
        for page in (written, bundled)
    ]
    assert said[0] is not None
    assert said[1] is not None
    assert said[0].groups() == said[1].groups()
    assert float(said[0][1]) == pytest.approx(max(load_log(tiny_run).validation_scores.values()), rel=1e-3)


def test_a_run_tells_of_its_training_and_a_bundle_says_that_it_can_not(
    written: Path, tiny_run: Path, simulated: Path, bundle_folder: Path
) -> None:
    text = text_of(written.read_text(encoding="utf-8"))
    phases = load_log(tiny_run).curves
    assert phases
    for phase in phases:
        assert f"Loss of the {phase} over" in written.read_text(encoding="utf-8")
    assert "held_out_share: 0.34" in text
    assert "train parts 6" in text
    bundled = written.with_name("bundle-again.html")
    assert report("--bundle", bundle_folder, "--data", simulated / "test", "--out", bundled).exit_code == 0
    text = text_of(bundled.read_text(encoding="utf-8"))
    assert "A bundle holds no losses" in text
    assert "held out" not in text.split("Most wrong")[0].replace("held-out", "")
    assert "train parts 6" in text


def test_every_part_of_a_small_split_is_shown_once(written: Path) -> None:
    html = written.read_text(encoding="utf-8")
    names = re.findall(r"<h4>(.*?)</h4>", html)
    assert len(names) == len(set(names)) == 8
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', html)) == 4 * 8


def test_the_same_run_and_parts_give_the_same_bytes(
    written: Path, tiny_run: Path, simulated: Path, tmp_path: Path
) -> None:
    arguments = ("--run", tiny_run, "--data", simulated / "test", "--bootstrap", 0)
    for name in ("a.html", "b.html"):
        assert report(*arguments, "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "Few parts" not in text_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Few parts" in text_of(written.read_text(encoding="utf-8"))


def test_without_defective_parts_the_report_says_what_is_missing(
    tiny_run: Path, good_only: Path, tmp_path: Path
) -> None:
    result = report("--run", tiny_run, "--data", good_only, "--out", tmp_path / "r.html", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"report": str(tmp_path / "r.html"), "parts": 9, "figures": None}
    text = text_of((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "no defective part among the test parts, so I-AUROC, AUPRO" in text
    assert re.search(r"At the threshold of \S+, \d of 9 good parts are rejected", text)
    assert "ROC: detection" not in text
    assert "Anomaly types" not in text


def test_without_good_parts_the_report_says_what_is_missing(
    tiny_run: Path, simulated: Path, tmp_path: Path
) -> None:
    shutil.copytree(simulated / "test", tmp_path / "lot")
    shutil.rmtree(tmp_path / "lot" / "good")
    result = report("--run", tiny_run, "--data", tmp_path / "lot", "--out", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    text = text_of((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "no good part among the test parts" in text
    assert re.search(
        r"At the threshold of \S+, (\d) of \1 defective parts are found\.|\d of \d defective", text
    )


def test_without_a_threshold_nothing_is_called_right_or_wrong(
    bundle_folder: Path, simulated: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    (tmp_path / "bundle" / "calibration.yaml").unlink()
    out = tmp_path / "r.html"
    result = report("--bundle", tmp_path / "bundle", "--data", simulated / "test", "--out", out)
    assert result.exit_code == 0, result.output
    text = text_of(out.read_text(encoding="utf-8"))
    assert "no threshold, so no part is called right or wrong" in text
    assert "At the threshold" not in text
    assert text.count("not judged") == 8
    assert not re.search("✓|✗|missed|false alarm", text)


def test_names_of_parts_and_defects_are_escaped(tiny_run: Path, simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lot"
    shutil.copytree(simulated / "test", folder)
    defect = next(path for path in folder.iterdir() if path.is_dir() and path.name != "good")
    defect.rename(folder / "<b>&bent")
    result = report("--run", tiny_run, "--data", folder, "--out", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;bent" in html


def test_json_holds_the_figures(tiny_run: Path, simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    result = report("--run", tiny_run, "--data", simulated / "test", "--out", out, "--bootstrap", 0, "--json")
    said = json.loads(result.stdout)
    assert said["report"] == str(out)
    assert said["figures"]["images"] == said["parts"] == 8


def test_mistakes_end_with_the_code_of_their_error_and_write_nothing(
    tiny_run: Path, simulated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.html"
    data = ("--data", simulated / "test", "--out", out)
    (tmp_path / "curve.json").write_text("[]")
    for arguments, code, word in (
        (data, 2, "either --run or --bundle"),
        (("--run", tiny_run, "--bundle", tiny_run, *data), 2, "either --run or --bundle"),
        (("--run", tmp_path, *data), TrainingError.exit_code, "no such checkpoint"),
        (("--run", tiny_run, *data, "--curve", tmp_path / "curve.json"), ConfigError.exit_code, "no row"),
        (("--run", tiny_run, *data, "--bootstrap", 3), 2, "at least 40"),
        (("--run", tiny_run, "--data", tmp_path, "--out", out), DatasetError.exit_code, "capture.yaml"),
    ):
        result = report(*arguments)
        assert result.exit_code == code, (arguments, result.output)
        assert word in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
        assert not out.exists()


def test_a_page_that_cannot_be_written_is_named_before_anything_is_judged(
    tiny_run: Path, simulated: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "r.html"
    result = report("--run", tiny_run, "--data", simulated / "test", "--out", out)
    assert result.exit_code == TrainingError.exit_code
    assert "can't be written" in " ".join(result.output.split())
    assert "test parts" not in result.output


def test_every_option_is_described() -> None:
    command = typer.main.get_command(app)
    flags = {flag for option in command.params for flag in option.opts} - {"--help"}
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert {flag for flag in flags if f"`{flag}`" not in page} == set()


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_a_browser_shows_all_of_it_and_asks_nobody(written: Path, width: int, scheme: str) -> None:
    with opened(written, width=width, scheme="dark" if scheme == "dark" else "light") as found:
        page = found.page
        assert page.evaluate("document.images.length") == 4 * 8 + 2
        assert found.broken_images() == []
        assert found.overflow_px() <= 0
        outside = [url for url in found.requests if not url.startswith("data:")]
        assert outside == [written.resolve().as_uri()]
        assert found.complaints == []
        drawings = page.locator("svg.drawing")
        assert drawings.count() == 3 + 2 + 2
        for i in range(drawings.count()):
            box = drawings.nth(i).bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 100


@pytest.mark.browser
@needs_chromium
def test_the_dark_page_is_dark_and_its_drawings_are_light_on_it(written: Path) -> None:
    script = """() => {
      const level = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3;
      const of = (query, key) => level(getComputedStyle(document.querySelector(query))[key]);
      return [of('body', 'backgroundColor'), of('body', 'color'), of('svg.drawing text', 'fill')];
    }"""
    with opened(written, scheme="light") as found:
        paper, ink, drawn = found.page.evaluate(script)
        assert paper > 200
        assert max(ink, drawn) < 60
    with opened(written, scheme="dark") as found:
        paper, ink, drawn = found.page.evaluate(script)
        assert paper < 60
        assert min(ink, drawn) > 200
        found.page.emulate_media(media="print")
        paper, ink, drawn = found.page.evaluate(script)
        assert paper > 200
        assert max(ink, drawn) < 60
        configuration = found.page.locator("details pre").bounding_box()
        assert configuration is not None, "a closed section is printed as well"
        assert configuration["height"] > 100


@pytest.mark.browser
@needs_chromium
def test_a_page_that_would_ask_the_network_is_found_out(tmp_path: Path) -> None:
    """That the checks above can fail."""
    page = tmp_path / "page.html"
    page.write_text('<p style="width: 3000px"><img alt="gone" src="http://127.0.0.1:9/picture.png">')
    with opened(page) as found:
        assert found.broken_images() == ["gone"]
        assert found.overflow_px() > 1000
        assert "http://127.0.0.1:9/picture.png" in found.requests
        assert found.complaints
