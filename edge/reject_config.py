"""The `reject` section of the rig's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

__all__ = ["CommandReject", "GpioReject", "NoReject", "RejectConfig"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NoReject(_Section):
    """No output: whoever reads the verdicts sorts the parts."""

    kind: Literal["none"] = "none"


class CommandReject(_Section):
    """A program, run without a shell, with one word behind its arguments: `safe`, `ready` or `reject`.

    After `timeout_s` it is ended, with all that it started. `pulse_ms` is told to it as `EDGE_PULSE_MS`.
    Unless `no_decision` is false, a part that got no decision is rejected like one that failed, and unless
    `review` is, one that a person is to look at.
    """

    kind: Literal["command"]
    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    timeout_s: PositiveFloat = Field(default=0.5, le=10)
    pulse_ms: int = Field(default=100, ge=1, le=60_000)
    no_decision: bool = True
    review: bool = True


class GpioReject(_Section):
    """A line of a GPIO chip, by libgpiod 2 (the extra `gpio`): active for `pulse_ms` for each rejected part.

    `line` is its offset on `chip`, or its name. `safe_state` is how it rests while no part can be judged:
    from the start until the first part may come, after the stop, and while verdicts can't be kept; between
    two rejected parts it is inactive. `active_low` swaps the voltages. Unless `no_decision` is false, a
    part that got no decision is rejected like one that failed, and unless `review` is, one that a person is
    to look at.
    """

    kind: Literal["gpio"]
    chip: Path = Path("/dev/gpiochip0")
    line: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
    pulse_ms: int = Field(default=100, ge=1, le=60_000)
    active_low: bool = False
    drive: Literal["push_pull", "open_drain", "open_source"] = "push_pull"
    safe_state: Literal["active", "inactive"] = "active"
    no_decision: bool = True
    review: bool = True


RejectConfig = Annotated[NoReject | CommandReject | GpioReject, Field(discriminator="kind")]
"""What happens to a part whose verdict is `fail`, `error` or (if wanted) `no_decision` or `review`."""
