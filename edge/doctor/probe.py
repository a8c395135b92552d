"""What a native library says of itself, asked in a process of its own: it may crash, or never return.

Run as `python -m edge.doctor.probe packages|librealsense|tensorrt|cuda`; prints one JSON object per line.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.doctor.machine import Machine
from edge.errors import CameraError, RunnerError

__all__ = [
    "CameraSeen",
    "CudaAnswer",
    "GpuSeen",
    "LibrealsenseAnswer",
    "PackageAnswer",
    "TensorRTAnswer",
    "cameras_of",
    "probe",
    "probe_packages",
]

_TIMEOUT_S = 60.0
"""A Jetson with a cold disk takes a dozen seconds to load CUDA."""

PACKAGES: Mapping[str, str] = {
    "cryptography": "cryptography.hazmat.primitives.asymmetric.ed25519",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "scipy": "scipy",
    "onnxruntime": "onnxruntime",
    "paho-mqtt": "paho.mqtt.client",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "rosbags": "rosbags",
}
"""Distribution → module, of the base install; librealsense has a probe of its own."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageAnswer(_Answer):
    """One package of the base install: `error` says why it can't be imported."""

    name: str
    version: str | None = None
    error: str | None = None
    providers: tuple[str, ...] = ()


class CameraSeen(_Answer):
    """A camera as librealsense sees it; None for what it does not say."""

    name: str | None = None
    serial: str | None = None
    firmware: str | None = None
    recommended_firmware: str | None = None
    usb: str | None = None


class LibrealsenseAnswer(_Answer):
    version: str
    cameras: tuple[CameraSeen, ...]


class TensorRTAnswer(_Answer):
    """`unknown` says in a sentence why this version of edge-inspect can't use it; None where it can."""

    version: str
    unknown: str | None = None


class GpuSeen(_Answer):
    """A GPU as CUDA sees it; `sm` is its compute capability, "8.7" for Orin."""

    name: str
    sm: str
    memory_bytes: int


class CudaAnswer(_Answer):
    """`driver` is the CUDA version that the driver can do, "12.6"; `pycuda` that of the package."""

    pycuda: str
    driver: str
    gpus: tuple[GpuSeen, ...]


_Model = TypeVar("_Model", bound=_Answer)


def probe(machine: Machine, what: str, model: type[_Model]) -> _Model | str:
    """The answer of a probe, or in a few words why there is none."""
    answer = machine.run((sys.executable, "-m", "edge.doctor.probe", what), _TIMEOUT_S)
    if not answer.succeeded:
        return answer.reason
    try:
        return model.model_validate_json(answer.out)
    except ValidationError:
        return f"the probe said {answer.out.strip()[:100]!r}"


def probe_packages(machine: Machine) -> tuple[list[PackageAnswer], str | None]:
    """The packages of the base install, and in a few words why the rest is missing, None where it is whole.

    The package after the last one that is told is the one whose import crashed or hung.
    """
    answer = machine.run((sys.executable, "-m", "edge.doctor.probe", "packages"), _TIMEOUT_S)
    found = []
    for line in answer.out.splitlines():
        try:
            found.append(PackageAnswer.model_validate_json(line))
        except ValidationError:
            return found, f"the probe said {line[:100]!r}"
    return found, None if answer.succeeded else answer.reason


def cameras_of(rs: Any, devices: Iterable[Any]) -> tuple[CameraSeen, ...]:
    """What librealsense (`rs`) tells of its devices."""
    keys = {
        "name": rs.camera_info.name,
        "serial": rs.camera_info.serial_number,
        "firmware": rs.camera_info.firmware_version,
        "recommended_firmware": rs.camera_info.recommended_firmware_version,
        "usb": rs.camera_info.usb_type_descriptor,
    }
    return tuple(
        CameraSeen(**{name: str(device.get_info(key)) for name, key in keys.items() if device.supports(key)})
        for device in devices
    )


def _packages() -> Iterator[_Answer]:
    for name, module in PACKAGES.items():
        try:
            imported = importlib.import_module(module)
            version = importlib.metadata.version(name)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            yield PackageAnswer(name=name, error=f"{type(error).__name__}: {error}"[:300])
            continue
        providers = tuple(imported.get_available_providers()) if name == "onnxruntime" else ()
        yield PackageAnswer(name=name, version=version, providers=providers)


def _librealsense() -> Iterator[_Answer]:
    from edge.camera.librealsense import import_librealsense  # noqa: PLC0415

    rs = import_librealsense()
    yield LibrealsenseAnswer(version=rs.__version__, cameras=cameras_of(rs, rs.context().query_devices()))


def _tensorrt() -> Iterator[_Answer]:
    # Not by `load_tensorrt`: what Python itself says of a failed import is what is to be told here.
    version = str(importlib.import_module("tensorrt").__version__)
    from edge.runtime.tensorrt.api import check_version  # noqa: PLC0415

    try:
        check_version(version)
    except RunnerError as error:
        yield TensorRTAnswer(version=version, unknown=str(error))
    else:
        yield TensorRTAnswer(version=version)


def _cuda() -> Iterator[_Answer]:
    # Not by the runner's own module: that one wants one good GPU, this tells of all there are.
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    version = int(driver.get_driver_version())  # 12060
    devices = [driver.Device(number) for number in range(driver.Device.count())]
    yield CudaAnswer(
        pycuda=importlib.metadata.version("pycuda"),
        driver=f"{version // 1000}.{version % 1000 // 10}",
        gpus=tuple(
            GpuSeen(
                name=device.name(),
                sm="{}.{}".format(*device.compute_capability()),
                memory_bytes=int(device.total_memory()),
            )
            for device in devices
        ),
    )


_PROBES: Mapping[str, Callable[[], Iterator[_Answer]]] = {
    "packages": _packages,
    "librealsense": _librealsense,
    "tensorrt": _tensorrt,
    "cuda": _cuda,
}


def main(what: str) -> None:
    """Whatever a library raises ends the process; its last line on stderr is the reason that is told."""
    try:
        for answer in _PROBES[what]():
            sys.stdout.write(json.dumps(answer.model_dump()) + "\n")
            sys.stdout.flush()
    except CameraError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main(sys.argv[1])
