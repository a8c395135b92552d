"""Whether a frame shows what is under the camera now: its age, its numbers, its clock, its picture."""

from __future__ import annotations

import hashlib
from collections import deque

import numpy as np

from edge.frame import CameraStamp, DepthImage, Frame

__all__ = ["FrameWatch"]

_AHEAD_NS = 50_000_000
"""A frame can't arrive later than it is looked at; more than this is no rounding."""

_DRIFT = 200e-6
"""By how much a camera's clock may run fast or slow: quartz is within 0.01 %, twice."""

_WRAP_S = 2**32 / 1e6
"""A D400 counts microseconds in 32 bits: after 71.6 minutes its clock begins anew (librealsense 2516)."""

_PICTURES = 8
"""A driver that replays its buffers has a few of them, and shows one after the other."""

_EVERY_ROW = 8
_ENOUGH_VALID = 0.01
"""The share of valid pixels from which noise makes two pictures differ for certain."""


class FrameWatch:
    """Judges the frames of one camera, in the order in which they come. One thread owns a watch.

    A frame is stale where it is older than `max_age_s` when it is looked at, by when it arrived or by the
    camera's clock; where it has the number of an earlier frame, or a lower one; where its time lies ahead
    of now or before that of an earlier frame; where its colour and its depth are more than `max_skew_s`
    apart; and, with `noisy`, where its depth is bit for bit that of a recent frame: a real sensor has noise.
    Numbers and times are compared with those of frames that were not stale: one that jumped can't make the
    good ones after it look stale.

    The camera's clock has no common zero with ours. The shortest way that a frame ever took from there to
    here is taken for none: what is longer is age. That zero may drift, as quartz does, and does not jump.
    """

    def __init__(self, *, max_age_s: float, max_skew_s: float | None = None, noisy: bool = True) -> None:
        self._max_age_s = max_age_s
        self._max_skew_s = max_skew_s
        self._noisy = noisy
        self._pictures: deque[bytes] = deque(maxlen=_PICTURES)
        self._newest_ns: int | None = None
        self._stamp: CameraStamp | None = None
        self._offset_s = 0.0
        self._offset_ns = 0
        self.stale = 0
        self.time_jumps = 0
        self.same_pictures = 0

    def begin(self) -> None:
        """The camera has been opened: its numbers and its clock begin anew; what it showed is remembered.

        Its first frame must be looked at as soon as it comes: by its way here the others are judged.
        """
        self._stamp = None
        self.same_pictures = 0

    def judge(self, frame: Frame, now_ns: int) -> str | None:
        """Why the frame is stale, in a sentence; None where nothing speaks against it."""
        by_picture = self._by_picture(frame)  # first of all: what is stale for another reason is seen, too
        reason = self._by_arrival(frame, now_ns) or self._by_camera(frame) or by_picture
        if reason is not None:
            self.stale += 1
            return f"frame {frame.seq} of {frame.source} {reason}"
        self._newest_ns = frame.captured_ns
        if frame.stamp is not None:
            self._take_offset(frame.stamp, frame)
            self._stamp = frame.stamp
        return None

    def _by_arrival(self, frame: Frame, now_ns: int) -> str | None:
        if frame.captured_ns > now_ns + _AHEAD_NS:
            self.time_jumps += 1
            return f"arrived {(frame.captured_ns - now_ns) / 1e9:.2f} s from now: its time can't be right"
        if self._newest_ns is not None and frame.captured_ns < self._newest_ns:
            self.time_jumps += 1
            return f"arrived {(self._newest_ns - frame.captured_ns) / 1e9:.2f} s before an earlier frame"
        age_s = (now_ns - frame.captured_ns) / 1e9
        if age_s > self._max_age_s:
            return f"arrived {age_s:.2f} s ago; at most {self._max_age_s:g} s are allowed"
        return None

    def _by_camera(self, frame: Frame) -> str | None:
        stamp, before = frame.stamp, self._stamp
        if stamp is None:
            return None
        if self._max_skew_s is not None and not stamp.wall_clock:
            apart_s = abs(_unwrapped(stamp.colour_time_s - stamp.time_s))
            if apart_s > self._max_skew_s:
                return f"has colour and depth that were taken {apart_s:.3f} s apart"
        return None if before is None else self._by_number(stamp, before) or self._by_clock(stamp, frame)

    def _by_number(self, stamp: CameraStamp, before: CameraStamp) -> str | None:
        for what, number, newest in (
            ("depth", stamp.number, before.number),
            ("colour", stamp.colour_number, before.colour_number),
        ):
            if number == newest:
                return f"shows {what} image {number} a second time"
            if number < newest:
                return f"shows {what} image {number}, and {newest} has been seen already"
        if stamp.wall_clock != before.wall_clock:
            self.time_jumps += 1
            return "has its time from another clock than the frame before"
        return None

    def _by_clock(self, stamp: CameraStamp, frame: Frame) -> str | None:
        late_s = self._longer_s(stamp, frame)
        if late_s < -self._max_age_s:
            self.time_jumps += 1
            return f"was taken {-late_s:.2f} s from now by the camera's clock: it has jumped"
        if late_s > self._max_age_s:
            return (
                f"was taken {late_s:.2f} s ago by the camera's clock (or that clock was set back); at most "
                f"{self._max_age_s:g} s are allowed"
            )
        return None

    def _take_offset(self, stamp: CameraStamp, frame: Frame) -> None:
        if self._stamp is None:
            self._offset_s = _way_s(stamp, frame)
        else:
            may_drift_s = _DRIFT * (frame.captured_ns - self._offset_ns) / 1e9
            # Down at once (a quicker way was found), up no faster than a clock drifts.
            self._offset_s += min(self._longer_s(stamp, frame), may_drift_s)
        self._offset_ns = frame.captured_ns

    def _longer_s(self, stamp: CameraStamp, frame: Frame) -> float:
        """By how much the frame took longer than the quickest one did."""
        longer_s = _way_s(stamp, frame) - self._offset_s
        return longer_s if stamp.wall_clock else _unwrapped(longer_s)

    def _by_picture(self, frame: Frame) -> str | None:
        if not self._noisy:
            return None
        picture = _digest(frame.depth_m)
        if picture is None:
            return None
        seen = picture in self._pictures
        self.same_pictures = self.same_pictures + 1 if seen else 0
        if not seen:
            self._pictures.append(picture)
            return None
        return "shows the very depth of an earlier one, bit for bit"


def _way_s(stamp: CameraStamp, frame: Frame) -> float:
    """From the camera's clock to ours: how long the frame took, plus what lies between the two zeros."""
    if stamp.wall_clock:
        return frame.captured_utc.timestamp() - stamp.time_s  # both leap together
    return frame.captured_ns / 1e9 - stamp.time_s


def _unwrapped(time_s: float) -> float:
    """A difference of times on a clock that begins anew every `_WRAP_S`."""
    return (time_s + _WRAP_S / 2) % _WRAP_S - _WRAP_S / 2


def _digest(depth_m: DepthImage) -> bytes | None:
    """Of every eighth row; None where too little of it is valid for noise to show."""
    rows = np.ascontiguousarray(depth_m[::_EVERY_ROW])
    if np.count_nonzero(rows) < _ENOUGH_VALID * rows.size:
        return None
    return hashlib.blake2b(rows.data, digest_size=16).digest()
