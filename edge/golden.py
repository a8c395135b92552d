"""Golden samples of a bundle, read as what the manifest says and as nothing else."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.bundle import ANOMALY_MAP, Manifest
from edge.bundle_files import read_file, refuse_pickle
from edge.errors import GoldenInvalid, PickleRefused, ZipBomb
from edge.preprocessing import tensor_shapes

__all__ = ["CELL_MM2", "FOREGROUND", "read_golden"]

FOREGROUND = "foreground"
"""An array that a sample may hold beside its tensors: bool (depth_px, depth_px), what the score is over."""

CELL_MM2 = "cell_mm2"
"""Another: float64 (1,), what a cell of the depth square covers (`edge.ruled_score.cell_mm2_of`)."""

_HEADER_BYTES = 1024
"""More than the header of an .npy with a plain dtype and four axes ever has (NumPy's format, NEP 1)."""

# As NumPy writes it (numpy.lib.format); NumPy's own reader takes more, and evaluates it.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00.."
    rb"\{'descr': '([^']{2,8})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,100})\), \} *\n",
    re.DOTALL,
)

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_Array = npt.NDArray[np.generic]
_Spec = tuple[str, tuple[int, ...]]


def read_golden(path: Path, manifest: Manifest) -> dict[str, _Array]:
    """The arrays of a golden sample (one of `Bundle.golden_files`) by name, verified as they are read.

    They are the tensors that the stages ask of the frame, each with its batch axis of 1, `anomaly_map`
    (1, 1, m, m) as the workstation had it, and maybe more of the bundle's tensors, `FOREGROUND`, `CELL_MM2`.
    Nothing is unpickled, and no more is unpacked than the manifest's shapes take. Raises `GoldenInvalid`
    where an array is missing, unknown, of another dtype or shape, or not finite; `PickleRefused`; `ZipBomb`
    where one claims to be larger than it can be; `BundleCorrupt`, `FileChanged` as `load_bundle` does.
    """
    name = f"golden/{path.name}"
    if name not in manifest.files:
        raise GoldenInvalid(f"{path}: the manifest lists no {name!r}; read what Bundle.golden_files gives")
    data = read_file(path, manifest.files[name])
    refuse_pickle(data, str(path))
    try:
        arrays = _read_arrays(path, data, _known(manifest))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        # `zipfile` tells of damage in many ways; an OSError is a seek to before the first byte.
        raise GoldenInvalid(f"{path}: is not an .npz that can be read ({error}); {_MENDING}") from error
    missing = sorted((manifest.wanted | {ANOMALY_MAP}) - set(arrays))
    if missing:
        raise GoldenInvalid(f"{path}: lacks {missing}; {_MENDING}")
    return arrays


_MENDING = "export the bundle anew"


def _known(manifest: Manifest) -> dict[str, _Spec]:
    """Dtype and shape of every array that a sample may hold."""
    side = manifest.preprocessing.depth_px
    made = {name: (spec.dtype, spec.shape) for name, spec in manifest.tensors.items()}
    own: dict[str, _Spec] = {FOREGROUND: ("bool", (side, side)), CELL_MM2: ("float64", (1,))}
    return {**own, **tensor_shapes(manifest.preprocessing), **made}


def _read_arrays(path: Path, data: bytes, known: Mapping[str, _Spec]) -> dict[str, _Array]:
    arrays: dict[str, _Array] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if not member.filename.endswith(".npy") or name not in known:
                refuse_pickle(b"", f"{path}: {member.filename}")
                raise GoldenInvalid(
                    f"{path}: holds {member.filename!r}; this bundle has the tensors {sorted(known)}: "
                    f"{_MENDING}"
                )
            if name in arrays:
                raise GoldenInvalid(f"{path}: holds {name!r} twice; {_MENDING}")
            arrays[name] = _read_array(f"{path}: {name!r}", archive, member, *known[name])
    return arrays


def _read_array(
    where: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: str, shape: tuple[int, ...]
) -> _Array:
    limit = math.prod(shape) * np.dtype(dtype).itemsize + _HEADER_BYTES
    if member.file_size > limit:
        raise ZipBomb(
            f"{where}: claims to hold {member.file_size} bytes, {dtype}{shape} takes no more than {limit}; "
            f"it was not unpacked: {_MENDING}"
        )
    if member.compress_type not in _METHODS:
        raise GoldenInvalid(f"{where}: is compressed by method {member.compress_type}; {_MENDING}")
    # `zipfile` gives no more than the size that the member claims, and checks its CRC at the end.
    content = archive.read(member)
    refuse_pickle(content, where)
    array = _array_of(where, content, dtype, shape)
    if not bool(np.isfinite(array).all()):
        raise GoldenInvalid(
            f"{where}: {int((~np.isfinite(array)).sum())} of its {array.size} values are NaN or infinite, "
            f"and nothing can be held against those; {_MENDING}"
        )
    return np.ascontiguousarray(array)


def _array_of(where: str, content: bytes, dtype: str, shape: tuple[int, ...]) -> _Array:
    header = _HEADER.match(content)
    length = int.from_bytes(content[8:10], "little")
    if header is None or header.end() != 10 + length:
        raise GoldenInvalid(f"{where}: is not an array of numbers in NumPy's format 1.0; {_MENDING}")
    descr, order, axes = (group.decode() for group in header.groups())
    if descr.startswith("|O"):
        raise PickleRefused(
            f"{where}: holds Python objects, which are pickled; reading them would run what they hold, and "
            f"they were not read: {_MENDING}"
        )
    found = tuple(int(axis) for axis in axes.replace(" ", "").split(",") if axis)
    if descr != np.dtype(dtype).str or found != shape:
        raise GoldenInvalid(f"{where}: is {descr}{found}, must be {np.dtype(dtype).str}{shape}; {_MENDING}")
    size = len(content) - header.end()
    if size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise GoldenInvalid(f"{where}: has {size} bytes of numbers for {dtype}{shape}; {_MENDING}")
    flat = np.frombuffer(content, dtype, offset=header.end())
    return flat.reshape(shape, order="F" if order == "True" else "C")
