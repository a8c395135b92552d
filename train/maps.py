"""The maps and masks of a whole test split, in bounded memory.

A map at the frame's resolution follows from a few numbers: the model's cells (m, m), the foreground and the
view. These are kept (about 10 kB an image), and the map is made again when it is asked for, a few
milliseconds each. The first maps up to a limit are kept as they are, so that small splits cost nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from edge.framing import View
from edge.scoring import ScoreSpec, smooth_map
from train.metrics.lazy import picked

__all__ = ["KEPT_MAPS_BYTES", "MadeMaps", "PackedMask", "PackedMasks", "StoredMap", "pack"]

KEPT_MAPS_BYTES = 512 << 20
"""Maps beyond this are made anew each time: 800 of 400×400 fit."""

_Float = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask (H, W) as compressed bits; a few hundred bytes where it is one blob."""

    shape: tuple[int, int]
    bits: bytes

    def unpack(self) -> _Mask:
        """(H, W) bool."""
        packed = np.frombuffer(zlib.decompress(self.bits), dtype=np.uint8)
        height, width = self.shape
        return np.unpackbits(packed, count=height * width).reshape(height, width).astype(np.bool_)


def pack(mask: _Mask) -> PackedMask:
    """`pack(mask).unpack()` is the mask."""
    height, width = mask.shape
    return PackedMask((height, width), zlib.compress(np.packbits(mask).tobytes(), level=1))


class PackedMasks(Sequence[_Mask]):
    """Masks (H, W), each unpacked when it is asked for."""

    def __init__(self, masks: Sequence[PackedMask]) -> None:
        self._masks = tuple(masks)

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, index: int) -> _Mask: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Mask]: ...
    def __getitem__(self, index: int | slice) -> _Mask | Sequence[_Mask]:
        if isinstance(index, slice):
            return PackedMasks(self._masks[index])
        return self._masks[index].unpack()


@dataclass(frozen=True, slots=True, eq=False)
class StoredMap:
    """What a map follows from: `cells` (m, m), the foreground of the square, the view, the frame's size."""

    cells: _Float
    foreground: PackedMask
    view: View
    width_px: int
    height_px: int

    def make(self, score: ScoreSpec) -> _Float:
        """(height_px, width_px), 0 outside the foreground and the view."""
        square = smooth_map(self.cells, self.foreground.unpack(), score)  # (side, side)
        return self.view.give_back(square, self.width_px, self.height_px)


class MadeMaps(Sequence[_Float]):
    """Maps float32 (H, W) at the frames' resolution; an item is the same each time it is asked for.

    The first ones to be asked for are kept, up to `kept_bytes`; all others are made anew.
    """

    def __init__(
        self, stored: Sequence[StoredMap], score: ScoreSpec, kept_bytes: int = KEPT_MAPS_BYTES
    ) -> None:
        self._stored, self._score = tuple(stored), score
        self._left_bytes = kept_bytes
        self._kept: dict[int, _Float] = {}

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> _Float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Float]: ...
    def __getitem__(self, index: int | slice) -> _Float | Sequence[_Float]:
        if isinstance(index, slice):
            return picked(self, range(len(self))[index])
        row = range(len(self))[index]
        if row in self._kept:
            return self._kept[row]
        made = self._stored[row].make(self._score)  # (H, W)
        made.flags.writeable = False
        if made.nbytes <= self._left_bytes:
            self._left_bytes -= made.nbytes
            self._kept[row] = made
        return made
