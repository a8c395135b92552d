"""Writes a `.bag` of the noise scene's first frames, in a Python that finds a librealsense before 2.58.

Run as `python bag_writer.py <path.bag> <frames>`; pyrealsense2 2.57 comes from PYTHONPATH.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import NoiseScene

from edge.camera.depth_integers import z16_from_depth_m
from edge.camera.librealsense import import_librealsense
from edge.camera.software_device import SoftwareD405


def write(path: str, parts: int) -> None:
    rs = import_librealsense()
    scene = NoiseScene(parts)
    view = scene.intrinsics
    camera = SoftwareD405(view, scene.depth_unit_m, serial="bag")
    streams = rs.config()
    streams.enable_stream(rs.stream.depth, view.width_px, view.height_px, rs.format.z16, 30)
    streams.enable_stream(rs.stream.color, view.width_px, view.height_px, rs.format.rgb8, 30)
    streams.enable_record_to_file(path)
    pipeline = rs.pipeline()
    pipeline.set_device(camera.device)
    pipeline.start(streams)
    for index in range(parts):
        shot = scene.shot(index)
        if shot is not None:
            camera.push(index + 1, shot.rgb, z16_from_depth_m(shot.depth_m, scene.depth_unit_m))
            pipeline.wait_for_frames(5000)
    pipeline.stop()


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]))
    gc.collect()
