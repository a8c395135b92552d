"""The `sparkplug` section of the rig's YAML."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from edge.topics import RigIdentity, Segment

__all__ = ["SparkplugConfig"]


class SparkplugConfig(BaseModel):
    """The rig as an edge node of Sparkplug B, on the broker of `broker`.

    `group_id` and `edge_node_id` are `enterprise:site:area` and `line:cell` of `rig` if not given; together
    they must be the only ones on the broker. With `primary_host_id` the rig is born only while that host says
    that it is online. Of verdicts made meanwhile, or while the broker is away, the last `history` are sent
    later, as history.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = True
    group_id: Segment | None = None
    edge_node_id: Segment | None = None
    primary_host_id: Segment | None = None
    history: int = Field(default=1000, ge=0, le=100_000)

    def group_of(self, rig: RigIdentity) -> str:
        """The group that the rig is in."""
        return self.group_id or f"{rig.enterprise}:{rig.site}:{rig.area}"

    def node_of(self, rig: RigIdentity) -> str:
        """What the rig is called in its group."""
        return self.edge_node_id or f"{rig.line}:{rig.cell}"
