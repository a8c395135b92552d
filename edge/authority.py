"""Who may give which command: a name counts where somebody vouches for it, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edge.letters import OWN_DOORS, Letter

__all__ = ["EVERYBODY", "Authority"]

EVERYBODY = "*"


class Authority:
    """Judges letters by who sent them; `allow` has the names for each command, None lets everybody.

    A letter's `client` is sure: over MQTT it is the level of a topic that only its owner may write, which
    the broker sees to. `issued_by` is not, and must be the same.
    """

    def __init__(self, allow: Mapping[str, Collection[str]] | None = None) -> None:
        self._allow = allow

    def refusal(self, letter: Letter) -> str | None:
        """Why its sender may not give this command, in a sentence; None where it may."""
        if self._allow is None:
            return None
        client, command = letter.client, letter.command
        if client is None:
            return f"this rig takes commands on cmd/{command}/{{client}} alone, each client's own topic"
        if client in OWN_DOORS and letter.answered is None:
            return f"{client} is a door of the rig's own and no client at the broker; take another name"
        allowed = self._allow.get(command, ())
        if client in allowed or EVERYBODY in allowed:
            return None
        return f"commands.allow.{command} of the rig's YAML does not list this client; add it and restart"

    def sure_client(self, letter: Letter) -> str | None:
        """Who sent it, where that counts: the answer then goes to this client and no other."""
        return None if self._allow is None else letter.client

    def mismatch(self, letter: Letter, issued_by: str) -> str | None:
        """Why `issued_by` can't be believed, in a sentence; None where it can, or need not."""
        if self._allow is None or letter.client == issued_by:
            return None
        return "issued_by is not the client whose topic, or door, this command came by; let it say the same"
