"""The camera's configuration: what is right is read, what is wrong is refused with the key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from edge.camera.config import CameraConfig, LiveCamera
from edge.camera.factory import source_from_config
from edge.camera.folder import FolderSource
from edge.camera.realsense import RealSenseSource
from edge.camera.recording import RecordingSource
from edge.camera.simulated import SimulatedSource

_ADAPTER: TypeAdapter[Any] = TypeAdapter(CameraConfig)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"source": "live"}, RealSenseSource),
        ({"source": "recording", "path": "a.bag"}, RecordingSource),
        ({"source": "folder", "path": "captures"}, FolderSource),
        ({"source": "simulated", "product": "plate", "parts": 2}, SimulatedSource),
    ],
)
def test_source_tells_the_kind(config: dict[str, Any], kind: type) -> None:
    source = source_from_config(_ADAPTER.validate_python(config))
    assert type(source) is kind
    source.close()  # never opened: harmless


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"source": "live", "seriel": "1"}, "seriel"),
        ({"source": "webcam"}, "'live', 'recording', 'folder', 'simulated'"),
        ({"source": "live", "options": {"exposure_us": 40_000}}, "can't hold 30 frames"),
        ({"source": "live", "min_plausible_depth_m": 2.0}, "must be below"),
        ({"source": "live", "options": {"power_line_hz": 55}}, "power_line_hz"),
        ({"source": "live", "record_to": "a.bag"}, ".db3"),
        ({"source": "recording", "path": "a.mp4"}, ".db3 or .bag"),
        ({"source": "folder", "path": "a", "repeat": True}, "repeat"),
        ({"source": "simulated", "product": "plate", "interval_s": 5.0}, "looks like a stalled camera"),
        ({"source": "simulated", "product": "plate", "defective_share": float("nan")}, "defective_share"),
    ],
)
def test_wrong_configuration_is_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _ADAPTER.validate_python(config)
    assert complaint in str(caught.value)


def test_default_is_the_d405s_own_profile() -> None:
    live = LiveCamera()
    assert (live.width_px, live.height_px, live.fps) == (848, 480, 30)
