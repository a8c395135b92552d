"""What the documentation shows is true: its YAML loads, its tables are the code's, its links lead on."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel, TypeAdapter

from edge.bundle import Manifest, load_bundle, write_manifest
from edge.camera.config import CameraConfig
from edge.config import load_rig_config
from edge.strict_yaml import load_strict_yaml
from train.bed import BedNoise
from train.benchmark.methods import chosen_methods
from train.choosing import Candidates, candidate_config
from train.config import TrainConfig
from train.datasets.layout import FolderLayout

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"<!-- table: ([\w.]+) -->\n\n((?:\|.*\n)+)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
YAML_KINDS = (
    "camera",
    "candidates",
    "layout",
    "manifest",
    "methods",
    "rig",
    "section of a rig",
    "train config",
)
PYTHON_KINDS = ("names", "runs")


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """Page, kind (its first line, a comment) and text of each block in that language."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            if found[1] == language:
                first = found[2].partition("\n")[0]
                line = page.read_text(encoding="utf-8")[: found.start()].count("\n") + 1
                yield f"{page.name}:{line}", first.removeprefix("# "), found[2]


def of_kind(language: str, kind: str) -> list[Any]:
    return [pytest.param(text, id=where) for where, said, text in blocks(language) if said == kind]


@pytest.mark.parametrize(("language", "kinds"), [("yaml", YAML_KINDS), ("python", PYTHON_KINDS)])
def test_each_block_says_what_it_is(language: str, kinds: tuple[str, ...]) -> None:
    pages_of_others = {"README.md"}
    unknown = [
        where
        for where, kind, _ in blocks(language)
        if kind not in kinds and where.partition(":")[0] not in pages_of_others
    ]
    assert unknown == []


@pytest.mark.parametrize("text", of_kind("yaml", "camera"))
def test_cameras_are_cameras(text: str) -> None:
    TypeAdapter(CameraConfig).validate_python(yaml.safe_load(text)["camera"])


@pytest.mark.parametrize("text", of_kind("yaml", "rig"))
def test_rigs_are_rigs(text: str, tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(text, encoding="utf-8")
    load_rig_config(tmp_path / "rig.yaml")


@pytest.mark.parametrize("text", of_kind("yaml", "section of a rig"))
def test_sections_are_a_rigs(text: str, tmp_path: Path) -> None:
    rig = {
        "rig": {"enterprise": "acme", "site": "d", "area": "a", "line": "l", "cell": "c"},
        "camera": {"source": "simulated", "product": "plate"},
        "bundle": "b",
    }
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(rig) + text, encoding="utf-8")
    load_rig_config(tmp_path / "rig.yaml")


@pytest.mark.parametrize("text", of_kind("yaml", "candidates"))
def test_candidates_change_what_there_is(text: str, tmp_path: Path) -> None:
    (tmp_path / "candidates.yaml").write_text(text, encoding="utf-8")
    candidates = load_strict_yaml(tmp_path / "candidates.yaml", Candidates)
    configs = [candidate_config(TrainConfig(), name, patch) for name, patch in candidates.root.items()]
    assert len({config.model_dump_json() for config in configs}) == len(configs)


@pytest.mark.parametrize("text", of_kind("yaml", "methods"))
def test_methods_of_a_benchmark_are_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "methods.yaml").write_text(text, encoding="utf-8")
    methods = chosen_methods([str(tmp_path / "methods.yaml")], TrainConfig())
    assert len({config.model_dump_json() for config in methods.values()}) == len(methods)


@pytest.mark.parametrize("text", of_kind("yaml", "train config"))
def test_training_configurations_are_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(text, encoding="utf-8")
    config = load_strict_yaml(tmp_path / "train.yaml", TrainConfig)
    foreground = config.preprocessing.foreground.resolve(BedNoise(tail_m=0.002, correlation_px=7.0))
    config.preprocessing.resolve(foreground, 256)


@pytest.mark.parametrize("text", of_kind("yaml", "layout"))
def test_layouts_of_data_sets_are_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "layout.yaml").write_text(text, encoding="utf-8")
    assert load_strict_yaml(tmp_path / "layout.yaml", FolderLayout).names_categories


@pytest.mark.parametrize("text", of_kind("yaml", "manifest"))
def test_manifests_are_wired(text: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest.model_validate(yaml.safe_load(text)))


@pytest.mark.parametrize("text", of_kind("python", "runs"))
def test_python_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, "example", "exec"), names)
    assert load_bundle(tmp_path / names["folder"]).model_sha256 == names["bundle"].model_sha256


@pytest.mark.parametrize("text", of_kind("python", "names") + of_kind("python", "runs"))
def test_python_names_what_exists(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Each key of a configuration with its default as JSON, sections written out."""
    found: dict[str, str] = {}
    for name, info in model.model_fields.items():
        if (
            name == "source"
            and info.default is not None
            and not prefix
            and "read_timeout_s" in model.model_fields
        ):
            continue  # the camera's kind is what the section is about
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found |= section(default, f"{prefix}{name}.")
        else:
            found[prefix + name] = "required" if info.is_required() else as_json(default)
    return found


def section(values: BaseModel, prefix: str) -> dict[str, str]:
    """The same for a section, with the values that it has where it stands."""
    found: dict[str, str] = {}
    for name in type(values).model_fields:
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            found |= section(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = as_json(value)
    return found


def as_json(value: object) -> str:
    return json.dumps(value, default=abridged)


def abridged(value: object) -> object:
    """A section in a list as its name and what is not that section's default."""
    if isinstance(value, BaseModel) and "name" in type(value).model_fields:
        return {"name": value.model_dump()["name"], **value.model_dump(mode="json", exclude_defaults=True)}
    return str(value)


TABLES = [
    pytest.param(found[1], found[2], id=f"{page.name}-{found[1].rpartition('.')[2]}")
    for page in PAGES
    for found in TABLE.finditer(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_tables_of_keys_are_the_codes(name: str, table: str) -> None:
    module, _, model = name.rpartition(".")
    cells = [[cell.strip().strip("`") for cell in row.split("|")[1:3]] for row in table.splitlines()[2:]]
    written = dict(cells)
    assert len(written) == len(cells), "a key stands there twice"
    assert written == leaves(getattr(importlib.import_module(module), model))


def test_there_are_tables_and_blocks() -> None:
    assert len(TABLES) >= 8
    assert {kind for _, kind, _ in blocks("yaml")} >= {
        "camera",
        "candidates",
        "layout",
        "manifest",
        "methods",
        "train config",
    }


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "name", ["train.commands.train", "train.commands.evaluate", "export.commands.export"]
)
def test_every_option_of_the_workstation_is_described(name: str) -> None:
    whole = typer.main.get_command(importlib.import_module(name).app)
    commands = getattr(whole, "commands", {"": whole}).values()
    pages = "".join(
        (ROOT / "docs" / page).read_text(encoding="utf-8")
        for page in ("training.md", "datasets.md", "export.md")
    )
    for command in commands:
        named = {name for parameter in command.params for name in parameter.opts}  # an argument's, too
        flags = {name for name in named if name.startswith("-")} - {"--help"}
        assert "--json" in flags
        assert {flag for flag in flags if f"`{flag}`" not in pages} == set()
