"""Run what is not done yet, and write down what came of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from train.benchmark.job import Job, JobResult
from train.benchmark.page import page
from train.benchmark.plan import Plan
from train.benchmark.pool import Failure, Outcome, Pool
from train.benchmark.published import published_for
from train.benchmark.rows import Row, rows_of
from train.benchmark.store import ResultStore
from train.benchmark.table import markdown, tables

__all__ = ["Benchmark", "Failed"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that failed, and why."""

    job: Job
    failure: Failure


class Benchmark:
    """A plan and the results that are there of it."""

    def __init__(self, plan: Plan, store: ResultStore, title: str) -> None:
        self.plan = plan
        self.title = title
        self._store = store
        self.results: dict[str, JobResult] = {}
        self.failed: list[Failed] = []
        for job in plan.jobs:
            result = store.load(job)
            if result is not None:
                self.results[job.key] = result

    def waiting(self) -> tuple[Job, ...]:
        """The jobs that have no result yet."""
        return tuple(job for job in self.plan.jobs if job.key not in self.results)

    def run(self, pool: Pool, seen: Callable[[Outcome], None]) -> None:
        """Do the waiting jobs; each result is on disk before it is told of. Raises `TrainingError`."""
        for outcome in pool.run(self.waiting()):
            if isinstance(outcome.result, Failure):
                self.failed.append(Failed(outcome.job, outcome.result))
            else:
                self._store.save(outcome.result)
                self.results[outcome.job.key] = outcome.result
            seen(outcome)

    def rows(self) -> tuple[Row, ...]:
        """A row for each job that has a result."""
        return rows_of(self.plan.jobs, self.results)

    def write(self) -> None:
        """Write the tables of what is there; raises `TrainingError`."""
        rows = self.rows()
        folder = self._store.folder
        done, of = len(rows), len(self.plan.jobs)
        notes = [f"Mean ± standard deviation over {len(self.plan.seeds)} seeds."]
        if done < of:
            notes.append(f"**Not finished: {done} of {of} jobs are done.**")
        layout = self.plan.jobs[0].source.layout
        found = tables(self.plan, rows, published_for(layout))
        self._store.write(folder / "table.md", markdown(self.title, found, notes))
        as_data = [row.model_dump(mode="json") for row in rows]
        self._store.write(folder / "results.json", json.dumps(as_data, indent=1) + "\n")
        self._store.write(folder / "results.csv", _csv(as_data))
        failed = [(failed.job.label, failed.failure.error) for failed in self.failed]
        self._store.write(folder / "benchmark.html", page(self.title, self.plan, rows, found, failed))


def _csv(rows: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    names = [name for name in Row.model_fields if name not in ("steps", "types")]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
