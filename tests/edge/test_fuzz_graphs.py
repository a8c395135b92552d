"""Thousands of damaged ONNX files: never run while their sha256 is wrong, and harmless once it is right."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import Bundle, load_bundle
from edge.errors import FileChanged, RunnerError
from edge.runtime import runner_for
from edge.trial import try_stages
from tests.edge.fuzz_worker import Worker
from tests.fuzzing import cases
from tests.hostile_graphs import with_graph
from tests.tiny_bundle import make_tiny_bundle

GRAPHS = ("colour.onnx", "shape.onnx", "distance.onnx")

Damage = Callable[[bytes, random.Random], bytes]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("graphs") / "b", golden=1))


@pytest.fixture(scope="module")
def copy(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without a calibration, whose graphs a test exchanges."""
    folder = tmp_path_factory.mktemp("graphs") / "copy"
    shutil.copytree(bundle.path, folder)
    (folder / "calibration.yaml").unlink()
    return folder


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def restore(bundle: Bundle, folder: Path) -> None:
    for name in GRAPHS:
        shutil.copy(bundle.path / name, folder / name)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit or a few."""
    bad = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def overwritten(data: bytes, rng: random.Random) -> bytes:
    """A byte or a few, by those that lengths and tags are made of."""
    bad = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        bad[rng.randrange(len(bad))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(bad)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A piece of it once more, or gone, elsewhere."""
    start, at = rng.randrange(len(data)), rng.randrange(len(data))
    length = rng.randrange(1, 64)
    if rng.random() < 0.5:
        return data[:at] + data[start : start + length] + data[at:]
    return data[:at] + data[at + length :]


INTEGERS = (
    0, 1, -1, 2, 3, 7, 8, 16, 255, 256, 65535, 2**20, 2**31, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62,
    2**63 - 1, -(2**63),
)  # fmt: skip
OPERATORS = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "Reshape", "Resize", "Gather", "GatherND", "Slice",
    "Tile", "Expand", "ConstantOfShape", "Pad", "TopK", "Transpose", "MatMul", "Gemm", "Softmax", "Range",
    "Concat", "Split", "QuantizeLinear", "DequantizeLinear", "Einsum", "SpaceToDepth", "DepthToSpace",
    "ReduceSum", "LSTM", "NonZero", "OneHot", "CumSum", "Cast", "Identity", "GridSample", "Shape",
    "ScatterND",
)  # fmt: skip


def restructured(data: bytes, rng: random.Random) -> bytes:
    """Whole as protobuf, and with other values, fewer or more parts, anywhere in the graph."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spots = list(_fields(model))
        message, field = rng.choice(spots)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _rearrange(message, field, rng)
        else:
            _assign(model, message, field, rng)
    return bytes(model.SerializeToString())


def _fields(message: Any) -> Iterator[tuple[Any, FieldDescriptor]]:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                yield from _fields(part)
        yield message, field


def _rearrange(message: Any, field: FieldDescriptor, rng: random.Random) -> None:
    if not field.is_repeated:
        message.ClearField(field.name)
        return
    parts = getattr(message, field.name)
    how, at = rng.randrange(3), rng.randrange(len(parts))
    if how == 0:
        del parts[at]
    elif how == 1:
        parts.add().CopyFrom(rng.choice(list(parts)))
    else:
        other = list(parts)
        rng.shuffle(other)
        message.ClearField(field.name)
        getattr(message, field.name).extend(other)


def _assign(model: onnx.ModelProto, message: Any, field: FieldDescriptor, rng: random.Random) -> None:
    value = _value(model, message, field, rng)
    if not field.is_repeated:
        if rng.random() < 0.15:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, value)
        return
    values = getattr(message, field.name)
    how = rng.randrange(4)
    if how == 0:
        del values[rng.randrange(len(values))]
    elif how == 1:
        values.append(value)
    else:
        values[rng.randrange(len(values))] = value


def _value(model: onnx.ModelProto, message: Any, field: FieldDescriptor, rng: random.Random) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_BYTES:
        old = getattr(message, field.name)
        old = rng.choice(list(old)) if field.is_repeated else old
        return rng.choice((b"", old[: len(old) // 2], old + old, rng.randbytes(len(old))))
    if kind == FieldDescriptor.TYPE_STRING:
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return rng.choice(OPERATORS) if field.name == "op_type" else rng.choice([*names, "", "x"])
    if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if kind == FieldDescriptor.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    number = rng.choice(INTEGERS)
    return number if kind == FieldDescriptor.TYPE_INT64 else (number + 2**31) % 2**32 - 2**31


BYTEWISE: Sequence[Damage] = (flipped, overwritten, cut, spliced)


@st.composite
def damaged(draw: st.DrawFn, bundle: Bundle, kinds: Sequence[Damage]) -> tuple[str, bytes]:
    name = draw(st.sampled_from(GRAPHS))
    good = (bundle.path / name).read_bytes()
    bad = draw(st.sampled_from(kinds))(good, random.Random(draw(st.integers(0, 2**32))))
    return name, bad


@pytest.fixture(scope="module")
def stale(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that was loaded while it was whole."""
    folder = tmp_path_factory.mktemp("stale") / "b"
    shutil.copytree(bundle.path, folder)
    return load_bundle(folder)


@cases(200)
@given(st.data())
def test_a_file_whose_sha256_is_wrong_is_never_parsed(stale: Bundle, data: st.DataObject) -> None:
    """Neither for a bundle that is loaded then, nor for one that was loaded before."""
    name, bad = data.draw(damaged(stale, BYTEWISE))
    good = (stale.path / name).read_bytes()
    if bad == good:
        return
    (stale.path / name).write_bytes(bad)
    try:
        with pytest.raises(FileChanged, match=name):
            load_bundle(stale.path)
        with pytest.raises(FileChanged, match=name):
            runner_for(stale)
    finally:
        (stale.path / name).write_bytes(good)


@cases(200)
@given(st.data())
def test_a_damaged_file_whose_sha256_is_right_runs_or_is_an_error(
    bundle: Bundle, copy: Path, worker: Worker, data: st.DataObject
) -> None:
    restore(bundle, copy)
    name, bad = data.draw(damaged(bundle, (*BYTEWISE, restructured, restructured, restructured)))
    loaded = with_graph(bundle, copy, name, bad)
    answer = worker.judge(copy)
    if (
        answer.startswith("died") or answer == "hangs"
    ):  # what `try_stages` is for: it must keep it from the rig
        with pytest.raises(RunnerError):
            try_stages(loaded)
    else:
        assert answer.startswith(("ran: ", "refused: ")), answer
