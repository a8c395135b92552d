"""The payload: what is committed is what protoc makes, and whatever comes is read or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sparkplug.payload import DataType, Metric, Value, encode, writes_of
from edge.sparkplug.sparkplug_b_pb2 import Payload
from tests.edge.sparkplug.scada import foreign

ROOT = Path(__file__).parents[3]
PROTO = "edge/sparkplug/sparkplug_b.proto"


def test_the_committed_module_is_what_protoc_makes_of_the_proto(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}"),
            *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", PROTO),
        ],
        check=True,
    )
    for name in ("sparkplug_b_pb2.py", "sparkplug_b_pb2.pyi"):
        made = (tmp_path / "edge/sparkplug" / name).read_text(encoding="utf-8")
        assert made == (ROOT / "edge/sparkplug" / name).read_text(encoding="utf-8"), "make protobuf"


VALUES = {
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: st.text(st.characters(exclude_categories=["Cs"])),
}


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    datatype = draw(st.sampled_from(DataType))
    value: Value = draw(st.none() | VALUES[datatype])
    return Metric(datatype, value, draw(st.integers(0, 2**63)), alias=draw(st.integers(1, 2**64 - 1)))


@given(st.lists(metrics(), max_size=5))
def test_each_value_comes_out_as_it_went_in(told: list[Metric]) -> None:
    heard = writes_of(encode(told, timestamp_ms=1, seq=0))
    assert heard is not None
    for metric, write in zip(told, heard, strict=True):
        value = metric.value
        if metric.datatype is DataType.INT64 and isinstance(value, int):
            value %= 1 << 64
        assert (write.alias, write.name, write.value) == (metric.alias, None, value)


def test_numbers_below_zero_are_two_s_complement() -> None:
    payload = encode([Metric(DataType.INT64, -3, 5, name="n", alias=1)], timestamp_ms=7, seq=255)
    if sys.version_info >= (3, 11):
        [read] = foreign([payload])
        assert (read["timestamp"], read["seq"]) == (7, 255)
        assert read["metrics"][0]["value"] - (1 << 64) == -3


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_text_that_is_not_utf_8_is_refused(implementation: str) -> None:
    told = [b"\x12\x03\x0a\x01\xff", b"\x12\x06\x0a\x01a\x7a\x01\xff", b"\x12\x05\x0a\x03\xed\xa0\x80"]
    code = f"from edge.sparkplug.payload import writes_of; print([writes_of(p) for p in {told!r}])"
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout == "[None, None, None]\n"


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    writes = writes_of(payload)
    assert writes is None or all(isinstance(write.value, Value) for write in writes)


def test_what_the_proto_leaves_out_is_passed_over() -> None:
    # Field 18 of a metric is a template, 17 a data set: a host may send them, and more that is not known yet.
    metric = b"\x0a\x01a\x58\x07" + b"\x92\x01\x02\x08\x01" + b"\x8a\x01\x02\x08\x01" + b"\xa2\x06\x01x"
    payload = b"\x12" + bytes([len(metric)]) + metric
    assert Payload.FromString(payload).metrics[0].name == "a"
    writes = writes_of(payload)
    assert writes is not None
    assert [(write.name, write.value) for write in writes] == [("a", 7)]
