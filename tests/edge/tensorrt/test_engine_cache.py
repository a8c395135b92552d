"""Engines on disk: named by all they depend on, verified before use, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RunnerError
from edge.runtime.tensorrt.engines import EngineCache, EngineKey, EngineRecord, StoredEngine
from edge.runtime.tensorrt.gpu import GpuIdentity, jetson_release
from edge.runtime.tensorrt.options import BuildOptions

ORIN = GpuIdentity(name="Orin", sm="8.7", driver="12.6", platform="R36.4.0")
KEY = EngineKey(onnx_sha256="a" * 64, tensorrt="10.3.0", gpu=ORIN, options=BuildOptions())
PLAN = b"a plan of some bytes" * 50

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
keys = st.builds(
    EngineKey,
    onnx_sha256=digests,
    tensorrt=words,
    gpu=st.builds(
        GpuIdentity,
        name=words,
        sm=st.builds("{}.{}".format, st.integers(5, 12), st.integers(0, 9)),
        driver=st.none() | words,
        platform=st.none() | words,
    ),
    options=st.builds(
        BuildOptions,
        workspace_mb=st.integers(16, 4096),
        optimization_level=st.integers(0, 5),
        dla_core=st.none() | st.integers(0, 1),
        allow_gpu_fallback=st.booleans(),
    ),
)


def record_of(plan: bytes = PLAN, key: EngineKey = KEY) -> EngineRecord:
    return EngineRecord(
        onnx="backbone.onnx",
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        build_s=1.5,
        built_at=datetime(2030, 1, 1, tzinfo=timezone.utc),
        edge_inspect="0.1.0",
    )


def stored(folder: Path, plan: bytes = PLAN, key: EngineKey = KEY) -> EngineCache:
    cache = EngineCache(folder)
    with cache.lock.held():
        cache.store(plan, record_of(plan, key))
    return cache


@pytest.fixture(scope="module")
def whole_cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    return stored(tmp_path_factory.mktemp("cache"))


class TestKey:
    @settings(deadline=None)
    @given(one=keys, other=keys)
    def test_keys_that_differ_have_other_digests(self, one: EngineKey, other: EngineKey) -> None:
        assert (one.digest == other.digest) == (one == other)

    @settings(max_examples=50, deadline=None)
    @given(key=keys)
    def test_order_and_a_trip_through_json_change_nothing(self, key: EngineKey) -> None:
        def reverse(data: Any) -> Any:
            return {k: reverse(data[k]) for k in reversed(data)} if isinstance(data, dict) else data

        turned = EngineKey.model_validate_json(json.dumps(reverse(key.model_dump(mode="json"))))
        assert turned.digest == key.digest

    @pytest.mark.parametrize(
        "part",
        [
            {"onnx_sha256": "b" * 64},
            {"tensorrt": "10.3.1"},
            *(
                {"gpu": ORIN.model_copy(update=change)}
                for change in (
                    {"name": "Orin NX"},
                    {"sm": "8.6"},
                    {"driver": "12.8"},
                    {"driver": None},
                    {"platform": "R36.4.3"},
                    {"platform": None},
                )
            ),
            *(
                {"options": BuildOptions.model_validate(change)}
                for change in (
                    {"workspace_mb": 512},
                    {"optimization_level": 5},
                    {"dla_core": 0},
                    {"allow_gpu_fallback": False},
                )
            ),
        ],
        ids=lambda part: str(next(iter(part.items()))),
    )
    def test_any_part_changes_it(self, part: dict[str, Any]) -> None:
        assert KEY.model_copy(update=part).digest != KEY.digest

    def test_every_field_is_part_of_it(self) -> None:
        """A field that is added later and left out of the digest would let a foreign engine in."""
        told = json.dumps(KEY.model_dump(mode="json"))
        for model in (EngineKey, GpuIdentity, BuildOptions):
            assert all(f'"{name}"' in told for name in model.model_fields)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (
            "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n# more\n",
            "R36.4.0",
        ),
        ("# R38 (release), REVISION: 2.1, GCID: 1\n", "R38.2.1"),
        ("something else\n", "something else"),
        ("", None),
    ],
)
def test_the_release_of_jetson_linux(text: str, release: str | None, tmp_path: Path) -> None:
    (tmp_path / "nv_tegra_release").write_text(text)
    assert jetson_release(tmp_path / "nv_tegra_release") == release
    assert jetson_release(tmp_path / "none") is None


class TestStored:
    def test_what_is_stored_is_loaded(self, tmp_path: Path) -> None:
        cache = stored(tmp_path / "not" / "yet" / "there")
        found = cache.load(KEY)
        assert found == StoredEngine(PLAN, record_of())
        told = json.loads(cache.record_path(KEY).read_text())
        assert told["onnx"] == "backbone.onnx"
        assert told["key"]["gpu"]["name"] == "Orin"
        assert told["key"]["tensorrt"] == "10.3.0"

    def test_nothing_is_nothing(self, tmp_path: Path) -> None:
        assert EngineCache(tmp_path).load(KEY) is None
        assert EngineCache(tmp_path / "none").load(KEY) is None

    def test_one_plan_replaces_another(self, tmp_path: Path) -> None:
        cache = stored(tmp_path)
        stored(tmp_path, b"another plan")
        assert cache.load(KEY) == StoredEngine(b"another plan", record_of(b"another plan"))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_no_changed_byte_is_ever_loaded(self, data: st.DataObject, whole_cache: EngineCache) -> None:
        cache, whole = whole_cache, {}
        for path, text in (
            (cache.plan_path(KEY), PLAN),
            (cache.record_path(KEY), record_of().model_dump_json(indent=2).encode()),
        ):
            path.write_bytes(text)
            whole[path] = text
        path = data.draw(st.sampled_from(sorted(whole)))
        self.damage(path, whole[path], data)
        found = cache.load(KEY)
        # A byte of the sidecar that says when, how long or by whom changes no engine.
        assert isinstance(found, str) or (isinstance(found, StoredEngine) and found.plan == PLAN)
        if path == cache.plan_path(KEY):
            assert isinstance(found, str)
            assert "sha256" in found

    @staticmethod
    def damage(path: Path, whole: bytes, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
        else:
            at = data.draw(st.integers(0, len(whole) - 1))
            damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
        path.write_bytes(damaged)

    @pytest.mark.parametrize(("gone", "why"), [("plan", "plan is missing"), ("json", "sidecar is missing")])
    def test_a_half_is_damage(self, gone: str, why: str, tmp_path: Path) -> None:
        cache = stored(tmp_path)
        (tmp_path / f"{KEY.digest}.{gone}").unlink()
        assert cache.load(KEY) == f"its {why}"

    def test_a_renamed_engine_is_foreign(self, tmp_path: Path) -> None:
        other = KEY.model_copy(update={"tensorrt": "10.13.3"})
        cache = stored(tmp_path, key=other)
        cache.plan_path(other).rename(cache.plan_path(KEY))
        cache.record_path(other).rename(cache.record_path(KEY))
        assert cache.load(KEY) == "its sidecar tells of another engine"

    def test_a_folder_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        cache = EngineCache(tmp_path)
        cache.record_path(KEY).mkdir()
        with pytest.raises(RunnerError, match=r"can't be read .*runtime\.engines_dir"):
            cache.load(KEY)


class TestNoRoom:
    def test_a_full_disk_is_a_clear_error_and_keeps_nothing_by_halves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = EngineCache(tmp_path)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with (
            cache.lock.held(),
            pytest.raises(RunnerError, match=r"backbone\.onnx .*No space left.*edge-build --prune"),
        ):
            cache.store(PLAN, record_of())
        monkeypatch.undo()
        assert cache.load(KEY) is None
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]

    def test_room_is_looked_for_before_the_build(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        onnx = tmp_path / "backbone.onnx"
        onnx.write_bytes(bytes(1 << 20))
        cache = EngineCache(tmp_path / "engines")
        cache.check_room(onnx)
        real = os.statvfs(tmp_path)
        monkeypatch.setattr(
            os,
            "statvfs",
            lambda path: os.statvfs_result((*real[:4], (9 << 20) // real.f_frsize, *real[5:])),
        )
        with pytest.raises(RunnerError, match=r"9 MiB are free, .*backbone\.onnx may need 10"):
            cache.check_room(onnx)

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        onnx = tmp_path / "a.onnx"
        onnx.write_bytes(b"")
        cache = EngineCache(tmp_path / "file" / "engines")
        with pytest.raises(RunnerError, match=r"can't be kept there .*runtime\.engines_dir"):
            cache.check_room(onnx)
        with pytest.raises(RunnerError, match="can't be kept there"), cache.lock.held():
            pass


class TestPrune:
    def test_only_what_is_named_stays(self, tmp_path: Path) -> None:
        kept, gone = KEY, KEY.model_copy(update={"tensorrt": "8.6.2"})
        cache = stored(tmp_path, key=kept)
        stored(tmp_path, key=gone)
        half = "c" * 64
        (tmp_path / f"{half}.plan").write_bytes(b"left by a crash")
        mine = [tmp_path / name for name in ("notes.json", "timing.cache", "model.plan")]
        for path in mine:
            path.write_text("not an engine of ours")
        assert {path.stem for path in cache.prune([kept])} == {gone.digest, half}
        assert isinstance(cache.load(kept), StoredEngine)
        assert cache.load(gone) is None
        assert all(path.exists() for path in mine)
        assert cache.prune([kept]) == ()

    def test_a_folder_that_is_not_there_stays_away(self, tmp_path: Path) -> None:
        assert EngineCache(tmp_path / "none").prune([]) == ()
        assert not (tmp_path / "none").exists()


_HOLD = """
import sys
from pathlib import Path
from edge.runtime.tensorrt.locking import FolderLock
with FolderLock(Path(sys.argv[1])).held():
    print("taken", flush=True)
    sys.stdin.readline()
"""

_DIE = """
import os, sys
from pathlib import Path
from edge.runtime.tensorrt.locking import FolderLock
with FolderLock(Path(sys.argv[1])).held():
    Path(sys.argv[1], ".half.plan.1.tmp").write_bytes(b"half a plan")
    os._exit(9)
"""


class TestLock:
    def test_another_process_waits_and_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = 0

        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked > 2

        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == "taken\n"
            with (
                pytest.raises(RunnerError, match=r"waiting for another process .* was cancelled"),
                EngineCache(tmp_path).lock.held(cancelled),
            ):
                pytest.fail("two hold one lock")
            assert "another process builds engines there" in caplog.text
            other.stdin.write("let go\n")
            other.stdin.flush()
            with EngineCache(tmp_path).lock.held():
                pass
        assert other.returncode == 0

    def test_a_killed_holder_leaves_neither_lock_nor_half_a_file(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        died = subprocess.run([sys.executable, "-c", _DIE, str(tmp_path)], check=False, timeout=120)
        assert died.returncode == 9
        assert (tmp_path / ".half.plan.1.tmp").exists()
        with caplog.at_level(logging.WARNING), EngineCache(tmp_path).lock.held():
            assert not (tmp_path / ".half.plan.1.tmp").exists()
        assert "left by a process that was killed" in caplog.text

    def test_a_thread_may_take_it_twice_and_no_other_meanwhile(self, tmp_path: Path) -> None:
        cache = EngineCache(tmp_path)
        inside: list[bool] = []

        def other() -> None:
            with cache.lock.held():
                inside.append(done.is_set())

        done = threading.Event()
        thread = threading.Thread(target=other)
        with cache.lock.held():
            with cache.lock.held():
                pass
            thread.start()
            thread.join(0.3)  # were the lock free, it would be through by now
            assert inside == []
            done.set()
        thread.join(60)
        assert inside == [True]
