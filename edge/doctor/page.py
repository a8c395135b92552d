"""The report as a page for people: words first, colour on top of them; readable at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edge.doctor.report import SUBJECTS, Finding, Level, Report
from edge.selftest_result import SelftestResult

__all__ = ["print_report", "report_page"]

# Each level is a word of its own length and a style of its own beside its colour.
_STYLES = {
    Level.OK: "green",
    Level.NOTE: "blue",
    Level.WARNING: "bold yellow",
    Level.ERROR: "bold reverse red",
}


def print_report(report: Report, console: Console) -> None:
    """The page, on a console."""
    console.print(report_page(report))


def report_page(report: Report) -> RenderableType:
    """The whole page: what it is about, a table of findings, the self-test, a summary."""
    head = Text.assemble(
        ("edge-doctor", "bold"),
        f"  {report.machine}, user {report.user or 'unknown'}, backend {report.backend}, "
        f"{report.created:%Y-%m-%d %H:%M} UTC",
    )
    parts: list[RenderableType] = [head, Text(), *_findings(report)]
    if report.selftest is not None:
        parts += [Text(), _selftest(report.selftest)]
    parts += [Text(), _summary(report)]
    return Group(*parts)


def _findings(report: Report) -> Iterator[RenderableType]:
    for subject, heading in SUBJECTS.items():
        rows = [finding for finding in report.findings if finding.subject == subject]
        if not rows:
            continue
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("level", no_wrap=True, min_width=len(Level.WARNING.value))
        table.add_column("finding", overflow="fold")
        told: str | None = None
        for finding in rows:
            again = finding.remedy == told
            table.add_row(
                Text(finding.level.value, _STYLES[finding.level]), Group(*_lines(finding, again=again))
            )
            told = finding.remedy or told
        yield Text(heading, style="bold underline")
        yield table


def _lines(finding: Finding, *, again: bool) -> Iterator[RenderableType]:
    yield Text(finding.what)
    if finding.remedy:
        remedy = "as above" if again else finding.remedy
        yield Padding(Text(f"→ {remedy}", style="" if finding.level is Level.ERROR else "dim"), (0, 0, 0, 2))


def _selftest(result: SelftestResult) -> Table:
    table = Table(
        title=f"Golden samples on {result.runtime}, {result.precision}, in standard deviations of the map "
        f"(bound {result.tolerance:g}); stages loaded in {result.load_seconds:.1f} s",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("sample", overflow="fold")
    for name in ("map error", "score drift", "score", "expected", "ms"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("result")
    for sample in result.samples:
        verdict: str = sample.verdict or "–"
        if sample.flipped:
            verdict += f", was {sample.expected_verdict}"
        passed = sample.problem is None
        table.add_row(
            Text(sample.name),
            _number(sample.map_error, ".1e"),
            _number(sample.score_drift, "+.1e"),
            _number(sample.score, ".4g"),
            _number(sample.expected_score, ".4g"),
            _number(None if sample.seconds is None else sample.seconds * 1e3, ".0f"),
            verdict,
            Text("ok" if passed else "error", _STYLES[Level.OK if passed else Level.ERROR]),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _summary(report: Report) -> Text:
    counts = report.counts
    said = ", ".join(
        f"{counts[level]} {level.value}" + ("s" if counts[level] != 1 and level is not Level.OK else "")
        for level in (Level.ERROR, Level.WARNING, Level.NOTE, Level.OK)
    )
    bad = [SUBJECTS[subject] for subject in SUBJECTS if subject in _subjects(report, Level.ERROR)]
    if not bad:
        return Text.assemble(("Nothing keeps this rig from its work.", "bold"), f" {said}.")
    return Text.assemble(("Not fit for work as it is: ", "bold"), f"see {', '.join(bad)}. {said}.")


def _subjects(report: Report, level: Level) -> set[str]:
    return {finding.subject for finding in report.findings if finding.level is level}
