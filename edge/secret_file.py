"""A password or a token where a file or systemd keeps it; never in the rig's YAML."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from edge.errors import ConfigError

__all__ = ["secret_from_credential", "secret_from_file"]


def secret_from_file(path: Path, key: str) -> SecretStr:
    """The first line of `path`, which the YAML names at `key`; raises `ConfigError` where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{key}: {path} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} is not UTF-8 text") from error
    if not lines or not lines[0]:
        what = "token" if "token" in key else "password"
        raise ConfigError(f"{key}: {path} is empty; its first line must be the {what}")
    return SecretStr(lines[0])


def secret_from_credential(name: str, key: str) -> SecretStr:
    """The first line of systemd's credential `name`; raises `ConfigError` where there is none."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        instead = key.rpartition(".")[2].replace("_credential", "_file")
        raise ConfigError(
            f"{key}: {name} can't be read outside systemd (CREDENTIALS_DIRECTORY is not set); add "
            f"LoadCredential= to the unit, or use {instead}"
        )
    return secret_from_file(Path(folder) / name, key)
