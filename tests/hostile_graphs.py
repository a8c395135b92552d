"""ONNX graphs as bad as can be, which random damage never comes upon, and bundles around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import MANIFEST_FILE, Bundle, FileSpec, load_bundle
from edge.calibration_file import CALIBRATION_FILE
from edge.sealed import file_sha256, seal

__all__ = ["HOSTILE", "with_graph"]


def with_graph(bundle: Bundle, folder: Path, name: str, graph: bytes) -> Bundle:
    """The copy of a bundle in `folder` with another graph, under a manifest that was written for it."""
    (folder / name).write_bytes(graph)
    (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    files = {
        key: FileSpec(sha256=file_sha256(folder / key), bytes=(folder / key).stat().st_size)
        for key in bundle.manifest.files
    }
    manifest = bundle.manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST_FILE).write_text(seal(yaml.safe_dump(manifest, sort_keys=False)))
    return load_bundle(folder)


def _graph(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any], *, external: bool = False) -> bytes:
    """In place of shape.onnx of the tiny bundle: z → shape_map, from what the nodes leave in `y`."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("ReduceMean", ["y", "axes"], ["shape_map"], keepdims=1)],
        "hostile",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 64, 8, 8))],
        [helper.make_tensor_value_info("shape_map", TensorProto.FLOAT, (1, 1, 8, 8))],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in {"axes": np.array([1]), **constants}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if external:
        tensor = model.graph.initializer[-1]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "colour.onnx"), ("offset", "0"), ("length", "256")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def _node(operator: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(" "), [output], **attributes)


def _endless() -> bytes:
    floats = (TensorProto.FLOAT, (1, 64, 8, 8))
    body = helper.make_graph(
        [_node("Identity", "c", "again"), _node("Identity", "v", "out")],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", *floats),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", *floats),
        ],
    )
    return _graph([_node("Loop", " true z", body=body)], {"true": np.array(True)})


def _added(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any]) -> bytes:
    """z plus the sum of all that the nodes leave in `big`."""
    return _graph([*nodes, _node("ReduceSum", "big", "sum"), _node("Add", "z sum")], constants)


def _smallest_by_minus_one() -> bytes:
    """A quotient that int64 can't hold, of a divisor that nobody knows before the run."""
    return _graph(
        [
            _node("Cast", "z", "whole", to=TensorProto.INT64),
            _node("Mul", "whole none", "nothing"),
            _node("Add", "nothing minus", "by"),
            _node("Div", "smallest by", "quotient"),
            _node("Cast", "quotient", to=TensorProto.FLOAT),
        ],
        {"none": np.array(0), "minus": np.array(-1), "smallest": np.full((1, 64, 8, 8), -(2**63))},
    )


HOSTILE: Mapping[str, bytes] = {
    "smallest by minus one": _smallest_by_minus_one(),
    "group 0": _graph([_node("ConvTranspose", "z w", group=0)], {"w": np.zeros((64, 1, 1, 1), np.float32)}),
    "block size": _graph([_node("DepthToSpace", "z", blocksize=2**32)], {}),
    "endless": _endless(),
    "constant of 64 GB": _added([_node("ConstantOfShape", "s", "big")], {"s": np.array([2**34])}),
    "tile": _added([_node("Tile", "z by", "big")], {"by": np.array([1, 2**20, 2**10, 1])}),
    "resize": _graph([_node("Resize", "z  by")], {"by": np.array([1, 1, 1e6, 1e6], np.float32)}),
    "external data": _graph([_node("Add", "z w")], {"w": np.zeros((1, 1, 8, 8), np.float32)}, external=True),
}
"""In place of shape.onnx of the tiny bundle, by what is bad about each."""
