"""From the `camera:` part of a rig's configuration to its frame source."""

from __future__ import annotations

from typing_extensions import assert_never

from edge.camera.config import CameraConfig, FolderCamera, LiveCamera, RecordingCamera, SimulatedCamera
from edge.camera.folder import FolderSource
from edge.camera.realsense import RealSenseSource
from edge.camera.recording import RecordingSource
from edge.camera.simulated import SimulatedSource
from edge.camera.source import FrameSource

__all__ = ["source_from_config"]


def source_from_config(config: CameraConfig) -> FrameSource:
    """The source that `config` describes, not yet open."""
    if isinstance(config, LiveCamera):
        return RealSenseSource(config)
    if isinstance(config, RecordingCamera):
        return RecordingSource(config)
    if isinstance(config, FolderCamera):
        return FolderSource(config)
    if isinstance(config, SimulatedCamera):
        # A rig with a real camera has no need of the renderer.
        from edge.simulation.noise import ColourNoise, DepthNoise  # noqa: PLC0415
        from edge.simulation.rig import RigScene  # noqa: PLC0415

        return SimulatedSource(
            config,
            RigScene(
                product=config.product,
                seed=config.seed,
                parts=config.parts,
                defective_share=config.defective_share,
                defects=config.defects,
                severity=config.severity,
                empty_share=config.empty_share,
                depth_noise=DepthNoise() if config.noise else None,
                colour_noise=ColourNoise() if config.noise else None,
            ),
        )
    assert_never(config)
