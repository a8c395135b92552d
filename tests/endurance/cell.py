"""One cell to try: a rig's YAML over a tiny bundle and the small camera, and a folder for what it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edge.topics import RigIdentity, Topics
from tests.endurance.small_camera import FPS, HEIGHT_PX, SERIAL, WIDTH_PX
from tests.tiny_bundle import make_tiny_bundle

__all__ = ["EXPOSURE_US", "QUEUE", "TOPICS", "write_rig"]

EXPOSURE_US = 8000.0
QUEUE = 8

_IDENTITY = {"enterprise": "acme", "site": "dresden", "area": "assembly", "line": "line-3", "cell": "cell-2"}
TOPICS = Topics(RigIdentity.model_validate(_IDENTITY).root)

_THRESHOLD = 0.8  # the plain part has 0.6, the marked one 1.1


def write_rig(
    folder: Path, port: int, *, state_dir: Path | None = None, **sections: Mapping[str, object]
) -> Path:
    """A `rig.yaml` triggered by command, with the recipes `main` and `other`; `sections` are merged in."""
    for name in ("main", "other"):
        make_tiny_bundle(folder / f"bundle-{name}", threshold=_THRESHOLD)
    rig: dict[str, dict[str, object]] = {
        "rig": dict(_IDENTITY),
        "camera": {
            "source": "live",
            "serial": SERIAL,
            "width_px": WIDTH_PX,
            "height_px": HEIGHT_PX,
            "fps": FPS,
            "read_timeout_s": 2.0,
            "options": {"exposure_us": EXPOSURE_US, "gain": 16},
            "care": {"first_backoff_s": 0.1, "last_backoff_s": 0.5, "reset_after": None},
        },
        "recipes": {
            name: {
                "bundle": str(folder / f"bundle-{name}"),
                "trigger": {"kind": "command", "timeout_s": 2.0, "lead_ms": 5},
            }
            for name in ("main", "other")
        },
        "runtime": {"backend": "onnx", "threads": 1},
        "broker": {"port": port},
        "health": {"interval_s": 1.0},
        "daemon": {"state_dir": str(state_dir or folder / "state"), "queue": QUEUE, "flush_timeout_s": 5.0},
    }
    for name, section in sections.items():
        rig.setdefault(name, {}).update(section)
    path = folder / "rig.yaml"
    path.write_text(json.dumps({**rig, "recipe": "main"}, indent=1), encoding="utf-8")
    return path
