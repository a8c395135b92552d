"""Whether the Python packages of the base install can be imported, and what ONNX Runtime can run on."""

from __future__ import annotations

from collections.abc import Iterator

from edge.doctor.machine import Machine
from edge.doctor.probe import PACKAGES, PackageAnswer, probe_packages
from edge.doctor.report import Finding, Report, error, ok
from edge.version import __version__

__all__ = ["incomplete", "packages"]

_INSTALL = "Install edge-inspect anew into a fresh virtual environment."


def packages(machine: Machine) -> Iterator[Finding]:
    """One finding for each package that is broken, one for all that are not, one for ONNX Runtime."""
    found, problem = probe_packages(machine)
    told = {package.name for package in found}
    missing = [name for name in PACKAGES if name not in told]
    if problem is not None and missing:
        yield error(
            "packages",
            "import",
            f"Importing {missing[0]} fails: {problem}.",
            f"{_INSTALL} On an old processor this can be an illegal instruction: look with `sudo dmesg`.",
            package=missing[0],
        )
    for package in found:
        if package.error is not None:
            yield error(
                "packages",
                "import",
                f"{package.name} can't be imported: {package.error}.",
                _INSTALL,
                package=package.name,
            )
    good = {package.name: package.version for package in found if package.error is None}
    if good:
        said = ", ".join(f"{name} {version}" for name, version in good.items())
        yield ok("packages", "versions", f"{said}.", **good)
    yield from (_onnxruntime(package) for package in found if package.providers)


def _onnxruntime(package: PackageAnswer) -> Finding:
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in package.providers)
    if "CPUExecutionProvider" not in package.providers:
        return error(
            "packages",
            "onnxruntime",
            f"ONNX Runtime {package.version} can't run on the CPU ({names}).",
            _INSTALL,
            version=package.version,
            providers=package.providers,
        )
    return ok(
        "packages",
        "onnxruntime",
        f"ONNX Runtime {package.version} has the providers {names}; the backend onnx uses the CPU.",
        version=package.version,
        providers=package.providers,
    )


def incomplete(machine: Machine, problem: ImportError) -> Report:
    """The report of an install in which even the rig's configuration can't be read: packages, and no more."""
    why = error(
        "packages", "install", f"edge-inspect is not whole: {problem}.", _INSTALL, package=problem.name
    )
    return Report(
        created=machine.now(),
        software_version=__version__,
        machine=machine.text("/proc/sys/kernel/hostname") or "unknown",
        user=None,
        backend="onnx",
        findings=(why, *packages(machine)),
    )
