"""A rig's YAML, read again while the rig runs: what of it can be taken over, and what needs a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from edge.clock import Session
from edge.config import load_rig_config
from edge.recipe_loading import RecipeLoader
from edge.recipes import Reloaded

__all__ = ["LIVE_KEYS", "changed_keys", "reloading"]

LIVE_KEYS = frozenset(
    {"bundle", "recipes", "recipe", "schedule", "trigger", "trusted_keys", "job_id", "pictures"}
)
"""The top-level keys that a reload takes over: all that a recipe is made of."""


def reloading(path: Path, session: Session) -> Callable[[RecipeLoader], Reloaded]:
    """For `RecipeKeeper.reload`: reads `path`; raises `ConfigError` with every mistake of it.

    What is not in `LIVE_KEYS` stays as it was at the start, and is named as long as it differs.
    """

    def read(loader: RecipeLoader) -> Reloaded:
        found = load_rig_config(path)
        changed = changed_keys(loader.config, found)
        live = {key: getattr(found, key) for key in LIVE_KEYS}
        return Reloaded(
            RecipeLoader(loader.config.model_copy(update=live), session, loader.store),
            applied=tuple(key for key in changed if key.partition(".")[0] in LIVE_KEYS),
            needs_restart=tuple(key for key in changed if key.partition(".")[0] not in LIVE_KEYS),
        )

    return read


def changed_keys(before: BaseModel, after: BaseModel, prefix: str = "") -> tuple[str, ...]:
    """The keys, with dots, under which two sections of one kind differ."""
    found: list[str] = []
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, BaseModel) and type(old) is type(new):
            found += changed_keys(old, new, f"{prefix}{name}.")
        elif isinstance(old, dict) and isinstance(new, dict):
            names = sorted(old.keys() | new.keys())
            found += [f"{prefix}{name}.{key}" for key in names if old.get(key) != new.get(key)]
        else:
            found.append(f"{prefix}{name}")
    return tuple(found)
