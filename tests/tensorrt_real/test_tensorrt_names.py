"""Each name of TensorRT that the code uses is in 10.3, 10.13 and 11.4: held against their own bindings."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.edge.tensorrt.allowed_names import TENSORRT
from tests.edge.tensorrt.fake_cuda import PretendGpu
from tests.edge.tensorrt.fake_tensorrt import fake_tensorrt
from tests.tensorrt_real.names import chains, names_of_module, strangers
from tests.tensorrt_real.parts import BINDINGS, REPOSITORY, Bindings, part_or_skip, python_with

ROOM = sorted((REPOSITORY / "edge" / "runtime" / "tensorrt").glob("*.py"))

GONE = {
    "trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "11.4.0.106",
    "trt.BuilderFlag.FP16": "11.4.0.106",
    "trt.BuilderFlag.INT8": "11.4.0.106",
    "trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS": "11.4.0.106",
    "trt.IInt8EntropyCalibrator2": "11.4.0.106",
    "trt.ICudaEngine.device_memory_size": "11.4.0.106",
    "trt.ICudaEngine.create_execution_context_without_device_memory": "11.4.0.106",
    "parser.supports_model": "11.4.0.106",
    "layer.precision": "11.4.0.106",
    "tensor.dynamic_range": "11.4.0.106",
    "trt.TilingOptimizationLevel": "10.3.0",  # came later
    "trt.Bulider": "10.3.0, 10.13.3.9, 11.4.0.106",  # never was
}


Versions = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def versions() -> Versions:
    """The names of each version with their signatures, as its own bindings give them."""
    return {
        bindings.version: json.loads(
            python_with("-m", "tests.tensorrt_real.names", "tensorrt", path=(part_or_skip(bindings.folder),))
        )
        for bindings in BINDINGS
    }


def test_the_bindings_are_those_of_tensorrt(versions: Versions) -> None:
    for names in versions.values():
        assert {"Builder.create_network", "OnnxParser.parse", "ILogger.Severity.ERROR"} <= names.keys()
        assert len(names) > 1000


@pytest.mark.parametrize("path", ROOM, ids=lambda path: path.stem)
def test_code_uses_names_of_every_version(path: Path, versions: Versions) -> None:
    found = strangers(path.read_text(encoding="utf-8"), versions)
    assert not found, "\n".join(found)


def test_code_uses_names_at_all() -> None:
    used = {name for path in ROOM for _, name in chains(path.read_text(encoding="utf-8"))}
    assert {"Builder", "OnnxParser", "IProgressMonitor.step_complete", "ILogger.log"} <= used


def test_the_fake_has_no_name_that_a_version_lacks(versions: Versions) -> None:
    assert {version: TENSORRT - names.keys() for version, names in versions.items()} == {
        version: frozenset() for version in versions
    }


def test_what_it_takes_is_the_same_in_every_version(versions: Versions, rtx: ModuleType) -> None:
    """What TensorRT-RTX was seen to take in the tests of the builder, every version takes."""
    everywhere = {**versions, "RTX": dict(names_of_module(rtx))}
    signatures = {
        name: {names[name].partition(" -> ")[0] for names in everywhere.values()} for name in TENSORRT
    }
    assert {name: found for name, found in signatures.items() if len(found) > 1} == {}
    assert signatures["IExecutionContext.set_device_memory"] == {"(memory: int, size: int)"}


def test_the_fake_takes_what_tensorrt_takes(versions: Versions) -> None:
    trt = fake_tensorrt(PretendGpu())
    real = versions["10.3.0"]
    checked = 0
    for name in TENSORRT:
        owner, _, member = name.rpartition(".")
        signature = re.match(r"\((.*)\)", real[name])
        if not owner or signature is None:
            continue
        taken = re.findall(r"(\w+): [\w.:]+( = )?", signature[1])
        required = [parameter for parameter, default in taken if not default]
        faked = list(inspect.signature(getattr(getattr(trt, owner), member)).parameters)[1:]
        assert faked[: len(required)] == required, name
        assert faked == [parameter for parameter, _ in taken][: len(faked)], name
        checked += 1
    assert checked > 30


@pytest.mark.parametrize(("used", "lacking"), list(GONE.items()), ids=list(GONE))
def test_a_name_that_one_version_lacks_is_found(used: str, lacking: str, versions: Versions) -> None:
    (found,) = strangers(f"def f(trt, parser, layer, tensor):\n    return {used}\n", versions)
    assert found.startswith("line 2: ")
    assert found.endswith(f"is not in {lacking}")


def test_a_name_is_found_behind_a_variable_a_subclass_and_getattr(
    versions: Versions,
) -> None:
    source = (
        "def f(trt, config):\n"
        "    flags = trt.BuilderFlag\n"
        "    flags.FP16\n"
        "    getattr(config, 'int8_calibrator')\n"
        "    class Monitor(trt.IProgressMonitor):\n"
        "        def step_completed(self, phase_name, step): ...\n"
    )
    lines = [found.partition(":")[0] for found in strangers(source, versions)]
    assert sorted(set(lines)) == ["line 3", "line 4", "line 6"]


@pytest.mark.parametrize("bindings", BINDINGS, ids=lambda bindings: bindings.version)
def test_no_usable_gpu_is_a_clear_error_in_every_version(bindings: Bindings) -> None:
    """The library below the bindings gives no Builder and no Runtime, as the real one does without CUDA."""
    said = python_with(
        "-c",
        "from edge.errors import RunnerError\n"
        "from edge.runtime.tensorrt.api import create, create_runtime, load_tensorrt\n"
        "trt = load_tensorrt()\n"
        "for make in (create_runtime, lambda trt: create(trt, 'Builder', trt.Builder)):\n"
        "    try:\n"
        "        make(trt)\n"
        "    except RunnerError as error:\n"
        "        print(error)\n",
        path=(part_or_skip(bindings.folder),),
    )
    runtime, builder = said.splitlines()
    assert runtime.startswith(f"TensorRT {bindings.version} can't make its Runtime")
    assert builder.startswith(f"TensorRT {bindings.version} can't make its Builder")
    assert "no usable CUDA" in runtime
