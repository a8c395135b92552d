"""Views in a file: as they were written, in memory that does not grow with their number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import TrainingError
from train.feature_cache import FeatureCache
from train.features import BackboneConfig, load_backbone
from train.rows import RowFile
from train.views import Views

# Views are written, read in random batches, and standardised; the peak of memory is told.
GROWS = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from train.rows import RowFile
from train.views import Views
torch.set_num_threads(1)
path, count, shape = Path(sys.argv[1]), int(sys.argv[2]), (112, 24, 24)
rng = np.random.default_rng(0)
file = RowFile(path, count, shape, create=True)
for row in range(count):
    file.put(row, rng.standard_normal((1, *shape), dtype=np.float32))
views = Views(file, torch.ones(count, 1, 24, 24))
views.foreground_statistics()
for _ in range(3):
    for batch in torch.split(torch.randperm(count), 8):
        assert views.rows(batch).shape == (len(batch), *shape)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(path: Path, count: int) -> int:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", GROWS, str(path), str(count)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_views(tmp_path: Path) -> None:
    few, many = peak_mb(tmp_path / "few", 100), peak_mb(tmp_path / "many", 800)
    on_disk_mb = (tmp_path / "many").stat().st_size / 2**20
    assert on_disk_mb > 190
    assert many - few < 30, (
        f"{few} MB for 100 views, {many} MB for 800, which are {on_disk_mb:.0f} MB on disk"
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count, channels, cells = (data.draw(st.integers(1, top)) for top in (7, 3, 4))
    values = np.random.default_rng(count).standard_normal((count, channels, cells, cells)).astype(np.float32)
    path = tmp_path_factory.mktemp("rows") / "views"
    file = RowFile(path, count, (channels, cells, cells), create=True)
    for row in data.draw(st.permutations(range(count))):
        file.put(row, values[row : row + 1])
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    other = RowFile(path, count, (channels, cells, cells), create=False)  # as another worker holds it
    for reader in (file, other):
        np.testing.assert_array_equal(reader.take(torch.tensor(rows)).numpy(), values[rows])


def test_statistics_are_those_of_the_foreground(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = (rng.standard_normal((70, 3, 4, 4)) * [[[[2.0]], [[0.1]], [[30.0]]]] + 1000.0).astype(np.float32)
    mask = torch.from_numpy((rng.random((70, 1, 4, 4)) < 0.4).astype(np.float32))
    file = RowFile(tmp_path / "views", 70, (3, 4, 4), create=True)
    file.put(0, parts)
    mean, variance = Views(file, mask).foreground_statistics()
    cells = np.moveaxis(parts, 1, -1)[mask[:, 0].numpy() > 0].astype(np.float64)  # (k, 3)
    np.testing.assert_allclose(mean, cells.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, cells.var(axis=0), rtol=1e-4)


def test_a_disk_without_room_is_said_at_once(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    too_many = 2 * free // (4 * 1024 * 1024)
    with pytest.raises(TrainingError, match=r"no room for .* GB \(No space .* are free\); free the disk"):
        RowFile(tmp_path / "views", too_many, (1024, 1024), create=True)
    assert not (tmp_path / "views").exists()


def test_a_file_that_may_not_grow_so_far_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from train.rows import RowFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "RowFile(Path(sys.argv[1]), 10, (1024, 1024), create=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "views")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "no room for 10 arrays of 1024×1024 numbers, 0.04 GB (File too large)" in done.stderr
    assert not (tmp_path / "views").exists()


def picture(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)


def test_the_cache_forgets_what_was_not_used_longest(tmp_path: Path) -> None:
    backbone = load_backbone(BackboneConfig(blocks=(2,)), 8)
    entry = 24 * 8 * 8 * 4 + 128  # bytes: channels, cells, and numpy's header
    cache = FeatureCache(tmp_path, limit_bytes=4 * entry)
    made = {}
    for seed in range(4):
        cache.features(backbone, picture(seed))
        (made[seed],) = set(tmp_path.rglob("*.npy")) - set(made.values())
        os.utime(made[seed], (seed, seed))
    cache.features(backbone, picture(0))  # used again: now the newest
    cache.features(backbone, picture(4))
    left = set(tmp_path.rglob("*.npy"))
    assert made[0] in left
    assert {made[1], made[2]} & left == set()
    assert sum(path.stat().st_size for path in left) <= 4 * entry
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    backbone = load_backbone(BackboneConfig(blocks=(1,)), 8)
    with pytest.raises(TrainingError, match=r"cache can't be written \(.*\); free the disk, name another"):
        FeatureCache(tmp_path / "cache").features(backbone, picture(0))
