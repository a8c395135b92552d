"""The door to TensorRT: what is said where it is missing, broken, too old, too new, or without a GPU."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import RunnerError
from edge.runtime.tensorrt.api import check_version, create_runtime, load_tensorrt, log_of
from tests.edge.tensorrt.fake_cuda import PretendGpu
from tests.edge.tensorrt.fake_tensorrt import fake_tensorrt

EDGE = Path(__file__).parents[3] / "edge"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is looked into first for modules; `tensorrt` is forgotten before and after."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    yield tmp_path
    sys.modules.pop("tensorrt", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10"),
        ("raise OSError('undefined symbol')", "undefined symbol"),
        ("import tensorrt_bindings_that_are_not_there", "tensorrt_bindings_that_are_not_there"),
        ("__version__ = '8.6.2.3'", "TensorRT 8.6.2.3 is installed.*update JetPack"),
        ("__version__ = '10.2.0'", "10.2.0.*10.3 to 11.x"),
        ("__version__ = '12.0.0'", "12.0.0.*update edge-inspect"),
        ("__version__ = 'unknown'", "TensorRT unknown"),
    ],
)
def test_a_tensorrt_that_cannot_be_used(site: Path, text: str, said: str) -> None:
    (site / "tensorrt.py").write_text(text)
    with pytest.raises(RunnerError, match=rf"(?s){said}.*runtime\.backend: onnx"):
        load_tensorrt()


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RunnerError, match=r"not installed.*--system-site-packages"):
        load_tensorrt()


@pytest.mark.parametrize("version", ["10.3.0", "10.3.0.30", "10.13.3.9", "11.4.0.106", "11.99"])
def test_versions_that_are_known(site: Path, version: str) -> None:
    check_version(version)
    (site / "tensorrt.py").write_text(f"__version__ = {version!r}")
    assert load_tensorrt().__version__ == version


def test_no_gpu_is_said_in_a_sentence() -> None:
    gpu = PretendGpu()
    gpu.unusable = True
    with pytest.raises(
        RunnerError, match=r"can't make its Runtime; there is no usable CUDA.*video and render"
    ):
        create_runtime(fake_tensorrt(gpu))


def test_what_tensorrt_says_is_logged_by_its_weight(caplog: pytest.LogCaptureFixture) -> None:
    trt = fake_tensorrt(PretendGpu())
    log = log_of(trt)
    assert log_of(trt) is log
    severities = trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG, "tensorrt"), log.errors() as said:
        for severity in severities:
            log.logger.log(severity, f"a word of {severity.name}, 100%")
        assert [record.levelname for record in caplog.records] == ["CRITICAL", "ERROR", "WARNING", "DEBUG"]
        assert list(said) == ["a word of INTERNAL_ERROR, 100%", "a word of ERROR, 100%"]
        for number in range(1000):
            log.logger.log(severities.ERROR, str(number))
        assert len(said) == 20


@pytest.mark.parametrize(("module", "file"), [("tensorrt", "api.py"), ("pycuda", "cuda.py")])
def test_one_file_imports_it(module: str, file: str) -> None:
    """And edge-doctor's probe, in a process of its own: what it asks is whether the import works."""
    pattern = re.compile(rf"^\s*(import|from) {module}\b|import_module\(\"{module}", re.MULTILINE)
    found = [path for path in EDGE.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    assert set(found) == {EDGE / "runtime" / "tensorrt" / file, EDGE / "doctor" / "probe.py"}
