"""A calibration as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from edge.calibrating.drawing import draw, draw_need
from edge.calibrating.fitting import Fit
from edge.calibrating.need import needs
from edge.calibrating.result import percent
from edge.calibrating.scores import ScoredPart
from edge.calibration import Calibration
from edge.version import __version__

__all__ = ["calibration_page", "closest", "need_page"]

_CLOSEST = 6


@dataclass(frozen=True, slots=True)
class _Card:
    name: str
    truth: str
    verdict: str
    right: bool
    score: float
    picture: str | None


def closest(fit: Fit) -> tuple[tuple[ScoredPart, ...], tuple[ScoredPart, ...]]:
    """The good parts with the largest scores, and the bad ones with the smallest: at most six each."""
    good = sorted(fit.known.good, key=lambda part: -part.score)[:_CLOSEST]
    bad = sorted(fit.known.bad, key=lambda part: part.score)[:_CLOSEST]
    return tuple(good), tuple(bad)


def calibration_page(
    fit: Fit, *, product: str | None, calibration: Calibration | None, pictures: Mapping[str, bytes]
) -> str:
    """The page of a fit; `pictures` JPEGs of the closest parts, by name."""
    good, bad = closest(fit)
    return (
        _environment()
        .get_template("calibration.html.j2")
        .render(
            title=f"Calibration of {product}" if product else "Calibration",
            fit=fit,
            drawing=draw(fit),
            calibration=calibration,
            good=_cards(good, fit, pictures),
            bad=_cards(bad, fit, pictures),
        )
    )


def need_page(alphas: Sequence[float], deltas: Sequence[float]) -> str:
    """How many parts promises take, as a table and a drawing."""
    return (
        _environment()
        .get_template("need.html.j2")
        .render(
            title="How many good parts a promise takes", rows=needs(alphas, deltas), drawing=draw_need(deltas)
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edge.calibrating", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent}
    environment.globals |= {"version": __version__}
    return environment


def _cards(parts: Sequence[ScoredPart], fit: Fit, pictures: Mapping[str, bytes]) -> list[_Card]:
    return [
        _Card(
            name=part.name,
            truth=part.defect or ("good" if part.good else "bad"),
            verdict=(verdict := _verdict(part.score, fit)),
            right=(verdict != "pass") is not part.good,
            score=part.score,
            picture=_data_uri(pictures[part.name]) if part.name in pictures else None,
        )
        for part in parts
    ]


def _verdict(score: float, fit: Fit) -> str:
    if score > fit.threshold:
        return "fail"
    return "review" if fit.review_threshold is not None and score > fit.review_threshold else "pass"


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
