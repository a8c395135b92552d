"""The one place that imports librealsense."""

from __future__ import annotations

import ctypes
from typing import Any

from edge.errors import CameraError

__all__ = ["import_librealsense"]


def import_librealsense() -> Any:
    """The module `pyrealsense2`; loaded when a camera is opened, not before: not every rig has librealsense.

    Raises `CameraError` where it can't be imported.
    """
    try:
        import libusb_package  # noqa: PLC0415

        # The wheel of pyrealsense2 links libusb-1.0.so.0 but does not bring it, and a device need not have
        # it: loaded by name into the global table beforehand, the dynamic linker finds it there.
        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
        import pyrealsense2  # noqa: PLC0415
    except (ImportError, OSError) as error:
        raise CameraError(
            f"librealsense can't be loaded ({error}); install pyrealsense2 and libusb-package into this "
            "Python (wheels exist for CPython 3.10 and 3.12 on aarch64, glibc 2.34 or later)"
        ) from error
    return pyrealsense2
