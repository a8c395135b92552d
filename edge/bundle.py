"""The model bundle on disk: a manifest, ONNX stages wired by tensor names, golden samples, a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from edge.bundle_files import MAX_FILE_BYTES, FileSpec, check_file, files_of, read_file, stays_inside
from edge.calibration import Calibration
from edge.calibration_file import CALIBRATION_FILE, parse_calibration, read_sealed_calibration
from edge.errors import BundleCorrupt, BundleInvalid, FileTooLarge, PathEscapes
from edge.preprocessing import Preprocessing, tensor_shapes
from edge.scoring import ScoreSpec
from edge.sealed import plain_data, read_sealed, seal, write_atomically
from edge.signature import SIGNATURE_FILE, PublicKey, check_signature

__all__ = [
    "ANOMALY_MAP",
    "MANIFEST_FILE",
    "UNLISTED_FILES",
    "Bundle",
    "FileSpec",
    "Manifest",
    "Precision",
    "StageSpec",
    "TensorSpec",
    "load_bundle",
    "load_to_sign",
    "write_manifest",
]

MANIFEST_FILE = "manifest.yaml"
ANOMALY_MAP = "anomaly_map"
"""The tensor that the last stage gives: float32 (1, 1, m, m)."""

Precision = Literal["fp32", "fp16", "int8"]
"""What a stage's graph computes in. The graph spells it out (casts, Q/DQ nodes); no backend adds any."""

UNLISTED_FILES = frozenset({MANIFEST_FILE, CALIBRATION_FILE, SIGNATURE_FILE})
"""What a bundle may hold beside the files that its manifest lists."""


class TensorSpec(BaseModel):
    """Data type and shape of a tensor that passes between stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "float16", "uint8", "int8", "int32", "int64"]
    shape: tuple[int, ...] = Field(min_length=1)


class StageSpec(BaseModel):
    """One ONNX file, which tensor is which of its inputs and outputs (graph's name → tensor's name), and the
    precision of its arithmetic.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    file: str
    precision: Precision
    inputs: dict[str, str] = Field(min_length=1)
    outputs: dict[str, str] = Field(min_length=1)


class Manifest(BaseModel):
    """All that a device must know of a model; `files` names every file but manifest, calibration, signature.

    `tensors` gives dtype and shape of each tensor that a stage makes. `provenance` says where the model
    comes from, `licences` those of its weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    product: str = Field(min_length=1)
    method: str = Field(min_length=1)
    preprocessing: Preprocessing
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    tensors: dict[str, TensorSpec]
    score: ScoreSpec
    files: dict[str, FileSpec]
    provenance: dict[str, str | int | float | bool] = {}
    licences: dict[str, str] = {}

    @property
    def wanted(self) -> frozenset[str]:
        """The tensors of the frame that the stages ask for."""
        offered = tensor_shapes(self.preprocessing)
        return frozenset(
            tensor for stage in self.stages for tensor in stage.inputs.values() if tensor in offered
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. `model_sha256` is that of the manifest, which holds those of all files.

    `calibration_sha256` is that of the calibration; `signed_by` the key whose signature it has.
    """

    path: Path
    manifest: Manifest
    model_sha256: str
    calibration: Calibration | None
    calibration_sha256: str | None = None
    signed_by: PublicKey | None = None

    @property
    def product(self) -> str:
        return self.manifest.product

    @property
    def method(self) -> str:
        return self.manifest.method

    @property
    def wanted(self) -> frozenset[str]:
        """The tensors of the frame that the stages ask for."""
        return self.manifest.wanted

    def golden_files(self) -> tuple[Path, ...]:
        """The golden samples (.npz), in the order of their names; `edge.golden` reads them."""
        return tuple(self.path / name for name in sorted(self.manifest.files) if name.startswith("golden/"))

    def read(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists, verified once more as they are read.

        A file that was changed since the bundle was loaded is thus never run. Raises `BundleCorrupt`,
        `FileChanged`.
        """
        return read_file(self.path / name, self.manifest.files[name])


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write the sealed manifest of a bundle, and give its sha256: the model's."""
    check_wiring(manifest, folder)
    text = yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(folder / MANIFEST_FILE, seal(text).encode())
    return read_sealed(folder / MANIFEST_FILE)[1]


def load_bundle(path: Path, trusted_keys: Sequence[PublicKey] | None = None) -> Bundle:
    """The bundle in a folder, every byte of it verified.

    With `trusted_keys` only a bundle that one of them signed is taken; without, an unsigned one is, too,
    but never one whose signature does not hold. The signature is looked at before anything else is.

    Raises `SignatureError` for the signature; `BundleCorrupt` where a file is missing or not listed,
    `FileChanged` where it differs from its sha256 or from what was signed; `PickleRefused`, `FileTooLarge`;
    `BundleInvalid` where the manifest is none, or its stages don't fit together, `PathEscapes` where it
    names a file outside; `CalibrationError` where the calibration belongs to another model.
    """
    manifest, calibration = _read_sealed_texts(path)
    signer = check_signature(path, manifest[1], calibration[1] if calibration else None, trusted_keys)
    return _verified(path, manifest, calibration, signer)


def load_to_sign(path: Path) -> Bundle:
    """The bundle in a folder, verified but for its signature, if any; raises what `load_bundle` does."""
    manifest, calibration = _read_sealed_texts(path)
    return _verified(path, manifest, calibration, None)


_Sealed = tuple[str, str]


def _read_sealed_texts(path: Path) -> tuple[_Sealed, _Sealed | None]:
    """Text and sha256 of manifest and calibration, read once: what is judged below is what was signed."""
    try:
        found = path.is_dir()
    except OSError as error:
        raise BundleCorrupt(f"{path}: can't be read ({error.strerror}); check who may enter it") from error
    if not found:
        raise BundleCorrupt(f"{path}: no such bundle; check the path, or make one with edge-export")
    return read_sealed(path / MANIFEST_FILE), read_sealed_calibration(path)


def _verified(path: Path, sealed: _Sealed, calibration: _Sealed | None, signer: PublicKey | None) -> Bundle:
    text, digest = sealed
    try:
        data = plain_data(text)
        manifest = Manifest.model_validate(data)
    except ValueError as error:  # pydantic's ValidationError is one
        raise BundleInvalid(
            f"{path / MANIFEST_FILE}: is not a manifest that this version can read: {error}; export the "
            "bundle with the version that runs it"
        ) from error
    unsaid = _unsaid(data, manifest.model_dump(mode="json"))
    if unsaid:
        raise BundleInvalid(
            f"{path / MANIFEST_FILE}: does not say {', '.join(unsaid)}; a default of this version need not "
            "be what the model was trained with: export the bundle with the version that runs it"
        )
    check_wiring(manifest, path)
    try:
        _check_files(path, manifest)
    except OSError as error:
        raise BundleCorrupt(
            f"{error.filename or path}: can't be read ({error.strerror}); check that this user may "
            "read every file of the bundle, or copy it again"
        ) from error
    return Bundle(
        path,
        manifest,
        digest,
        None if calibration is None else parse_calibration(calibration[0], path / CALIBRATION_FILE, digest),
        None if calibration is None else calibration[1],
        signer,
    )


def _unsaid(data: object, whole: Mapping[str, object]) -> list[str]:
    """The keys of preprocessing and score, below any depth, that the manifest leaves to a default."""

    def missing(said: object, full: object, place: str) -> list[str]:
        if not isinstance(full, Mapping):
            return []
        found = said if isinstance(said, Mapping) else {}
        absent = [f"{place}.{key}" for key in full if key not in found]
        return absent + [
            name for key in full if key in found for name in missing(found[key], full[key], f"{place}.{key}")
        ]

    sections = data if isinstance(data, Mapping) else {}
    return [
        name for key in ("preprocessing", "score") for name in missing(sections.get(key), whole[key], key)
    ]


def check_wiring(manifest: Manifest, path: Path) -> None:
    """That each stage gets what it asks for, and the last one gives the anomaly map.

    Raises `BundleInvalid`, naming stage and tensor.
    """
    where = path / MANIFEST_FILE
    cells = manifest.preprocessing.map_cells
    offered = set(tensor_shapes(manifest.preprocessing))
    known = set(offered)
    names = [stage.name for stage in manifest.stages]
    if len(set(names)) != len(names):
        raise BundleInvalid(f"{where}: two stages have one name: {names}")
    precisions: dict[str, Precision] = {}
    for stage in manifest.stages:
        first = precisions.setdefault(stage.file, stage.precision)
        if first != stage.precision:
            raise BundleInvalid(
                f"{where}: stage {stage.name!r} says that {stage.file!r} is {stage.precision}, an earlier "
                f"stage that it is {first}; one file has one precision: export the bundle anew"
            )
    for stage in manifest.stages:
        if stage.file not in manifest.files:
            raise BundleInvalid(
                f"{where}: stage {stage.name!r} runs {stage.file!r}, which `files` does not list"
            )
        for tensor in stage.inputs.values():
            if tensor not in known:
                raise BundleInvalid(
                    f"{where}: stage {stage.name!r} asks for tensor {tensor!r}, which nobody gives; the "
                    f"device offers {sorted(offered)}, earlier stages give {sorted(known - offered)}"
                )
        for tensor in stage.outputs.values():
            if tensor in known:
                raise BundleInvalid(
                    f"{where}: stage {stage.name!r} gives tensor {tensor!r}, which exists already"
                )
            if tensor not in manifest.tensors:
                raise BundleInvalid(f"{where}: `tensors` does not say what {tensor!r} of {stage.name!r} is")
            known.add(tensor)
    never_given = sorted(set(manifest.tensors) - (known - offered))
    if never_given:
        raise BundleInvalid(f"{where}: `tensors` lists {never_given}, which no stage gives; remove them")
    wanted = TensorSpec(dtype="float32", shape=(1, 1, cells, cells))
    if ANOMALY_MAP not in manifest.stages[-1].outputs.values() or manifest.tensors[ANOMALY_MAP] != wanted:
        raise BundleInvalid(
            f"{where}: the last stage must give {ANOMALY_MAP!r}, float32 (1, 1, {cells}, {cells}); it gives "
            f"{ {t: manifest.tensors.get(t) for t in manifest.stages[-1].outputs.values()} }"
        )


def _check_files(path: Path, manifest: Manifest) -> None:
    for name, spec in manifest.files.items():
        if not stays_inside(name):
            raise PathEscapes(f"{path / MANIFEST_FILE}: file {name!r} leads out of the bundle")
        if name in UNLISTED_FILES:
            raise BundleInvalid(
                f"{path / MANIFEST_FILE}: lists {name!r}, which a manifest can't answer for; remove it"
            )
        if spec.bytes > MAX_FILE_BYTES:
            raise FileTooLarge(
                f"{path / name}: has {spec.bytes} bytes by the manifest, {MAX_FILE_BYTES} are possible; "
                "split the stage, or make it smaller"
            )
    found = files_of(path)
    strangers = sorted(found - set(manifest.files) - UNLISTED_FILES)
    if strangers:
        raise BundleCorrupt(f"{path}: holds files that the manifest does not list: {strangers}; remove them")
    for name, spec in manifest.files.items():
        check_file(path / name, spec)
