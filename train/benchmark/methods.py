"""The methods of a benchmark: presets by name, and patches of a configuration from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edge.errors import ConfigError
from edge.strict_yaml import load_strict_yaml
from train.config import TrainConfig
from train.patching import Patch, patched_config

__all__ = ["DEFAULT_METHODS", "PRESETS", "chosen_methods", "method_config"]

PRESETS: Mapping[str, Patch] = {
    "msd": {"method": {"name": "msd"}},
    "ast": {"method": {"name": "msd", "distillation": {"scales": [1]}}},
    "memory-bank-rgb": {"method": {"name": "memory-bank", "inputs": ["image"]}},
    "memory-bank-depth": {"method": {"name": "memory-bank", "inputs": ["normals"]}},
    "memory-bank-rgb-depth": {"method": {"name": "memory-bank", "inputs": ["image", "normals"]}},
    "memory-bank": {"method": {"name": "memory-bank"}},
    "fusion": {"method": {"name": "fusion"}},
}
"""Patches of the base configuration, by the name that a method has in the table.

Where the base's method has other settings than the default, `fusion` takes them for its members.
"""

DEFAULT_METHODS = tuple(name for name in PRESETS if name != "memory-bank")  # by default that of RGB

_SUFFIXES = (".yaml", ".yml")
_PRESET_KEY = "preset"


class _MethodsFile(BaseModel):
    """Name of a method → a patch; the names are the user's."""

    model_config = ConfigDict(frozen=True, extra="allow")


def method_config(base: TrainConfig, name: str, patches: Sequence[Patch]) -> TrainConfig:
    """`base` under the patches, one after the other; raises `ConfigError` naming the method and the key."""
    return patched_config(base, patches, f"the method {name!r} does not make a training configuration")


def chosen_methods(chosen: Sequence[str], base: TrainConfig) -> dict[str, TrainConfig]:
    """Names of presets and YAML files of methods → each method's configuration, in the order given.

    A file maps the name of a method to a patch of the base configuration, or of that of the preset that its
    key `preset` names. Raises `ConfigError`.
    """
    methods: dict[str, TrainConfig] = {}
    for word in chosen:
        found = (
            _from_file(Path(word), base)
            if word.endswith(_SUFFIXES)
            else {word: method_config(base, word, [_preset(word, base)])}
        )
        for name, config in found.items():
            if name in methods:
                raise ConfigError(f"two methods are named {name!r}; give one of them another name")
            methods[name] = config
    if not methods:
        raise ConfigError(f"no method is named; presets: {', '.join(PRESETS)}")
    return methods


def _preset(name: str, base: TrainConfig) -> Patch:
    if name not in PRESETS:
        raise ConfigError(
            f"{name!r} is no method; there are {', '.join(PRESETS)}, and files of methods (.yaml)"
        )
    if name == "fusion" and base.method != TrainConfig().method:
        return _fusion_of(base)
    return PRESETS[name]


def _fusion_of(base: TrainConfig) -> Patch:
    """Fusion of what stands beside it in the table as `msd` and `memory-bank`."""
    if base.method.name == "fusion":
        return {}
    members = [method_config(base, name, [PRESETS[name]]).method for name in ("msd", "memory-bank")]
    return {"method": {"name": "fusion", "members": [member.model_dump(mode="json") for member in members]}}


def _from_file(path: Path, base: TrainConfig) -> dict[str, TrainConfig]:
    patches = load_strict_yaml(path, _MethodsFile).model_extra or {}
    methods = {}
    for name, patch in patches.items():
        if not isinstance(patch, Mapping):
            raise ConfigError(f"{path}: {name}: must be a mapping of a training configuration's keys")
        rest = {key: value for key, value in patch.items() if key != _PRESET_KEY}
        try:
            first = [_preset(str(patch[_PRESET_KEY]), base)] if _PRESET_KEY in patch else []
            methods[name] = method_config(base, name, [*first, rest])
        except ConfigError as error:
            raise ConfigError(f"{path}: {name}: {error}") from error
    if not methods:
        raise ConfigError(f"{path}: holds no method; write `name: {{patch of a training configuration}}`")
    return methods
