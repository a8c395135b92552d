"""Which recipe runs, kept over a restart."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.errors import ConfigError
from edge.messages import UtcTime
from edge.recipe_config import RecipeBook, RecipeName
from edge.sealed import write_atomically

__all__ = ["RecipeMemory", "Remembered"]

_log = logging.getLogger(__name__)


class Remembered(BaseModel):
    """The recipe that was gone over to last, and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    recipe: RecipeName
    since: UtcTime


class RecipeMemory:
    """A small file in the rig's state folder; None for the folder remembers nothing."""

    def __init__(self, state_dir: Path | None) -> None:
        self._path = None if state_dir is None else state_dir / "recipe.json"

    def recall(self, book: RecipeBook) -> Remembered | None:
        """What was remembered; None where nothing was, or what was is no recipe of this rig any more.

        Raises `ConfigError` where the file can't be read.
        """
        if self._path is None:
            return None
        try:
            found = Remembered.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self._path}: can't be read ({error.strerror}); mend the rights of daemon.state_dir"
            ) from error
        except ValidationError:
            _log.error(
                "%s is damaged; the rig begins with recipe %s, as its YAML says", self._path, book.first
            )
            return None
        if found.recipe not in book.recipes:
            _log.warning(
                "recipe %s, which ran last, is not in the rig's YAML any more; it begins with %s",
                found.recipe,
                book.first,
            )
            return None
        return found

    def remember(self, recipe: str, since: datetime) -> None:
        """Write it so that a crash leaves the old or the new; raises `OSError`."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = Remembered(recipe=recipe, since=since).model_dump_json() + "\n"
            write_atomically(self._path, text.encode())
