"""From the `camera:` part of a rig's configuration to its frame source."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import assert_never

from edge.camera.config import CameraConfig, FolderCamera, LiveCamera, RecordingCamera, SimulatedCamera
from edge.camera.events import CameraEvent
from edge.camera.folder import FolderSource
from edge.camera.keeper import CLOSE_S, CameraKeeper
from edge.camera.realsense import RealSenseSource
from edge.camera.recording import RecordingSource
from edge.camera.simulated import SimulatedSource
from edge.camera.source import FrameSource

__all__ = ["kept_source_from_config", "source_from_config"]


def kept_source_from_config(
    config: CameraConfig,
    *,
    max_age_s: float = 2.0,
    on_event: Callable[[CameraEvent], None] = lambda event: None,
) -> FrameSource:
    """The source that `config` describes, not yet open: a live camera in the hands of a `CameraKeeper`.

    The others need no care: their frames are made when they are read, and are not made again.
    """
    source = source_from_config(config)
    if not isinstance(config, LiveCamera):
        return source
    return CameraKeeper(
        source,
        config.care,
        stall_s=config.read_timeout_s,
        max_age_s=max_age_s,
        max_skew_s=0.75 / config.fps,  # images of one moment lie closer, of two a whole frame apart
        # A recording is counted and hashed when it is closed, which takes as long as it takes.
        close_timeout_s=config.care.hung_after_s if config.record_to else CLOSE_S,
        on_event=on_event,
    )


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
