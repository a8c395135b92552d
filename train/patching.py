"""A training configuration with some of its values changed, as files of candidates and of methods say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from edge.errors import ConfigError
from train.config import TrainConfig

__all__ = ["Patch", "patched", "patched_config"]

Patch = Mapping[str, Any]
"""Keys of a configuration, nested as there, with new values."""


def patched(values: Patch, patch: Patch) -> dict[str, Any]:
    """`values` with those of `patch` in their place: mappings key by key, all else (lists, too) whole.

    A `method` of another name replaces the method, whose keys would mean nothing to it.
    """
    result = dict(values)
    for key, value in patch.items():
        there = result.get(key)
        if not isinstance(value, Mapping) or not isinstance(there, Mapping):
            result[key] = value
        elif key == "method" and value.get("name", there.get("name")) != there.get("name"):
            result[key] = dict(value)
        else:
            result[key] = patched(there, value)
    return result


def patched_config(base: TrainConfig, patches: Sequence[Patch], what: str) -> TrainConfig:
    """`base` under the patches, one after the other.

    Raises `ConfigError`, which begins with `what` and names the keys that are wrong.
    """
    values: dict[str, Any] = base.model_dump(mode="json")
    for patch in patches:
        values = patched(values, patch)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or 'the whole'}: "
            f"{mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors()
        )
        raise ConfigError(f"{what}: {said}") from error
