"""Parts that do not exist, under a camera that does not exist, with the truth about each."""

from __future__ import annotations

from edge.simulation.defects import DEFECTS
from edge.simulation.products import PRODUCTS
from edge.simulation.rig import Appearance, RigScene
from edge.simulation.scene import Scene, Shot

__all__ = ["DEFECTS", "PRODUCTS", "Appearance", "RigScene", "Scene", "Shot"]
