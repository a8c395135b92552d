"""TensorRT's timing cache on disk: how fast each kernel was, so that the next build need not measure it."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from edge.errors import RunnerError
from edge.runtime.tensorrt.gpu import GpuIdentity
from edge.sealed import write_atomically

__all__ = ["TimingCache"]

_log = logging.getLogger(__name__)


class TimingCache:
    """One file: a line that says whose it is and what sha256 follows, then TensorRT's own bytes.

    A file that is damaged, or was made by another TensorRT or on another GPU, is not used, and a warning
    says so; the next build writes it anew. It is lent to one build at a time.
    """

    def __init__(self, path: Path, gpu: GpuIdentity) -> None:
        self.path = path
        self._gpu = gpu
        self._cache: Any = None
        self._lent = b""

    def lend(self, trt: Any, config: Any) -> None:
        """Give what the file holds to a build's config, or an empty cache."""
        self._lent = self._read(trt)
        self._cache = config.create_timing_cache(self._lent)
        if self._cache is not None and config.set_timing_cache(self._cache, False):
            return
        if self._lent:
            _log.warning("%s: TensorRT %s refuses it; it is made anew", self.path, trt.__version__)
            self._lent = b""
            self._cache = config.create_timing_cache(b"")
            if self._cache is not None and config.set_timing_cache(self._cache, False):
                return
        raise RunnerError(f"TensorRT {trt.__version__} takes no timing cache")

    def take_back(self, trt: Any, config: Any) -> None:
        """Write what the build has added. Raises `RunnerError` where the file can't be written."""
        blob = bytes(config.get_timing_cache().serialize())
        if blob == self._lent:
            return
        try:
            write_atomically(self.path, self._header(trt, blob) + blob)
        except OSError as error:
            raise RunnerError(
                f"{self.path}: the timing cache can't be written ({error.strerror}); free some space, or let "
                "runtime.timing_cache name another place"
            ) from error

    def _header(self, trt: Any, blob: bytes) -> bytes:
        gpu = f"{self._gpu.name}, SM {self._gpu.sm}"
        digest = hashlib.sha256(blob).hexdigest()
        return f"timing cache of TensorRT {trt.__version__} on {gpu}; sha256 {digest}\n".encode()

    def _read(self, trt: Any) -> bytes:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RunnerError(
                f"{self.path}: the timing cache can't be read ({error.strerror}); check who may read it"
            ) from error
        header, newline, blob = raw.partition(b"\n")
        wanted = self._header(trt, blob)
        if header + newline == wanted:
            return blob
        _log.warning(
            "%s: is damaged, or of another GPU or TensorRT, and not used; it says %r, must say %r",
            self.path,
            header[:200].decode(errors="replace"),
            wanted.decode().rstrip(),
        )
        return b""
