"""The epoch on a disk that is full: a rig must start there, for its outbox holds room in reserve."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.clock import next_epoch
from edge.errors import ConfigError
from tests.edge.small_disk import fill, image_of_ext4, mounted


def test_on_a_full_disk_the_epoch_still_grows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = image_of_ext4(tmp_path / "image", 16)
    with mounted(tmp_path / "disk", image=image) as disk:
        state = disk / "state"
        first = next_epoch(state)
        fill(disk)
        second, third = next_epoch(state), next_epoch(state)
        assert first < second < third
        assert "the disk is full" in caplog.text
        assert [path.name for path in state.iterdir()] == ["epoch"]
        assert int((state / "epoch").read_text()) == third


def test_a_first_start_on_a_full_disk_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", size_mb=1) as disk:
        state = disk / "state"
        state.mkdir()
        fill(disk)
        with pytest.raises(ConfigError, match=r"can't be written .*free some space"):
            next_epoch(state)
