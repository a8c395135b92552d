"""Schemas that were promised: a copy of each as it was released, which no later one of its version may break.

`edge/frozen_schemas/NAME-VERSION.N.schema.json` is the N-th copy of that `schema_version`: fields may be
added within a version, and are promised from the next copy on. They are part of the wheel.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from edge.errors import ConfigError
from edge.schema_changes import Schema, breaks_consumers, breaks_senders

__all__ = ["FROZEN", "broken_promises", "freeze", "frozen_copies"]

FROZEN = Path(__file__).parent / "frozen_schemas"
_NAME = re.compile(r"(?P<name>[a-z_]+)-(?P<version>\d+)\.(?P<copy>\d+)\.schema\.json")


def frozen_copies(name: str, folder: Path = FROZEN) -> dict[tuple[int, int], Schema]:
    """All copies of one schema, by version and number."""
    found: dict[tuple[int, int], Schema] = {}
    for path in folder.glob("*.schema.json"):
        match = _NAME.fullmatch(path.name)
        if match is not None and match["name"] == name:
            found[int(match["version"]), int(match["copy"])] = json.loads(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def broken_promises(schemas: Mapping[str, Schema], folder: Path = FROZEN) -> list[str]:
    """What the schemas of now break of what was promised, one sentence each; none is well.

    `schemas` by their names. One whose name begins with `cmd_` is of what a rig is told.
    """
    broken: list[str] = []
    for name, schema in schemas.items():
        version = _version(schema)
        breaks = breaks_senders if name.startswith("cmd_") else breaks_consumers
        for (of, number), copy in frozen_copies(name, folder).items():
            if of > version:
                broken.append(f"{name}: version {version} is older than {of}, which was promised")
            elif of == version:
                broken += [f"{name} against {of}.{number}: {reason}" for reason in breaks(copy, schema)]
    gone = {path.name.partition("-")[0] for path in folder.glob("*.schema.json")} - set(schemas)
    return broken + [f"{name}: is gone, and was promised" for name in sorted(gone)]


def freeze(schemas: Mapping[str, Schema], folder: Path = FROZEN) -> list[Path]:
    """Write a copy of each schema that has changed since its last; gives the files. Never overwrites one.

    Raises `ConfigError` where one breaks what was promised: raise its `schema_version` first.
    """
    broken = broken_promises(schemas, folder)
    if broken:
        raise ConfigError(f"raise schema_version first, or take back: {'; '.join(broken)}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in schemas.items():
        version = _version(schema)
        copies = {number: copy for (of, number), copy in frozen_copies(name, folder).items() if of == version}
        number = max(copies, default=-1)
        if copies.get(number) == schema:
            continue
        path = folder / f"{name}-{version}.{number + 1}.schema.json"
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
        written.append(path)
    return written


def _version(schema: Schema) -> int:
    version: int = schema["properties"]["schema_version"]["const"]
    return version
