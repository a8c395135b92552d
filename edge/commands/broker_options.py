"""The options by which a command on the workstation finds a broker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from edge.config import BrokerConfig
from edge.errors import ConfigError

__all__ = ["CaFile", "CertFile", "Host", "KeyFile", "PasswordFile", "Port", "Tls", "Username", "Where"]

_PORT, _TLS_PORT = 1883, 8883

Host = Annotated[str, typer.Option("--host", "--broker", help="The broker.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Its port; 1883 if not given, 8883 with TLS.")
]
Username = Annotated[str | None, typer.Option(help="Who to log in as.")]
PasswordFile = Annotated[Path | None, typer.Option(help="A file whose first line is the password.")]
Tls = Annotated[bool, typer.Option("--tls", help="Use TLS, with this machine's authorities.")]
CaFile = Annotated[Path | None, typer.Option(help="Use TLS, with this authority (PEM).")]
CertFile = Annotated[Path | None, typer.Option(help="Our certificate (PEM).")]
KeyFile = Annotated[Path | None, typer.Option(help="Its key (PEM).")]


@dataclass(frozen=True, slots=True)
class Where:
    """A broker, as the command line names it."""

    host: str
    port: int | None
    username: str | None
    password_file: Path | None
    tls: bool
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None

    def config(self) -> BrokerConfig:
        """The same as a rig's YAML would say it; raises `ConfigError`."""
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        secure = self.tls or any(files.values())
        try:
            return BrokerConfig.model_validate(
                {
                    "host": self.host,
                    "port": self.port or (_TLS_PORT if secure else _PORT),
                    "username": self.username,
                    "password_file": self.password_file,
                    "tls": files if secure else None,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{key or 'options'}: {first['msg']}") from error
