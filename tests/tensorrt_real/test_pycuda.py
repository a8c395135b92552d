"""The device's CUDA code over the real pycuda, and below that a driver whose memory is the host's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tensorrt_real.parts import DRIVER_FOLDER, PYCUDA_FOLDER, part_or_skip, python_with


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `drive_pycuda` tells."""
    said = python_with(
        "-m",
        "tests.tensorrt_real.drive_pycuda",
        path=(part_or_skip(PYCUDA_FOLDER) / "packages",),
        libraries=part_or_skip(DRIVER_FOLDER),
    )
    found: dict[str, Any] = json.loads(said)
    return found


def test_the_fake_has_no_name_that_pycuda_lacks(report: dict[str, Any]) -> None:
    assert report["names"] > 500
    assert report["lacking"] == []


def test_the_gpu_is_known_by_what_pycuda_says_of_it(report: dict[str, Any]) -> None:
    assert report["identity"] == {"name": "host", "sm": "8.7", "driver": "12.6", "platform": None}


def test_an_array_goes_to_the_device_and_back(report: dict[str, Any]) -> None:
    assert report["round_trip"] == {
        "equal": True,
        "handles": ["int", "int"],
        "address": "int",
        "living": [3, 2, 1],  # blocks of memory, streams, events
    }


def test_all_is_freed_and_the_context_popped(report: dict[str, Any]) -> None:
    assert report["after"] == report["after_errors"] == [0, 0, 0]
    assert report["depth"] == 0
    assert report["retained"] == 1  # once for the process, never given back


def test_pycudas_errors_become_ours(report: dict[str, Any]) -> None:
    assert report["no_memory"].startswith("RunnerError: the GPU's memory is full (cuMemAlloc failed")
    assert report["no_such_gpu"].startswith("CUDA finds 1 GPUs, number 1 is not among them")
    assert report["broken"].startswith("GpuLost: ")
    assert report["later"] == report["broken"]


def test_without_cudas_driver_the_error_says_so() -> None:
    """As on a machine without an NVIDIA driver: pycuda is there, libcuda is not."""
    said = python_with(
        "-c",
        "from edge.errors import RunnerError\n"
        "from edge.runtime.tensorrt.cuda import load_driver\n"
        "try:\n"
        "    load_driver()\n"
        "except RunnerError as error:\n"
        "    print(error)\n",
        path=(part_or_skip(PYCUDA_FOLDER) / "packages",),
        libraries=PYCUDA_FOLDER / "headers",  # where no library is
    )
    assert said.startswith("pycuda is installed but can't be loaded (libcuda.so.1: cannot open")
