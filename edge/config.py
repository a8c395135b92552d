"""The rig's YAML: everything a person decides about one inspection cell."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    SecretStr,
    model_validator,
)
from typing_extensions import Self

from edge.authority_config import CommandsConfig, not_opened
from edge.camera.config import CameraConfig
from edge.dashboard.config import DashboardConfig
from edge.errors import ConfigError, KeyUnusable
from edge.labelling.config import CapturesConfig
from edge.outbox_config import OutboxConfig
from edge.recipe_config import RecipeBook, RecipeConfig, RecipeName, ScheduleConfig
from edge.reject_config import NoReject, RejectConfig
from edge.scene.config import SceneConfig
from edge.score_watch_config import ScoreWatchConfig
from edge.secret_file import secret_from_credential, secret_from_file
from edge.signature import KEY_TEXT, PublicKey, read_public_key
from edge.sparkplug.config import SparkplugConfig
from edge.strict_yaml import load_strict_yaml
from edge.topics import RigIdentity
from edge.trigger_config import (
    CommandTrigger,
    EveryFrameTrigger,
    GpioTrigger,
    IntervalTrigger,
    PartPresentTrigger,
    TriggerConfig,
)

__all__ = [
    "BrokerConfig",
    "CommandTrigger",
    "DaemonConfig",
    "EveryFrameTrigger",
    "GpioTrigger",
    "HealthConfig",
    "IntervalTrigger",
    "OnnxConfig",
    "PartPresentTrigger",
    "PicturesConfig",
    "RigConfig",
    "RuntimeConfig",
    "TensorRTConfig",
    "TlsConfig",
    "TriggerConfig",
    "TrustedKey",
    "load_rig_config",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OnnxConfig(_Section):
    """ONNX Runtime on the CPU: there on every machine.

    `threads` compute together; as many as the process may use cores if not given. Fewer leave cores to
    whatever else the device does.
    """

    backend: Literal["onnx"] = "onnx"
    threads: int | None = Field(default=None, ge=1, le=256)


class TensorRTConfig(_Section):
    """TensorRT on an NVIDIA GPU; engines are built on the device, once for a bundle and a TensorRT.

    `engines_dir` keeps them (systemd's CACHE_DIRECTORY if not given; elsewhere
    `~/.cache/edge-inspect/engines`). `workspace_mb` (MiB) is the most scratch memory that a layer may take:
    lower it where a build is killed. `optimization_level` is 0 (quick to build) to 5 (tries every kernel).
    `dla_stages` run on core `dla_core` of a Jetson's Deep Learning Accelerator, and what it can't run of
    them on the GPU unless `dla_gpu_fallback` is false. `timing_cache` is a file that makes later builds
    quicker (`timing.cache` in `engines_dir` if not given). `streams`: how many stages that don't need each
    other's results may run beside each other; 1 shares more memory between them.
    """

    backend: Literal["tensorrt"] = "tensorrt"
    engines_dir: Path | None = None
    workspace_mb: int = Field(default=1024, ge=16, le=1_048_576)
    optimization_level: int = Field(default=3, ge=0, le=5)
    dla_stages: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = ()
    dla_core: int = Field(default=0, ge=0, le=7)
    dla_gpu_fallback: bool = True
    timing_cache: Path | None = None
    streams: int = Field(default=2, ge=1, le=8)

    def engines_folder(self) -> Path:
        """Where the engines are kept."""
        if self.engines_dir is not None:
            return self.engines_dir
        given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]  # systemd gives several with colons
        if given:
            return Path(given) / "engines"
        home = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(home) if home else Path("~/.cache").expanduser()) / "edge-inspect" / "engines"

    def timing_cache_file(self) -> Path:
        """Where TensorRT's timings are kept."""
        return self.timing_cache or self.engines_folder() / "timing.cache"


RuntimeConfig = Annotated[OnnxConfig | TensorRTConfig, Field(discriminator="backend")]
"""What runs the bundle's stages: nothing else ever does in its place."""


class TlsConfig(_Section):
    """How the broker is recognised, and how we prove who we are.

    `ca_file` holds the certificates that may sign the broker's (the system's, if not given);
    `cert_file` and `key_file` our own, for a broker that asks for one. PEM, all of them.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together; give both or neither")
        return self

    def missing_files(self) -> list[str]:
        """One message for each file that is named and can't be read."""
        named = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        return [
            f"broker.tls.{key}: {path} can't be read"
            for key, path in named.items()
            if path is not None and not os.access(path, os.R_OK)
        ]


class BrokerConfig(_Section):
    """The MQTT broker. A password never stands in this file: it comes from one of three places.

    `password_file`: a file whose first line it is; `password_credential`: the name of a systemd
    credential (`LoadCredential=`); `password_env`: the name of an environment variable.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Annotated[
        Literal["auto", "5", "3.1.1"], BeforeValidator(lambda v: str(v) if v in (5, 5.0) else v)
    ] = "auto"
    username: str | None = Field(default=None, min_length=1)
    password_file: Path | None = None
    password_credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    tls: TlsConfig | None = None
    keepalive_s: int = Field(default=15, ge=2, le=3600)
    connect_timeout_s: PositiveFloat = Field(default=5.0, le=60)
    max_in_flight: int = Field(default=20, ge=1, le=1000)
    max_pending_picture_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    max_packet_bytes: int = Field(default=4 * 1024 * 1024, ge=4096, le=268_435_455)

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = [
            key
            for key in ("password_file", "password_credential", "password_env")
            if getattr(self, key) is not None
        ]
        if len(sources) > 1:
            raise ValueError(f"the password comes from {' and '.join(sources)}; keep one of them")
        if sources and self.username is None:
            raise ValueError(f"{sources[0]} is given but username is not")
        return self

    def read_password(self) -> SecretStr | None:
        """The password from where the configuration says it is; None where it names no place.

        Raises `ConfigError` where that place is missing or empty.
        """
        if self.password_env is not None:
            value = os.environ.get(self.password_env, "")
            if not value:
                raise ConfigError(
                    f"broker.password_env: the environment variable {self.password_env} is not set"
                )
            return SecretStr(value)
        if self.password_credential is not None:
            return secret_from_credential(self.password_credential, "broker.password_credential")
        if self.password_file is not None:
            return secret_from_file(self.password_file, "broker.password_file")
        return None


class PicturesConfig(_Section):
    """Which pictures go out beside each verdict."""

    heatmap: bool = True
    image: bool = True
    map: bool = True
    jpeg_quality: int = Field(default=85, ge=30, le=100)


class HealthConfig(_Section):
    """How often the rig says how it feels."""

    interval_s: PositiveFloat = Field(default=5.0, le=300)


class DaemonConfig(_Section):
    """Patience and memory of the daemon.

    `max_frame_age_s`: an older frame gets no decision; `flush_timeout_s`: how long to wait for
    acknowledgements at the end; `hang_timeout_s`: a thread that makes no progress for so long ends the
    daemon (systemd's watchdog does, where that is sooner); `queue`: how many triggered parts of a live
    camera may wait to be inspected, one more gets an error at once; `state_dir`: where the outbox lies,
    and all else that outlives a start (if not given, systemd's STATE_DIRECTORY; where there is none,
    `edge-state` beside the rig's YAML); `captures_dir`: where frames go that somebody has the rig keep,
    or labels (`captures` in there, if not given).
    """

    max_frame_age_s: PositiveFloat = 2.0
    flush_timeout_s: PositiveFloat = 1.0
    hang_timeout_s: float = Field(default=30.0, ge=5, le=3600)
    queue: int = Field(default=4, ge=1, le=100)
    state_dir: Path | None = None
    captures_dir: Path | None = None


def _key_or_file(value: object) -> str | Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be the file of a public key (.pub), or the 44 characters of one")
    return value if re.fullmatch(KEY_TEXT, value) else Path(value)


def _not_empty(value: object) -> object:
    if (
        value is None or value == []
    ):  # a list whose every line was commented out must not open the rig to everybody
        raise ValueError("is empty; list a public key, or remove trusted_keys to take unsigned bundles")
    return value


TrustedKey = Annotated[str | Path, BeforeValidator(_key_or_file)]
"""A public key: its file (PEM), or the base64 of its 32 bytes."""


class RigConfig(_Section):
    """One rig, whole: who it is, what it looks through, what it runs, whom it tells.

    What it runs is one `bundle`, with its `trigger`; or several products, as `recipes` by their names, of
    which `recipe` is the one to begin with and `schedule` says when to go over to which. With
    `trusted_keys` it takes no bundle but those that one of them signed; with `commands` no command but from
    whom that names.
    """

    rig: RigIdentity
    camera: CameraConfig
    bundle: Path | None = None
    recipes: dict[RecipeName, RecipeConfig] | None = Field(default=None, min_length=1)
    recipe: RecipeName | None = None
    schedule: ScheduleConfig | None = None
    trusted_keys: Annotated[tuple[TrustedKey, ...] | None, BeforeValidator(_not_empty)] = None
    job_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    runtime: RuntimeConfig = OnnxConfig()
    trigger: TriggerConfig = EveryFrameTrigger()
    broker: BrokerConfig = BrokerConfig()
    commands: Annotated[CommandsConfig | None, BeforeValidator(not_opened)] = None
    sparkplug: SparkplugConfig | None = None
    pictures: PicturesConfig = PicturesConfig()
    scene: SceneConfig = SceneConfig()
    score_watch: ScoreWatchConfig = ScoreWatchConfig()
    outbox: OutboxConfig = OutboxConfig()
    captures: CapturesConfig = CapturesConfig()
    reject: RejectConfig = NoReject()
    health: HealthConfig = HealthConfig()
    dashboard: DashboardConfig = DashboardConfig()
    daemon: DaemonConfig = DaemonConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.bundle is None) == (self.recipes is None):
            raise ValueError("give `bundle` for one product, or `recipes` for several; one of the two")
        if self.recipes is None:
            for key in ("recipe", "schedule"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is given without `recipes`; write the bundle as one of them")
            return self
        if "trigger" in self.model_fields_set:
            raise ValueError("trigger belongs to each of `recipes`; move it there")
        if self.recipe is None and len(self.recipes) > 1:
            raise ValueError("recipe is missing: the one of `recipes` to begin with")
        switches = self.schedule.switches if self.schedule is not None else ()
        for name in (self.recipe, *(switch.recipe for switch in switches)):
            if name is not None and name not in self.recipes:
                raise ValueError(f"no recipe is called {name!r}; there are {', '.join(self.recipes)}")
        return self

    def recipe_book(self) -> RecipeBook:
        """All that this rig can inspect; a single `bundle` is the one recipe `main`."""
        if self.recipes is None:
            if self.bundle is None:
                raise ConfigError("bundle: is missing; give it, or recipes")
            only = RecipeConfig(bundle=self.bundle, trigger=self.trigger)
            return RecipeBook({"main": only}, "main")
        return RecipeBook(self.recipes, self.recipe or next(iter(self.recipes)), self.schedule)

    def read_trusted_keys(self) -> tuple[PublicKey, ...] | None:
        """The keys that a bundle must be signed by, for `load_bundle`; None where any bundle will do.

        Raises `ConfigError` where one can't be read, or is none.
        """
        if self.trusted_keys is None:
            return None
        try:
            return tuple(
                read_public_key(key) if isinstance(key, Path) else PublicKey.from_text(key)
                for key in self.trusted_keys
            )
        except KeyUnusable as error:
            raise ConfigError(f"trusted_keys: {error}") from error


def load_rig_config(path: Path) -> RigConfig:
    """The rig's configuration; relative paths in it start at the folder of the YAML.

    Raises `ConfigError` that names every mistake of the file: `FILE:LINE: key: what is wrong`.
    """
    return load_strict_yaml(path, RigConfig)
