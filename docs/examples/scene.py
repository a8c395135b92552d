"""Draw what the watch sees beside a part, and what it says of a camera that came loose.

python docs/examples/scene.py docs/images/scene.jpg
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.clock import utc_now
from edge.depth import fit_background_plane
from edge.frame import Frame
from edge.scene.look import COLUMNS, ROWS, look_at
from edge.scene.tilt import tilt_of, turning
from edge.simulation import Appearance, RigScene

Picture = npt.NDArray[np.uint8]


def frame_of(lean_deg: tuple[float, float]) -> tuple[Frame, npt.NDArray[np.bool_]]:
    """A good plate under a camera that leans, and where it lies."""
    scene = RigScene("plate", 7, defective_share=0.0, appearance=Appearance(lean_deg=lean_deg))
    shot = scene.shot(3)
    if shot is None:
        raise SystemExit("the simulation ended before its third part")
    frame = Frame(
        rgb=shot.rgb,
        depth_m=shot.depth_m,
        depth_unit_m=scene.depth_unit_m,
        intrinsics=scene.intrinsics,
        captured_ns=0,
        captured_utc=utc_now(),
        seq=3,
        source="simulated",
    )
    return frame, scene.part_mask(3)


def cells_picture(frame: Frame, part: npt.NDArray[np.bool_]) -> Picture:
    """The frame, with the cells that are compared outlined and the others darkened."""
    look = look_at(frame, fit_background_plane(frame.depth_m, frame.intrinsics), part)
    if look is None:
        raise SystemExit("the part hides the tray")
    picture = frame.rgb.copy()
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = row * frame.height_px // ROWS, column * frame.width_px // COLUMNS
            bottom, right = (row + 1) * frame.height_px // ROWS, (column + 1) * frame.width_px // COLUMNS
            if np.isnan(look.fill[row, column]):
                picture[top:bottom, left:right] //= 3
            else:
                cv2.rectangle(picture, (left, top), (right, bottom), (90, 110, 130), 1)
    return picture


def depth_picture(frame: Frame) -> Picture:
    """Depth in colours, near to far within 2 cm of the tray's middle; black where there is none."""
    middle_m = float(np.median(frame.depth_m[frame.depth_m > 0]))
    scaled = np.clip((frame.depth_m - middle_m) / 0.02 * 127 + 128, 0, 255).astype(np.uint8)
    picture = cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)[..., ::-1].copy()
    picture[frame.depth_m <= 0] = 0
    return np.asarray(picture, dtype=np.uint8)


def captioned(picture: Picture, lines: list[str]) -> Picture:
    strip = np.full((26 * len(lines) + 14, picture.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines):
        place = (8, 26 * (number + 1))
        cv2.putText(strip, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def main() -> None:
    frame, part = frame_of((1.0, 6.0))
    plane = fit_background_plane(frame.depth_m, frame.intrinsics)
    about_x, about_y = tilt_of(plane)
    said = (turning(about_x, about_y) or "the camera is level").replace("°", " deg")
    lines = ["Depth: red is further away. What the rig says:", *textwrap.wrap(said, 62)]
    right = captioned(depth_picture(frame), lines)
    left = captioned(
        cells_picture(frame, part),
        ["Compared with set-up: the cells beside the part.", *[""] * (len(lines) - 1)],
    )
    whole = np.hstack([left, np.full((left.shape[0], 12, 3), 255, np.uint8), right])
    small = cv2.resize(whole, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(Path(sys.argv[1])), small[..., ::-1]):
        raise SystemExit(f"{sys.argv[1]} can't be written")


if __name__ == "__main__":
    main()
