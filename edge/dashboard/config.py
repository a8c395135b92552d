"""The `dashboard` section of the rig's YAML."""

from __future__ import annotations

import ipaddress
import re
from datetime import time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import Self

from edge.errors import ConfigError
from edge.secret_file import secret_from_credential, secret_from_file

__all__ = ["DashboardConfig"]

_TOKEN_MIN_CHARACTERS = 16
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _check_host(text: str) -> str:
    if text != "localhost":
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise ValueError("must be an IP address of this machine, or localhost") from error
    return text


def _check_origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError("must be scheme and host as a browser names them: https://cell-2.example.com")
    return text


def _time_of_day(value: object) -> object:
    # YAML 1.1 reads 14:00 as a number to the base of 60.
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError('must be a time of day in quotes: "06:00"')
    return time.fromisoformat(value)


class DashboardConfig(BaseModel):
    """The page for people, served by the daemon itself.

    Only this machine reaches `host` 127.0.0.1, and needs no password. Any other needs a token, the first line
    of `token_file` or of the systemd credential `token_credential`. With `port` 0 any that is free.
    `origins` names under which addresses a reverse proxy shows the page (`https://cell-2.example.com`).
    `shift_starts`, times of day of this machine, say from when parts are counted; without any, the last eight
    hours are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    host: Annotated[str, AfterValidator(_check_host)] = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65535)
    token_file: Path | None = None
    token_credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    origins: tuple[Annotated[str, AfterValidator(_check_origin)], ...] = ()
    shift_starts: tuple[Annotated[time, BeforeValidator(_time_of_day)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.token_file is not None and self.token_credential is not None:
            raise ValueError("the token comes from token_file and token_credential; keep one of them")
        if self.enabled and not self.is_local and self.token_file is None and self.token_credential is None:
            raise ValueError(
                f"{self.host} can be reached from other machines; give token_file or token_credential, or "
                "set host to 127.0.0.1"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def read_token(self) -> SecretStr | None:
        """The token from where the configuration says it is; None where it names no place.

        Raises `ConfigError` where that place is missing, or holds a token that could be guessed.
        """
        if self.token_credential is not None:
            key = "dashboard.token_credential"
            token = secret_from_credential(self.token_credential, key)
        elif self.token_file is not None:
            key = "dashboard.token_file"
            token = secret_from_file(self.token_file, key)
        else:
            return None
        if len(token.get_secret_value()) < _TOKEN_MIN_CHARACTERS:
            raise ConfigError(
                f"{key}: the token has fewer than {_TOKEN_MIN_CHARACTERS} characters; make one with "
                "`openssl rand -hex 16`"
            )
        return token
