"""`bdSeq`, the number that a birth and the death of the same connection share, kept over a restart."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.sealed import write_atomically

__all__ = ["BirthCount"]

_log = logging.getLogger(__name__)

_NUMBERS = 256


class BirthCount:
    """Counts attempts to connect from 0 to 255, and from 0 again, in a small file of the rig's state folder.

    Without a folder, or where its disk refuses, the count begins anew with each start: a host may then take
    the death of the connection before for that of this one, until the next birth.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._path = None if state_dir is None else state_dir / "sparkplug_bdseq"
        self._last = self._recall()

    def next(self) -> int:
        """The number of the connection that is begun now."""
        self._last = (self._last + 1) % _NUMBERS
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, f"{self._last}\n".encode())
            except OSError as error:
                _log.warning(
                    "%s: bdSeq can't be kept (%s); free some space, or mend the rights of daemon.state_dir",
                    self._path,
                    error.strerror,
                )
        return self._last

    def _recall(self) -> int:
        if self._path is None:
            return -1
        try:
            last = int(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return -1
        except ValueError:
            _log.warning("%s: is damaged; bdSeq begins with 0", self._path)
            return -1
        except OSError as error:
            _log.warning("%s: can't be read (%s); bdSeq begins with 0", self._path, error.strerror)
            return -1
        return last % _NUMBERS
