"""Every name that a version of TensorRT's Python module has, and every one that a piece of code uses of it.

Run as a program over the real bindings, it prints theirs with their signatures as JSON: `Builder`,
`Builder.create_network`, `ILogger.Severity.ERROR`, … The code is read, not run: its names are those below a
variable called `trt`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping

_PYTHON = frozenset(name for kind in (bytes, dict, list, set, str, tuple) for name in dir(kind))
"""`update`, `get`, … hang on everyday objects far more often than on TensorRT's."""

__all__ = ["chains", "members", "names_of_module", "strangers"]


def names_of_module(module: object) -> Iterator[tuple[str, str]]:
    """The public names of a module and of the classes in it, at any depth; for methods the first signature.

    A signature is that of pybind11's docstring: `(name: str, profile_index: int = 0) -> TensorFormat`.
    """

    def below(owner: object, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
        for name in dir(owner):
            if name.startswith("_") and name not in ("__version__", "__init__"):
                continue
            member = getattr(owner, name, None)
            yield f"{prefix}{name}", _signature(member)
            if inspect.isclass(member) and depth < 3:
                yield from below(member, f"{prefix}{name}.", depth + 1)

    return below(module, "", 0)


def _signature(member: object) -> str:
    text = (member.__doc__ or "") if callable(member) and not inspect.isclass(member) else ""
    match = re.search(r"^(?:1\. )?\w+(\(.*\) -> .*)$", text, re.MULTILINE)
    if match is None:
        return ""
    # Versions of pybind11 spell types differently, and each module is called otherwise.
    signature = re.sub(r"\b\w+_bindings\.\w+\.", "", match[1])
    signature = signature.replace("typing.SupportsInt", "int").replace("typing_extensions.Buffer", "buffer")
    signature = re.sub(r"<([\w.]+): -?\d+>", r"\1", signature)  # a default that is an enum's member
    return re.sub(r"^\(self: \w+(, )?", "(", signature)


def chains(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that is taken of `trt`, directly or through a variable that stands for it.

    A class derived from one of TensorRT's gives its methods as that one's: one that is misspelt would never
    be called.
    """
    tree = ast.parse(source)
    aliases: dict[str, str] = {"trt": ""}

    def dotted(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return aliases.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = dotted(node.value)
            return None if owner is None else f"{owner}.{node.attr}".lstrip(".")
        return None

    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=variable)], value=value) if dotted(value):
                aliases[variable] = str(dotted(value))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(lineno=line) if (name := dotted(node)) is not None:
                yield line, name
            case ast.ClassDef(bases=bases, body=body):
                for base in filter(None, map(dotted, bases)):
                    for part in body:
                        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                            yield part.lineno, f"{base}.{part.name}"


def members(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every attribute of anything, asked for with a dot or with getattr."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(lineno=line, attr=name):
                yield line, name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def strangers(source: str, versions: Mapping[str, Collection[str]]) -> list[str]:
    """What the code uses that not each version has, as lines for a person.

    What is taken of `trt` has to be there by its full name. Of what hangs on other objects the class is not
    known: there a name is a stranger if TensorRT has it in one version and lacks it in another.
    """
    found = []
    taken = list(chains(source))
    for line, name in taken:
        lacking = [version for version, names in versions.items() if name not in names]
        if lacking:
            found.append(f"line {line}: trt.{name} is not in {', '.join(lacking)}")
    last = {version: {name.rpartition(".")[2] for name in names} for version, names in versions.items()}
    somewhere = frozenset().union(*last.values()) - _PYTHON
    by_full_name = {(line, name.rpartition(".")[2]) for line, name in taken}
    for line, name in members(source):
        lacking = [version for version, names in last.items() if name not in names]
        if lacking and name in somewhere and (line, name) not in by_full_name:
            found.append(f"line {line}: .{name} is not in {', '.join(lacking)}")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(names_of_module(importlib.import_module(sys.argv[1])))))
