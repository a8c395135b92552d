"""Holds a camera's options still: set, read back, and refused where they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge.camera.config import LockedOptions
from edge.errors import CameraOptionRefused

__all__ = ["check_options", "depth_sensor", "lock_options"]

_POWER_LINE = {0: 0.0, 50: 1.0, 60: 2.0}
"""Hertz → value of the option (librealsense: 0 disabled, 1 50 Hz, 2 60 Hz, 3 automatic)."""


def depth_sensor(rs: Any, device: Any, source: str) -> Any:
    """The sensor that knows the depth unit; on a D405 it carries every option, colour's too.

    Found by the option: a device that is being recorded hides its sensors' types.
    """
    for sensor in device.query_sensors():
        if sensor.supports(rs.option.depth_units):
            return sensor
    raise CameraOptionRefused(f"{source}: no sensor tells its depth unit; is it a depth camera?")


def lock_options(
    rs: Any, device: Any, options: LockedOptions, source: str, before: Mapping[Any, float] | None = None
) -> dict[Any, float]:
    """Switch every automatic off, set what `options` asks for, and return what has to hold from now on.

    Options that `options` leaves at None are set to what `before` says (what the last call returned: a
    camera that lost power comes back with other values), and without it held at the value that the camera
    has. Raises `CameraOptionRefused` where the camera lacks an option that was asked for, or does not take
    its value.
    """
    sensor = depth_sensor(rs, device, source)
    held: dict[Any, float] = {}
    # Automatics first: while one runs, the camera ignores the value that it governs. And the times of frames
    # on the camera's own clock: those that librealsense carries over to the wall clock leap with it, and step
    # by themselves when the camera's 32 bits begin anew (librealsense 7922, 15360).
    for automatic in (
        rs.option.enable_auto_exposure,
        rs.option.enable_auto_white_balance,
        rs.option.global_time_enabled,
    ):
        if sensor.supports(automatic):
            held[automatic] = _set(sensor, automatic, 0.0, source)
    asked = {
        rs.option.exposure: options.exposure_us,
        rs.option.gain: options.gain,
        rs.option.white_balance: options.white_balance_k,
        rs.option.power_line_frequency: (
            None if options.power_line_hz is None else _POWER_LINE[options.power_line_hz]
        ),
    }
    for option, wanted in asked.items():
        value = (before or {}).get(option) if wanted is None else wanted
        if sensor.supports(option):
            held[option] = (
                float(sensor.get_option(option)) if value is None else _set(sensor, option, value, source)
            )
        elif value is not None:
            raise CameraOptionRefused(
                f"{source}: has no option {option.name}; leave it out of camera.options (asked for {value:g})"
            )
    check_options(sensor, held, source)
    return held


def check_options(sensor: Any, held: Mapping[Any, float], source: str) -> None:
    """Raises `CameraOptionRefused` for the first option whose value is not the one that was set."""
    for option, value in held.items():
        actual = float(sensor.get_option(option))
        if not math.isclose(actual, value, rel_tol=1e-6):
            raise CameraOptionRefused(
                f"{source}: {option.name} was set to {value:g} and reads {actual:g}{_allowed(sensor, option)}"
            )


def _set(sensor: Any, option: Any, value: float, source: str) -> float:
    try:
        sensor.set_option(option, value)
    except RuntimeError as error:
        raise CameraOptionRefused(
            f"{source}: {option.name} can't be set to {value:g} ({error}){_allowed(sensor, option)}"
        ) from error
    return value


def _allowed(sensor: Any, option: Any) -> str:
    allowed = sensor.get_option_range(option)
    return f"; it takes {allowed.min:g} to {allowed.max:g} in steps of {allowed.step:g}"
