"""The walls between the packages: imports go export → train → edge, in no circle, and edge has no torch."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("edge", "train", "export")
MAY_IMPORT = {"edge": {"edge"}, "train": {"train", "edge"}, "export": {"export", "train", "edge"}}
WORKSTATION = (
    "torch",
    "torchvision",
    "timm",
    "FrEIA",
    "lightning_fabric",
    "matplotlib",
    "ray",
    "sklearn",
    "onnx",
    "onnxscript",
    "safetensors",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages."""
    return {module_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def imports_of(name: str) -> Iterator[str]:
    """What a module imports, wherever in it: a module of ours in full, of others the top-level name."""
    path = modules()[name]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import; write it out"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


ASKED_FOR = {("edge.reject_gpio", "gpiod")}
"""For type checkers alone; at run time only where the rig asks for it, with an error that names the extra."""


def top(name: str) -> str:
    return name.partition(".")[0]


def test_there_is_something_to_look_at() -> None:
    assert {top(name) for name in modules()} == set(PACKAGES)
    assert "edge.camera.source" in set(imports_of("edge.daemon"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in modules()
        if top(name) == package
        for imported in imports_of(name)
        if top(imported) in PACKAGES and top(imported) not in MAY_IMPORT[package]
    ]
    assert wrong == []


def test_no_module_imports_itself_round_a_corner() -> None:
    graph = {name: {i for i in imports_of(name) if i in modules() and i != name} for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' → '.join(error.args[1])}")


def test_the_device_imports_only_what_its_own_install_brings() -> None:
    """A module of edge that needs an extra would work on the workstation, and fail on the device."""
    wanted = {
        re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()
        for requirement in requires("edge-inspect") or ()
        if "extra ==" not in requirement
    }
    brings = packages_distributions()
    strangers = {
        f"{name} imports {imported}"
        for name in modules()
        if top(name) == "edge"
        for imported in imports_of(name)
        if top(imported) not in {*PACKAGES, *sys.stdlib_module_names}
        and not wanted & {d.lower() for d in brings.get(top(imported), [])}
        and (name, top(imported)) not in ASKED_FOR
        and top(imported) != "typing_extensions"  # pydantic's own dependency, at the version it needs
    }
    assert strangers == set()


def test_importing_every_module_of_the_device_loads_nothing_of_the_workstation() -> None:
    names = sorted(name for name in modules() if top(name) == "edge")
    script = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(names)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "edge" in loaded
    assert loaded & {*WORKSTATION, "train", "export"} == set()
