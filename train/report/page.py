"""Templates → one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edge.errors import TrainingError
from edge.sealed import write_atomically
from edge.version import __version__

__all__ = ["check_page", "data_uri", "number", "percent", "render", "write_page"]


def render(template: str, **context: object) -> str:
    """The page of a template in `train/report/templates`; all that is not `Markup` is escaped.

    A template extends `base.html.j2`, which holds the style and wants `title`. A name that the template
    asks for and the context lacks is an error (`jinja2.UndefinedError`), not a gap.
    """
    environment = Environment(
        loader=PackageLoader("train.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent}
    values: dict[str, Any] = {"version": __version__, **context}
    return environment.get_template(template).render(values)


def check_page(path: Path) -> None:
    """Raise `TrainingError` where `write_page` could not write; to be called before hours are spent."""
    folder = path.absolute().parent
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "is a folder" if path.is_dir() else f"{there} can't be written to"
        raise TrainingError(f"{path}: the page can't be written ({reason}); name another file")


def write_page(path: Path, html: str) -> None:
    """Write a page, the old one or the new one, whole; raises `TrainingError` where it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html.encode())
    except OSError as error:
        raise TrainingError(
            f"{path}: the page can't be written ({error.strerror}); name another file, or make room"
        ) from error


def data_uri(picture: bytes, kind: str) -> Markup:
    """A picture's bytes (`kind`: jpeg or png) as what `src` of an `img` takes."""
    return Markup(f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}")


def number(value: float | None, digits: int = 3) -> str:
    """A rate with that many digits behind the point; – for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as percent, with a digit behind the point below 10 %; – for None."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"
