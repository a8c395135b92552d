"""Where the real parts can't be had a test says why; in CI on Linux and x86_64 that is a failure."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.tensorrt_real import parts


def on(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, *, ci: bool) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if ci:
        monkeypatch.setenv("CI", "1")
    else:
        monkeypatch.delenv("CI", raising=False)


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64")])
@pytest.mark.parametrize("ci", [False, True])
def test_elsewhere_they_are_skipped(
    system: str, machine: str, ci: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, system, machine, ci=ci)
    with pytest.raises(pytest.skip.Exception, match=f"this is {system} on {machine}"):
        parts.part_or_skip(tmp_path / "nothing")


def test_what_is_not_installed_is_skipped_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, "Linux", "x86_64", ci=False)
    with pytest.raises(pytest.skip.Exception, match=r"is not there|no gcc"):
        parts.part_or_skip(tmp_path / "nothing")


def test_in_ci_nothing_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, "Linux", "x86_64", ci=True)
    with pytest.raises(pytest.fail.Exception):
        parts.part_or_skip(tmp_path / "nothing")
    assert parts.part_or_skip(tmp_path) == tmp_path
