"""The scene around the parts, watched while they are inspected: warned of before verdicts go bad."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from edge.captures import IntrinsicsInfo
from edge.clock import utc_now
from edge.depth import BackgroundPlane, fit_background_plane
from edge.errors import DepthUnusable, SceneError
from edge.frame import Frame
from edge.inspector import PreparedPart
from edge.scene.config import SceneConfig
from edge.scene.drift import Excess, LearntCells, drifts
from edge.scene.figures import SceneFigures, median_of
from edge.scene.health import SceneDrift, SceneHealth, SceneReason, SceneWarning
from edge.scene.look import look_at
from edge.scene.tilt import turning
from edge.scene.tray import Tray, read_tray

__all__ = ["SceneWatch", "watch_from_file"]

_log = logging.getLogger(__name__)

_ENDS_AT = 0.8
"""Of its limit: a drift at the limit would begin and end a warning all day."""

_FIRST_SHARE = 1 / 3
"""How much of the window must be there before it is judged."""

_AGAIN = "learn the tray again (edge-capture --tray)"


class SceneWatch:
    """Compares what is seen beside the parts with the tray as it was learnt; one thread shows it the parts.

    Without `tray` figures are published, and nothing is compared; `trouble` says why, where there is one
    that can't be read. It changes no verdict and no state. `health` may be called from any thread.
    """

    def __init__(
        self, tray: Tray | None, config: SceneConfig | None = None, *, trouble: str | None = None
    ) -> None:
        self._tray = tray
        self._config = config or SceneConfig()
        self._trouble = trouble
        self._cells = None if tray is None else LearntCells(tray)
        self._readings: deque[tuple[SceneFigures, SceneDrift | None]] = deque(maxlen=self._config.window)
        self._foreign: Excess | None = None
        self._warnings: dict[SceneReason, SceneWarning] = {}
        self._last_ns: int | None = None
        self._last_look: datetime | None = None
        self._lock = threading.Lock()
        if trouble is not None:
            self._judge([Excess(SceneReason.TRAY_UNREADABLE, float("inf"), trouble)])

    def see(self, part: PreparedPart) -> None:
        """Look at what was prepared for inspection, if it is time for it: takes about 5 ms then."""
        frame = part.frame
        if frame.stale is not None or not self._time_to_look(frame.captured_ns):
            return
        prepared = part.prepared
        if prepared is not None:
            plane = prepared.plane if prepared.background == "plane" else _plane_of(frame)
            look = look_at(frame, plane, prepared.part)
        elif part.undecided is not None:  # its background was not found, which is worth to know
            look = look_at(frame, None, None)
        else:
            return
        if look is None:
            return
        self._foreign = self._foreign_camera(frame)
        comparable = self._cells is not None and self._foreign is None
        drift = self._cells.drift_of(look) if self._cells is not None and comparable else None
        with self._lock:
            self._last_ns, self._last_look = frame.captured_ns, frame.captured_utc
            if self._readings and (self._readings[-1][1] is None) != (drift is None):
                self._readings.clear()  # of another camera
            self._readings.append((look.figures, drift))
        if self._foreign is not None:
            with self._lock:
                self._warnings = {r: w for r, w in self._warnings.items() if r is self._foreign.reason}
            self._judge([self._foreign])
        elif self._tray is not None:
            self._judge(self._excesses())

    def health(self) -> SceneHealth:
        """The figures now and as learnt, and what is warned of."""
        with self._lock:
            now, drift = self._medians()
            return SceneHealth(
                tray="unreadable" if self._trouble else "not_learnt" if self._tray is None else "learnt",
                learnt_time=None if self._tray is None else self._tray.learnt_utc,
                learnt=None if self._tray is None else self._tray.figures,
                now=now,
                drift=drift,
                levelling=None
                if now is None or now.plane is None
                else turning(now.plane.tilt_x_deg, now.plane.tilt_y_deg),
                looks=len(self._readings),
                last_look=self._last_look,
                warnings=tuple(self._warnings.values()),
            )

    def _time_to_look(self, captured_ns: int) -> bool:
        # Another clock's time, or one that was set back, is no reason to wait for it.
        return self._last_ns is None or abs(captured_ns - self._last_ns) >= self._config.interval_s * 1e9

    def _foreign_camera(self, frame: Frame) -> Excess | None:
        """Why this frame can't be compared with the tray as learnt."""
        tray = self._tray
        if tray is None:
            return None
        if frame.source != tray.camera:
            detail = (
                f"the tray was learnt by camera {tray.camera}, this is {frame.source}; drift can't be told: "
                f"{_AGAIN}"
            )
            return Excess(SceneReason.OTHER_CAMERA, float("inf"), detail)
        now = IntrinsicsInfo.of(frame.intrinsics)
        if now != tray.intrinsics:
            was = tray.intrinsics
            detail = (
                f"the tray was learnt at {was.width_px}×{was.height_px} px with fx {was.fx_px:g} px, the "
                f"camera now gives {now.width_px}×{now.height_px} px with fx {now.fx_px:g} px; drift can't "
                f"be told: set the camera as it was, or {_AGAIN}"
            )
            return Excess(SceneReason.INTRINSICS_CHANGED, float("inf"), detail)
        return None

    def _medians(self) -> tuple[SceneFigures | None, SceneDrift | None]:
        if not self._readings:
            return None, None
        drift = [reading for _, reading in self._readings if reading is not None]
        return median_of([figures for figures, _ in self._readings]), median_of(drift) if drift else None

    def _excesses(self) -> Iterator[Excess]:
        yield Excess(SceneReason.OTHER_CAMERA, 0.0, "")
        yield Excess(SceneReason.INTRINSICS_CHANGED, 0.0, "")
        now, drift = self._medians()
        if now is None or drift is None or self._tray is None:
            return
        if len(self._readings) >= max(2, self._config.window * _FIRST_SHARE):
            yield from drifts(drift, now, self._tray.figures, self._config.limits)

    def _judge(self, excesses: Iterable[Excess]) -> None:
        """Begin and end warnings, and say so once; what is not told of stays as it is."""
        for excess in excesses:
            reason, warning = excess.reason, self._warnings.get(excess.reason)
            if warning is None and excess.share > 1:
                _log.warning("scene: %s: %s", reason.value, excess.detail)
                self._set(SceneWarning(reason=reason, detail=excess.detail, since=utc_now()))
            elif warning is not None and excess.share > _ENDS_AT:
                self._set(warning.model_copy(update={"detail": excess.detail}))
            elif warning is not None:
                _log.info("scene: %s is over", reason.value)
                with self._lock:
                    del self._warnings[reason]

    def _set(self, warning: SceneWarning) -> None:
        with self._lock:
            self._warnings[warning.reason] = warning


def watch_from_file(config: SceneConfig, state_dir: Path) -> SceneWatch:
    """A watch with the tray that was learnt, if there is one.

    A tray that can't be read, or one that the configuration names and that is not there, is a warning in
    health and in the log: verdicts do not rest on it, so it stops no rig.
    """
    path = config.tray_file(state_dir)
    if config.tray is None and not path.exists() and not path.is_symlink():
        _log.info("no tray was learnt (%s): the scene is measured, and not compared", path)
        return SceneWatch(None, config)
    try:
        return SceneWatch(read_tray(path), config)
    except SceneError as error:
        return SceneWatch(None, config, trouble=str(error))


def _plane_of(frame: Frame) -> BackgroundPlane | None:
    """As the tray's was found; a surface through four corners is no measure for a camera's place."""
    try:
        return fit_background_plane(frame.depth_m, frame.intrinsics)
    except DepthUnusable:
        return None
