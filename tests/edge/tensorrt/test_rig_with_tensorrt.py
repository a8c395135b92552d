"""A rig that asks for TensorRT: checked, heard of while it builds, never run on another backend."""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edge import rig
from edge.config import RigConfig, TensorRTConfig, load_rig_config
from edge.errors import RunnerError
from edge.runtime.tensorrt.progress import BuildStep
from edge.systemd import Notifier
from tests.tiny_bundle import make_tiny_bundle

EXAMPLE = Path(__file__).parents[3] / "docs" / "rig.example.yaml"


@pytest.fixture
def config(tmp_path: Path) -> RigConfig:
    text = {
        "rig": {"enterprise": "acme", "site": "here", "area": "a", "line": "l", "cell": "c"},
        "camera": {"source": "simulated", "product": "plate"},
        "bundle": str(make_tiny_bundle(tmp_path / "bundle")),
        "runtime": {"backend": "tensorrt", "engines_dir": "engines"},
    }
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(text))
    return load_rig_config(tmp_path / "rig.yaml")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(0)
        yield heard


def words(heard: socket.socket) -> list[str]:
    told = []
    while True:
        try:
            told.append(heard.recv(4096).decode())
        except BlockingIOError:
            return told


def test_a_rig_without_tensorrt_is_told_so_by_the_check_and_does_not_start(
    config: RigConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (mistake,) = rig.check_rig(config)
    assert "TensorRT is not installed" in mistake
    with pytest.raises(RunnerError, match="TensorRT is not installed"):
        rig.run_rig(config, path=tmp_path / "rig.yaml")


def test_the_check_knows_the_bundles_stages(config: RigConfig) -> None:
    assert isinstance(config.runtime, TensorRTConfig)
    runtime = config.runtime.model_copy(update={"dla_stages": ("pupil",)})
    (mistake,) = rig.check_rig(config.model_copy(update={"runtime": runtime}))
    assert "runtime.dla_stages" in mistake
    assert "no stage pupil" in mistake


def test_while_engines_are_built_systemd_waits_and_hears_how_far_it_is(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(rig.time, "monotonic", lambda: now_s)
    news = rig.BuildNews(Notifier(systemd.getsockname()))
    news(BuildStep("backbone.onnx", 0.25, "Timing"))
    assert words(systemd) == [
        "EXTEND_TIMEOUT_USEC=600000000",
        "STATUS=building the engine of backbone.onnx: 25% (Timing)",
    ]
    for _ in range(1000):  # the builder tells of hundreds of steps a second
        news(BuildStep("backbone.onnx", 0.26, "Timing"))
    assert words(systemd) == []
    now_s += 1.5
    news(BuildStep("backbone.onnx", 0.27, "Timing"))
    assert len(words(systemd)) == 2
    news(BuildStep("backbone.onnx", 1.0, "built"))
    assert words(systemd)[-1].endswith("100% (built)")


def test_the_example_names_every_key(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    before, _, rest = text.partition("\nruntime:\n")
    _, _, block = rest.partition("# runtime:\n")
    lines = list(itertools.takewhile(lambda line: line.startswith("#   "), block.splitlines()))
    (tmp_path / "rig.yaml").write_text(
        "\n".join([before, "runtime:", *(line.removeprefix("# ") for line in lines)]) + "\n"
    )
    runtime = load_rig_config(tmp_path / "rig.yaml").runtime
    assert isinstance(runtime, TensorRTConfig)
    assert runtime.model_fields_set == set(TensorRTConfig.model_fields)
    assert runtime.engines_dir == tmp_path / "engines"
    shipped = runtime.model_dump(exclude={"engines_dir", "timing_cache", "dla_stages"})
    default = TensorRTConfig().model_dump(exclude={"engines_dir", "timing_cache", "dla_stages"})
    assert shipped == default


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/edge-inspect:/other"}, "/var/cache/edge-inspect/engines"),
        ({"XDG_CACHE_HOME": "/home/me/c"}, "/home/me/c/edge-inspect/engines"),
        ({"HOME": "/home/me"}, "/home/me/.cache/edge-inspect/engines"),
    ],
)
def test_where_engines_are_kept(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert TensorRTConfig().engines_folder() == Path(folder)
    assert TensorRTConfig().timing_cache_file() == Path(folder) / "timing.cache"
    assert TensorRTConfig(engines_dir=Path("/e")).timing_cache_file() == Path("/e/timing.cache")
    assert TensorRTConfig(timing_cache=Path("/t")).timing_cache_file() == Path("/t")
