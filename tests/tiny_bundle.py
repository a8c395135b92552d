"""A bundle small enough to be made in a test: three ONNX stages in a row, run by the real ONNX Runtime.

::

    colour   image            → colour_map    squared distance of each cell's mean colour from `colour`
    shape    z                → shape_map     mean of |z| over each cell
    distance colour_map, shape_map, mask → anomaly_map = (colour_map + shape_map) · mask

It takes what it is told for `broken`, so that everything that can be wrong with a bundle can be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import ANOMALY_MAP, MANIFEST_FILE, FileSpec, Manifest, StageSpec, TensorSpec, load_bundle
from edge.calibration import Calibration
from edge.calibration_file import write_calibration
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing, tensor_shapes
from edge.runtime import runner_for
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256, read_sealed, seal

__all__ = ["make_tiny_bundle"]

Broken = Literal["nan", "unknown_tensor", "wrong_shape"]

_MADE = datetime(2030, 1, 1, tzinfo=timezone.utc)


def make_tiny_bundle(
    folder: Path,
    *,
    product: str = "plate",
    threshold: float | None = 0.5,
    provisional: bool = True,
    image_px: int = 64,
    depth_px: int = 64,
    map_cells: int = 8,
    framing: FramingConfig | None = None,
    score: ScoreSpec | None = None,
    colour: Sequence[float] = (0.0, 0.0, 0.0),
    golden: int = 0,
    provenance: Mapping[str, str | int | float | bool] | None = None,
    broken: Broken | None = None,
) -> Path:
    """Write a bundle into `folder`, which must not exist or be empty, and give it back.

    `threshold` None leaves it uncalibrated. `colour` is the colour (0 to 1) from which colour is
    measured. `golden` is how many golden samples it has, drawn at random. `framing` is by default the
    whole frame. `broken`: `nan` gives NaN in the first cell of the anomaly map; `unknown_tensor` asks for
    `infrared`, which nobody gives; `wrong_shape` says in the manifest that `colour_map` has another shape
    than the graph makes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocessing = Preprocessing(
        image_px=image_px,
        depth_px=depth_px,
        map_cells=map_cells,
        framing=framing or FramingConfig(mode="whole"),
    )
    cells = (1, 1, map_cells, map_cells)
    models = {
        "colour.onnx": _colour(image_px, map_cells, colour),
        "shape.onnx": _shape(preprocessing.unshuffle**2, map_cells),
        "distance.onnx": _distance(map_cells, nan=broken == "nan"),
    }
    for name, model in models.items():
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / name)
    _write_golden_inputs(folder, preprocessing, golden)
    wrong = cells[:-1] + (map_cells + 1,)
    manifest = Manifest(
        product=product,
        method="tiny",
        preprocessing=preprocessing,
        stages=(
            _stage("colour", {"image": "infrared" if broken == "unknown_tensor" else "image"}, "colour_map"),
            _stage("shape", {"z": "z"}, "shape_map"),
            _stage("distance", {n: n for n in ("colour_map", "shape_map", "mask")}, ANOMALY_MAP),
        ),
        tensors={
            "colour_map": TensorSpec(dtype="float32", shape=wrong if broken == "wrong_shape" else cells),
            "shape_map": TensorSpec(dtype="float32", shape=cells),
            ANOMALY_MAP: TensorSpec(dtype="float32", shape=cells),
        },
        score=score or ScoreSpec(smoothing_px=1.0),
        files=_files(folder),
        provenance=dict(provenance or {}),
        licences={"weights": "none: nothing was learned"},
    )
    digest = _write_manifest(folder, manifest)
    if golden:
        _add_expected_maps(folder)
        digest = _write_manifest(folder, manifest.model_copy(update={"files": _files(folder)}))
    if threshold is not None:
        write_calibration(
            folder,
            Calibration(
                calibration_id="tiny",
                model_sha256=digest,
                threshold=threshold,
                provisional=provisional,
                false_reject_rate=0.02,
                good_parts=1,
                created_utc=_MADE,
            ),
        )
    return folder


def _stage(name: str, inputs: dict[str, str], output: str) -> StageSpec:
    return StageSpec(
        name=name, file=f"{name}.onnx", precision="fp32", inputs=inputs, outputs={output: output}
    )


def _files(folder: Path) -> dict[str, FileSpec]:
    found = sorted(p for p in folder.rglob("*") if p.suffix in (".onnx", ".npz"))
    return {
        p.relative_to(folder).as_posix(): FileSpec(sha256=file_sha256(p), bytes=p.stat().st_size)
        for p in found
    }


def _write_manifest(folder: Path, manifest: Manifest) -> str:
    """As `edge.bundle.write_manifest`, but without its checks: a broken one must be possible."""
    text = yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (folder / MANIFEST_FILE).write_text(seal(text), encoding="utf-8")
    return read_sealed(folder / MANIFEST_FILE)[1]


def _model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int]]],
    output: tuple[str, Sequence[int]],
    constants: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(n, dtype, shape) for n, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(array, n) for n, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _colour(image_px: int, m: int, colour: Sequence[float]) -> onnx.ModelProto:
    pool = image_px // m
    return _model(
        "colour",
        [
            helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["f"], ["chw"], perm=[0, 3, 1, 2]),
            helper.make_node("Div", ["chw", "white"], ["unit"]),
            helper.make_node(
                "AveragePool", ["unit"], ["mean"], kernel_shape=[pool, pool], strides=[pool, pool]
            ),
            helper.make_node("Sub", ["mean", "colour"], ["off"]),
            helper.make_node("Mul", ["off", "off"], ["squared"]),
            helper.make_node("ReduceSum", ["squared", "axis"], ["colour_map"], keepdims=1),
        ],
        {"image": (TensorProto.UINT8, (1, image_px, image_px, 3))},
        ("colour_map", (1, 1, m, m)),
        {
            "white": np.float32(255.0).reshape(()),
            "colour": np.asarray(colour, np.float32).reshape(1, 3, 1, 1),
            "axis": np.array([1], np.int64),
        },
    )


def _shape(channels: int, m: int) -> onnx.ModelProto:
    return _model(
        "shape",
        [
            helper.make_node("Abs", ["z"], ["size"]),
            helper.make_node("ReduceMean", ["size", "axis"], ["shape_map"], keepdims=1),
        ],
        {"z": (TensorProto.FLOAT, (1, channels, m, m))},
        ("shape_map", (1, 1, m, m)),
        {"axis": np.array([1], np.int64)},
    )


def _distance(m: int, *, nan: bool) -> onnx.ModelProto:
    # Added, not multiplied: the foreground's 0 must not be what makes the NaN.
    offset = np.zeros((1, 1, m, m), np.float32)
    offset[0, 0, 0, 0] = np.nan if nan else 0.0
    return _model(
        "distance",
        [
            helper.make_node("Add", ["colour_map", "shape_map"], ["both"]),
            helper.make_node("Mul", ["both", "mask"], ["inside"]),
            helper.make_node("Add", ["inside", "offset"], [ANOMALY_MAP]),
        ],
        dict.fromkeys(("colour_map", "shape_map", "mask"), (TensorProto.FLOAT, (1, 1, m, m))),
        (ANOMALY_MAP, (1, 1, m, m)),
        {"offset": offset},
    )


def _write_golden_inputs(folder: Path, preprocessing: Preprocessing, count: int) -> None:
    if count:
        (folder / "golden").mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        arrays = {
            name: (rng.random(shape) * (255 if dtype == "uint8" else 1)).astype(dtype)
            for name, (dtype, shape) in tensor_shapes(preprocessing).items()
            if name in ("image", "z", "mask")
        }
        np.savez(folder / "golden" / f"{number:03d}.npz", **arrays)


def _add_expected_maps(folder: Path) -> None:
    bundle = load_bundle(folder)
    with runner_for(bundle) as runner:
        for path in bundle.golden_files():
            with np.load(path) as stored:
                arrays = dict(stored)
            np.savez(path, **arrays, **{ANOMALY_MAP: runner.run(arrays)[ANOMALY_MAP]})
