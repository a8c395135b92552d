"""install.sh into a folder: twice, over what is there, and away again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import load_rig_config

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "systemd" / "install.sh"
UNIT = "etc/systemd/system/edge-daemon.service"
RIG = "etc/edge-inspect/rig.yaml"
PASSWORD = "etc/edge-inspect/mqtt-password"


def install(*arguments: str | Path, fails: bool = False, **environment: str) -> str:
    done = subprocess.run(
        [str(SCRIPT), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=dict(os.environ, **environment),
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each file's mode, time of its last change and content."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_second_installation_touches_nothing(tmp_path: Path) -> None:
    install("--root", tmp_path)
    first = tree(tmp_path)
    assert {UNIT, RIG, PASSWORD, "etc/udev/rules.d/70-edge-inspect.rules"} <= set(first)
    told = install("--root", tmp_path)
    assert tree(tmp_path) == first
    assert "written" not in told


def test_what_the_operator_wrote_stays_and_what_is_ours_is_brought_up_to_date(tmp_path: Path) -> None:
    theirs = {RIG: "rig: mine\n", PASSWORD: "secret\n", f"{UNIT}.d/mine.conf": "[Service]\nNice=0\n"}
    for name, text in {**theirs, UNIT: "of an older version\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    install("--root", tmp_path)
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs
    assert (tmp_path / UNIT).read_bytes() == (REPOSITORY / "systemd" / "edge-daemon.service").read_bytes()
    install("--root", tmp_path, "--uninstall")
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs
    assert not (tmp_path / UNIT).exists()


def test_the_password_is_for_root_alone(tmp_path: Path) -> None:
    install("--root", tmp_path)
    assert (tmp_path / PASSWORD).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / RIG).stat().st_mode & 0o777 == 0o640


def test_uninstalling_keeps_bundles_and_purging_keeps_nothing(tmp_path: Path) -> None:
    install("--root", tmp_path)
    bundle = tmp_path / "opt/edge-inspect/bundles/plate/manifest.yaml"
    bundle.parent.mkdir()
    bundle.write_text("ours")
    state = tmp_path / "var/lib/edge-inspect/epoch"
    state.parent.mkdir(parents=True)
    state.write_text("7")
    install("--root", tmp_path, "--uninstall")
    install("--root", tmp_path, "--uninstall")
    assert bundle.is_file()
    assert state.is_file()
    assert not (tmp_path / "opt/edge-inspect/docs").exists()
    install("--root", tmp_path, "--uninstall", "--purge")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("way", [(), ("--uninstall",), ("--uninstall", "--purge")])
def test_a_dry_run_does_nothing(tmp_path: Path, way: tuple[str, ...]) -> None:
    if way:
        install("--root", tmp_path)
    before = tree(tmp_path)
    assert "would" in install("--root", tmp_path, "--dry-run", *way)
    assert tree(tmp_path) == before


def test_another_prefix_is_everywhere(tmp_path: Path) -> None:
    install("--root", tmp_path, "--prefix", "/srv/inspection")
    assert "ExecStart=/srv/inspection/venv/bin/edge-daemon" in (tmp_path / UNIT).read_text()
    assert "bundle: /srv/inspection/bundles/product" in (tmp_path / RIG).read_text()
    assert not [name for name, (_, _, text) in tree(tmp_path / "etc").items() if b"/opt/edge-inspect" in text]
    assert (tmp_path / "srv/inspection/bundles").is_dir()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--prefix", "/home/me/edge"), "ProtectHome"),
        (("--prefix", "/"), "two folders or more"),
        (("--prefix", "/opt/../etc"), "two folders or more"),
        (("--prefix", "/usr/local"), "a folder of its own"),
        (("--purge",), "goes with --uninstall"),
        (("--prefix",), "needs a value"),
        (("--purg",), "is no option"),
        (("--root", "/nowhere/at/all"), "is no folder"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in install("--root", tmp_path, *arguments, fails=True)
    assert tree(tmp_path) == {}


def test_it_refuses_to_install_without_root() -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    # By stdin: the project may lie where nobody may look.
    with SCRIPT.open() as script:
        done = subprocess.run(
            [*as_nobody, "/bin/bash", "/dev/stdin"], stdin=script, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "must be root" in done.stderr


def test_a_python_in_a_home_directory_is_refused(tmp_path: Path) -> None:
    """The daemon would not find its interpreter: ProtectHome= hides it."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase $2 in *base_prefix*) echo /home/me/.pyenv/3.11;; *) exec "$PYTHON" "$@";; esac\n'
    )
    python.chmod(0o755)
    told = install("--dry-run", "--python", python, fails=True, PYTHON=sys.executable)
    assert "/home/me/.pyenv/3.11, which the daemon can't see (ProtectHome=)" in told


def test_the_example_is_a_rig(tmp_path: Path) -> None:
    install("--root", tmp_path)
    config = load_rig_config(tmp_path / RIG)
    assert config.camera.source == "live"
    assert config.bundle == Path("/opt/edge-inspect/bundles/product")


def test_it_names_no_host() -> None:
    """What is installed comes from where pip is told to look; the script itself asks nobody."""
    assert not re.search(r"https?://|\bcurl\b|\bwget\b", SCRIPT.read_text())
