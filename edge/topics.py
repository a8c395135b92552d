"""Where a rig publishes: its place in the plant (ISA-95) and the topic tree below it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["RigIdentity", "Segment", "Topics"]

SEGMENT_MAX_CHARACTERS = 64
_FORBIDDEN = {
    "/": "separates levels",
    "+": "is a wildcard of MQTT",
    "#": "is a wildcard of MQTT",
}
# Control characters, surrogates and code points that mean nothing: a broker may cut the connection that
# sends one (MQTT 5.0, section 1.5.4), and no person can type it into a dashboard.
_FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Cn", "Zl", "Zp"}


def _check_segment(text: str) -> str:
    for character in text:
        if character in _FORBIDDEN:
            raise ValueError(f"{character!r} {_FORBIDDEN[character]} and can't be part of a name")
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            raise ValueError(f"U+{ord(character):04X} can't be part of a topic")
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    if text.startswith("$"):
        raise ValueError("must not begin with '$': such topics belong to the broker")
    return text


Segment = Annotated[
    str, Field(min_length=1, max_length=SEGMENT_MAX_CHARACTERS, strict=True), AfterValidator(_check_segment)
]
"""One level of a topic: 1 to 64 characters, no '/', '+', '#', no control character, no '$' in front."""


class RigIdentity(BaseModel):
    """Which rig this is: the five levels of its equipment path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enterprise: Segment
    site: Segment
    area: Segment
    line: Segment
    cell: Segment

    @property
    def root(self) -> str:
        """`{enterprise}/{site}/{area}/{line}/{cell}/inspection`, no slash at its end."""
        return "/".join((self.enterprise, self.site, self.area, self.line, self.cell, "inspection"))

    def client_id(self, connection: str) -> str:
        """A client id that no other rig has: readable, and with a digest of the whole path.

        Two rigs of the same identity throw each other off the broker, which is meant: both would write
        the same topics.
        """
        readable = re.sub(r"[^0-9A-Za-z]+", "-", f"{self.line}-{self.cell}").strip("-").lower()
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:8]
        return f"edge-{readable[:40]}-{digest}-{connection}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one rig, each below its `root`."""

    root: str

    @property
    def availability(self) -> str:
        return f"{self.root}/availability"

    @property
    def verdict(self) -> str:
        return f"{self.root}/verdict"

    @property
    def last_verdict(self) -> str:
        return f"{self.root}/state/last_verdict"

    @property
    def machine_state(self) -> str:
        return f"{self.root}/state/machine"

    @property
    def health(self) -> str:
        return f"{self.root}/health"

    @property
    def recipe_state(self) -> str:
        return f"{self.root}/state/recipe"

    @property
    def commands(self) -> tuple[str, str]:
        """Of all commands, with wildcards: to subscribe to. The second has a level for each client."""
        return f"{self.root}/cmd/+", f"{self.root}/cmd/+/+"

    def command_of(self, topic: str) -> tuple[str, str | None]:
        """The command that a topic is of, and the client whose topic it is; None where it is everybody's."""
        command, slash, client = topic.removeprefix(f"{self.root}/cmd/").partition("/")
        return command, client if slash else None

    def response(self, client: str) -> str:
        """Of the answers to one client's commands."""
        return f"{self.root}/resp/{client}"

    def is_response(self, topic: str) -> bool:
        """Whether `topic` is one that answers may go to: no other, or a command could forge a verdict."""
        before, _, client = topic.rpartition("/")
        if before != f"{self.root}/resp" or not 0 < len(client) <= SEGMENT_MAX_CHARACTERS:
            return False
        try:
            _check_segment(client)
        except ValueError:
            return False
        return True

    def picture(self, kind: str) -> str:
        """Of the picture's bytes; `kind` is `heatmap`, `image/rgb` or `map`."""
        return f"{self.root}/{kind}"

    def picture_info(self, kind: str) -> str:
        """Of the JSON twin of that picture."""
        return f"{self.root}/{kind}/info"
