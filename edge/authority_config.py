"""The `commands` section of the rig's YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from edge.order_messages import ORDERS
from edge.topics import Segment

__all__ = ["CommandsConfig", "not_opened"]


def _known(command: str) -> str:
    known = sorted(order.command for order in ORDERS)
    if command not in known:
        raise ValueError(f"there is no command {command!r}; there are {', '.join(known)}")
    return command


def not_opened(value: object) -> object:
    """A section whose every line was commented out must not let everybody in."""
    if value is None:
        raise ValueError("is empty; say who may give which command, or remove it to let everybody")
    return value


class CommandsConfig(BaseModel):
    """Who may give which command; nobody may give one that is not listed.

    `allow` has for each command the names of those who may give it: the last level of the topic that they
    write, `cmd/{command}/{client}`, which the broker's access rules must keep for them. `"*"` is whoever has
    a topic of that kind; `dashboard` is the rig's own web page, `sparkplug` whatever SCADA host writes a
    metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: Annotated[
        dict[Annotated[str, AfterValidator(_known)], Annotated[tuple[Segment, ...], Field(max_length=1000)]],
        BeforeValidator(not_opened),
    ]
