"""Where a rig keeps what outlives it."""

from __future__ import annotations

import os
from pathlib import Path

from edge.config import RigConfig
from edge.errors import ConfigError

__all__ = ["state_dir_of"]

_STATE_NAME = "edge-state"


def state_dir_of(config: RigConfig, path: Path | None) -> Path:
    """Where the rig keeps what outlives it; `daemon.state_dir` says in which order that is looked for."""
    if config.daemon.state_dir is not None:
        return config.daemon.state_dir
    # The unit's StateDirectory=; systemd gives several with colons between them.
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if path is None:
        raise ConfigError("daemon.state_dir: is not given, and there is no file that it could lie beside")
    return path.parent / _STATE_NAME
