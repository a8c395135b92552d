"""Which jobs a benchmark consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.errors import ConfigError
from train.benchmark.job import DataSource, Job, listing_sha256
from train.config import TrainConfig
from train.datasets import list_categories
from train.evaluation import EvaluationOptions

__all__ = ["Plan", "parse_numbers", "parse_parts", "plan_benchmark"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs, and the rows and columns of their table in the order asked for.

    `parts`: numbers of good parts, None for all there are.
    """

    jobs: tuple[Job, ...]
    categories: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    parts: tuple[int | None, ...]


def plan_benchmark(
    source: DataSource,
    *,
    categories: Sequence[str] | None,
    methods: Mapping[str, TrainConfig],
    seeds: Sequence[int],
    parts: Sequence[int | None],
    evaluation: EvaluationOptions,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
) -> Plan:
    """Every category (None: all there are) × method × number of parts × seed.

    All of the data set is listed, so that what is wrong with the last category is known before the first is
    trained. Seeds come last in the order of work: a first column of the table is there early. Raises
    `DatasetError` and `ConfigError`.
    """
    there = list_categories(source.path, source.layout, source.options)
    wanted = tuple(categories) if categories is not None else there
    unknown = [category for category in wanted if category not in there]
    if unknown:
        raise ConfigError(f"{source.path} has no category {', '.join(unknown)}; it has {', '.join(there)}")
    listings: dict[tuple[str, float, int | None], str] = {}
    jobs = []
    for seed in seeds:
        for count in parts:
            for category in wanted:
                for name, config in methods.items():
                    share = config.held_out_share
                    place = (category, share, count)
                    if place not in listings:
                        data = source.open(category, share, count)
                        listings[place] = listing_sha256(source, data)
                    jobs.append(
                        Job(
                            source=source,
                            category=category,
                            method=name,
                            config=config.model_copy(update={"seed": seed}),
                            parts=count,
                            evaluation=evaluation,
                            listing=listings[place],
                            precision=precision,
                        )
                    )
    _refuse_twins(jobs)
    return Plan(
        jobs=tuple(jobs),
        categories=wanted,
        methods=tuple(methods),
        seeds=tuple(seeds),
        parts=tuple(parts),
    )


def _refuse_twins(jobs: Sequence[Job]) -> None:
    by_key: dict[str, Job] = {}
    for job in jobs:
        other = by_key.setdefault(job.key, job)
        if other is not job:
            raise ConfigError(f"{other.label} and {job.label} are the same training; leave one of them out")


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """`0,1,2` → (0, 1, 2), each once and not negative; raises `ConfigError`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words) or len(set(words)) != len(words):
        raise ConfigError(f"{option} is {text!r}; must be whole numbers such as 0,1,2, each once")
    return tuple(int(word) for word in words)


def parse_parts(text: str) -> tuple[int | None, ...]:
    """`10,20,all` → (10, 20, None), each once; raises `ConfigError`."""
    words = [word.strip() for word in text.split(",")]
    numbers = [word for word in words if word != "all"]
    if len(set(words)) != len(words) or any(not word.isdigit() or int(word) < 2 for word in numbers):
        raise ConfigError(f"--parts is {text!r}; must be numbers of at least 2, and all, such as 10,20,all")
    return tuple(None if word == "all" else int(word) for word in words)
