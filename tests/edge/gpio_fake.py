"""libgpiod's Python module with one chip that isn't there: the real module, but for the kernel under it.

Settings go through the real module into its C structures, calls are held against the real signatures, and
what the kernel would refuse is refused. Where the kernel has gpio-sim, tests use that instead.
"""

from __future__ import annotations

import errno
import inspect
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import gpiod
from gpiod.line import Direction, Value
from gpiod.line_settings import _line_settings_to_ext

__all__ = ["FakeChip", "fake_gpiod"]


@dataclass
class FakeChip:
    """A chip with named lines; `history` holds (time in s, level of the pin) of each change."""

    path: str = "/dev/gpiochip-fake"
    names: tuple[str, ...] = ("A", "B", "REJECT", "C")
    held: dict[int, FakeRequest] = field(default_factory=dict)
    level: dict[int, bool] = field(default_factory=dict)
    history: list[tuple[float, bool]] = field(default_factory=list)
    broken: bool = False

    def offset(self, line: int | str) -> int:
        if isinstance(line, str) and line in self.names:
            return self.names.index(line)
        if isinstance(line, int) and 0 <= line < len(self.names):
            return line
        raise (
            OSError(errno.ENOENT, "No such file or directory")
            if isinstance(line, str)
            else OSError(errno.EINVAL, "Invalid argument")
        )


class FakeRequest:
    """What `gpiod.LineRequest` is for one output line."""

    def __init__(self, chip: FakeChip, line: int | str, settings: gpiod.LineSettings) -> None:
        self._chip, self._line, self._settings = chip, line, settings
        self._offset = chip.offset(line)
        if self._offset in chip.held:
            raise OSError(errno.EBUSY, "Device or resource busy")
        _line_settings_to_ext(settings)
        assert settings.direction is Direction.OUTPUT
        chip.held[self._offset] = self
        self._apply(settings.output_value)

    def set_value(self, line: int | str, value: Value) -> None:
        if self._chip.held.get(self._offset) is not self:
            raise gpiod.RequestReleasedError
        assert isinstance(value, Value)
        assert line == self._line  # as it was requested, by name or by offset
        if self._chip.broken:
            raise OSError(errno.EIO, "Input/output error")
        self._apply(value)

    def release(self) -> None:
        if self._chip.held.get(self._offset) is not self:
            raise gpiod.RequestReleasedError
        del self._chip.held[self._offset]

    def _apply(self, value: Value) -> None:
        level = (value is Value.ACTIVE) is not self._settings.active_low
        if self._chip.level.get(self._offset) is not level:
            self._chip.level[self._offset] = level
            self._chip.history.append((time.monotonic(), level))


for _name in ("set_value", "release"):
    assert inspect.signature(getattr(FakeRequest, _name)).parameters.keys() == (
        inspect.signature(getattr(gpiod.LineRequest, _name)).parameters.keys()
    )


def fake_gpiod(chip: FakeChip) -> ModuleType:
    """The real module with another `request_lines`."""
    module = ModuleType("gpiod")
    module.__dict__.update({name: getattr(gpiod, name) for name in dir(gpiod) if not name.startswith("__")})

    def request_lines(*args: Any, **kwargs: Any) -> FakeRequest:
        given = inspect.signature(gpiod.request_lines).bind(*args, **kwargs).arguments
        if given["path"] != chip.path:
            return gpiod.request_lines(*args, **kwargs)  # the real thing, which finds no such chip
        assert given["consumer"]
        ((line, settings),) = given["config"].items()
        return FakeRequest(chip, line, settings)

    module.__dict__["request_lines"] = request_lines
    return module
