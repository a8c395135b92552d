"""Recipes: the next is loaded while the one before goes on, and a bad one changes nothing."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import onnx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper

from edge.bundle import MANIFEST_FILE, load_bundle
from edge.calibration import Calibration
from edge.calibration_file import calibration_text, write_calibration
from edge.calibration_store import CalibrationStore
from edge.clock import Session
from edge.config import load_rig_config
from edge.errors import ConfigError, EdgeError, TriggerError
from edge.order_messages import RecipeState
from edge.recalibration import Recalibration, by_hand, found_elsewhere
from edge.recipe_loading import LoadedRecipe, RecipeLoader
from edge.recipe_memory import RecipeMemory
from edge.recipes import RecipeKeeper, Settled
from edge.region_rules import RegionRules
from edge.reloading import reloading
from edge.runtime.onnx import OnnxRunner
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256, read_sealed, seal
from edge.signature import PublicKey
from edge.signing import sign_bundle
from edge.work.model import Model
from tests.tiny_bundle import make_tiny_bundle

SESSION = Session(epoch=1, boot_id="boot", software_version="0")
MONDAY = datetime(2030, 1, 7, 12, tzinfo=timezone.utc)
TIMEOUT_S = 300.0

RIG = {
    "rig": {"enterprise": "acme", "site": "d", "area": "a", "line": "l", "cell": "c"},
    "camera": {"source": "live"},
    "runtime": {"backend": "onnx", "threads": 1},
}


class Rig:
    """A folder with a YAML, and the line that a keeper exchanges models of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.yaml = folder / "rig.yaml"
        self.models: list[Model] = []
        self.in_memory = 0
        self.most_in_memory = 0
        self.states: list[RecipeState] = []
        self.now = MONDAY
        self.synced: bool | None = True
        self.failure: TriggerError | None = None

    def write(self, **sections: object) -> None:
        self.yaml.write_text(yaml.safe_dump(RIG | sections), encoding="utf-8")

    def exchange(self, model: Model) -> Future[None]:
        changed: Future[None] = Future()
        if self.failure is not None:
            model.close()
            changed.set_exception(self.failure)
            return changed
        before = self.models[-1]
        self.models.append(model)
        changed.set_result(None)
        before.close()
        return changed

    @contextmanager
    def keeping(self) -> Iterator[RecipeKeeper]:
        store = CalibrationStore(self.folder / "state")
        loader = RecipeLoader(load_rig_config(self.yaml), SESSION, store)
        memory = RecipeMemory(self.folder / "state")
        remembered = memory.recall(loader.book)
        name = loader.book.first if remembered is None else remembered.recipe
        first = loader.load(loader.verify(name))
        self.models.append(first.model)
        keeper = RecipeKeeper(
            loader,
            first,
            exchange=self.exchange,
            session=SESSION,
            memory=memory,
            remembered=remembered,
            on_state=self.states.append,
            now=lambda: self.now,
            synced=lambda: self.synced,
        )
        keeper.start()
        try:
            yield keeper
        finally:
            assert keeper.close(TIMEOUT_S)
            self.models[-1].close()


def settled(ask: Callable[[Callable[[Settled], None]], None]) -> Settled:
    """How a request ended."""
    got: Future[Settled] = Future()
    ask(got.set_result)
    return got.result(TIMEOUT_S)


def switched(keeper: RecipeKeeper, name: str) -> Settled:
    return settled(lambda done: keeper.switch(name, done))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    make_tiny_bundle(tmp_path / "plate", product="plate", golden=1)
    make_tiny_bundle(tmp_path / "gland", product="gland", golden=1, colour=(0.1, 0.2, 0.3), threshold=0.7)
    made = Rig(tmp_path)
    made.write(
        recipes={
            "plate": {"bundle": "plate"},
            "gland": {"bundle": "gland", "trigger": {"kind": "part_present", "min_area_mm2": 300}},
        },
        recipe="plate",
    )
    return made


def test_it_goes_over_and_says_so_and_remembers_it(rig: Rig) -> None:
    with rig.keeping() as keeper:
        assert keeper.state().running.name == "plate"
        assert switched(keeper, "gland") == Settled("gland")
        running = keeper.state().running
        assert (running.product, running.trigger, running.threshold) == ("gland", "part_present", 0.7)
        assert running.model_sha256 == load_bundle(rig.folder / "gland").model_sha256
        assert keeper.running.model.provenance.product == "gland"
        assert switched(keeper, "gland").note == "already_running"
    assert "gland" in [state.loading for state in rig.states]
    assert rig.states[-1].loading is None
    assert len(rig.models) == 2
    with rig.keeping() as keeper:
        assert keeper.running.name == "gland"


def test_a_bundle_that_was_replaced_in_its_place_is_taken_when_asked_for(rig: Rig) -> None:
    with rig.keeping() as keeper:
        before = keeper.running
        shutil.rmtree(rig.folder / "plate")
        make_tiny_bundle(rig.folder / "plate", colour=(0.5, 0.5, 0.5))
        assert switched(keeper, "plate") == Settled("plate")
        assert keeper.state().running.model_sha256 != before.verified.bundle.model_sha256
        assert before.closed.is_set()


def _missing(rig: Rig) -> None:
    shutil.rmtree(rig.folder / "gland")


def _wrong_hash(rig: Rig) -> None:
    with (rig.folder / "gland" / "shape.onnx").open("r+b") as file:
        file.write(b"x")


def _wrong_manifest(rig: Rig) -> None:
    with (rig.folder / "gland" / MANIFEST_FILE).open("a") as file:
        file.write("x: 1\n")


def _uncalibrated(rig: Rig) -> None:
    (rig.folder / "gland" / "calibration.yaml").unlink()


def _calibration_of_another(rig: Rig) -> None:
    shutil.copy(rig.folder / "plate" / "calibration.yaml", rig.folder / "gland" / "calibration.yaml")


def _put_into_bundle(folder: Path, name: str, data: bytes) -> None:
    """A file that its manifest agrees with: what is wrong is found only when it is run."""
    (folder / name).write_bytes(data)
    manifest = yaml.safe_load(read_sealed(folder / MANIFEST_FILE)[0])
    manifest["files"][name] = {"sha256": file_sha256(folder / name), "bytes": len(data)}
    (folder / MANIFEST_FILE).write_text(seal(yaml.safe_dump(manifest, sort_keys=False)))
    calibration = yaml.safe_load(read_sealed(folder / "calibration.yaml")[0])
    calibration["model_sha256"] = read_sealed(folder / MANIFEST_FILE)[1]
    (folder / "calibration.yaml").write_text(seal(yaml.safe_dump(calibration, sort_keys=False)))


def _broken_onnx(rig: Rig) -> None:
    _put_into_bundle(rig.folder / "gland", "shape.onnx", b"\x08\x0a\x12 not a graph")


def _other_graph(rig: Rig) -> None:
    """A graph that runs, but computes something else than the golden sample says."""
    folder = rig.folder / "gland"
    model = onnx.load(folder / "shape.onnx")
    model.graph.node[0].op_type = "Neg"
    _put_into_bundle(folder, "shape.onnx", model.SerializeToString())


def _crashing_graph(rig: Rig) -> None:
    """One that ends the process that runs it, or fails: integer division by zero."""
    folder = rig.folder / "gland"
    model = onnx.load(folder / "shape.onnx")
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    model.graph.initializer.append(zero)
    model.graph.node.insert(0, helper.make_node("Div", ["zero", "zero"], ["boom"]))
    model.graph.node.append(helper.make_node("Cast", ["boom"], ["boomed"], to=TensorProto.FLOAT))
    last = next(node for node in model.graph.node if "shape_map" in node.output)
    last.output[0] = "quiet"
    model.graph.node.append(helper.make_node("Add", ["quiet", "boomed"], ["shape_map"]))
    _put_into_bundle(folder, "shape.onnx", model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_missing, "BundleCorrupt"),
        (_wrong_hash, "FileChanged"),
        (_wrong_manifest, "FileChanged"),
        (_uncalibrated, "RecipeUnfit"),
        (_calibration_of_another, "CalibrationForeign"),
        (_broken_onnx, "RunnerError"),
        (_other_graph, "RecipeUnfit"),
        (_crashing_graph, "RunnerError"),
    ],
)
def test_a_bad_recipe_is_refused_and_the_one_before_goes_on(
    rig: Rig, spoil: Callable[[Rig], None], reason: str
) -> None:
    with rig.keeping() as keeper:
        before = keeper.running
        spoil(rig)
        result = switched(keeper, "gland")
        assert type(result.error).__name__ == reason
        assert str(rig.folder / "gland") in str(result.error)
        assert (result.recipe, keeper.running, before.closed.is_set()) == ("plate", before, False)
        state = rig.states[-1]
        assert state.refused is not None
        assert (state.refused.name, state.loading) == ("gland", None)
        assert len(rig.models) == 1
    assert not (rig.folder / "state" / "recipe.json").exists()


def test_a_stranger_s_bundle_is_refused(rig: Rig) -> None:
    key = Ed25519PrivateKey.generate()
    sign_bundle(rig.folder / "plate", key)
    sign_bundle(rig.folder / "gland", Ed25519PrivateKey.generate())
    rig.write(
        recipes={"plate": {"bundle": "plate"}, "gland": {"bundle": "gland"}},
        recipe="plate",
        trusted_keys=[PublicKey.of(key.public_key(), "test").text],
    )
    with rig.keeping() as keeper:
        assert type(switched(keeper, "gland").error).__name__ == "SignatureUntrusted"
        assert type(switched(keeper, "nut").error).__name__ == "RecipeUnknown"


def test_where_the_rig_can_not_go_over_the_one_before_goes_on(rig: Rig) -> None:
    with rig.keeping() as keeper:
        rig.failure = TriggerError("no such line")
        assert switched(keeper, "gland").error is rig.failure
        assert keeper.running.name == "plate"
        rig.failure = None
        assert switched(keeper, "gland") == Settled("gland")


def test_memory_of_a_refused_one_is_freed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    runners: list[weakref.ref[object]] = []
    load = RecipeLoader.load

    def noting(self: RecipeLoader, *args: object, **more: object) -> LoadedRecipe:
        loaded = load(self, *args, **more)  # type: ignore[arg-type]  # passed on as it came
        runners.append(weakref.ref(loaded.model.inspector._runner))  # type: ignore[attr-defined]  # the Inspector's
        return loaded

    monkeypatch.setattr(RecipeLoader, "load", noting)
    with rig.keeping() as keeper:
        for _ in range(3):
            rig.failure = TriggerError("no such line")
            assert switched(keeper, "gland").error is not None
            rig.failure = None
        gc.collect()
        assert sum(runner() is not None for runner in runners) == 1


def test_the_next_is_not_loaded_before_the_last_but_one_is_freed(rig: Rig) -> None:
    with rig.keeping() as keeper:
        first = rig.models[0]
        held: list[Model] = []

        def exchange(model: Model) -> Future[None]:
            changed: Future[None] = Future()
            held.append(rig.models[-1])  # a part of it is still being inspected
            rig.models.append(model)
            changed.set_result(None)
            return changed

        keeper._exchange = exchange
        assert switched(keeper, "gland") == Settled("gland")
        second: Future[Settled] = Future()
        keeper.switch("plate", second.set_result)
        waiting = threading.Event()
        assert not waiting.wait(0.5)
        assert not second.done()
        assert held == [first]
        first.close()
        assert second.result(TIMEOUT_S) == Settled("plate")
        held[1].close()


def test_a_later_wish_overtakes_an_earlier_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, go_on = threading.Event(), threading.Event()
    load = RecipeLoader.load

    def slow(self: RecipeLoader, *args: object, **more: object) -> LoadedRecipe:
        loading.set()
        assert go_on.wait(TIMEOUT_S)
        return load(self, *args, **more)  # type: ignore[arg-type]  # passed on as it came

    with rig.keeping() as keeper:
        monkeypatch.setattr(RecipeLoader, "load", slow)
        first, second = Future[Settled](), Future[Settled]()
        keeper.switch("gland", first.set_result)
        assert loading.wait(TIMEOUT_S)
        keeper.switch("plate", second.set_result)
        go_on.set()
        assert type(first.result(TIMEOUT_S).error).__name__ == "RecipeOvertaken"
        assert second.result(TIMEOUT_S).note == "already_running"
        assert len(rig.models) == 1


def changed_to(threshold: float, before: LoadedRecipe) -> Recalibration:
    bundle = before.verified.bundle
    assert bundle.calibration is not None
    change = by_hand(threshold, None, note=None, who="test", now=MONDAY)
    return Recalibration(bundle.model_sha256, bundle.calibration.version, change)


def recalibrated(keeper: RecipeKeeper, wanted: Recalibration) -> Settled:
    return settled(lambda done: keeper.recalibrate(wanted, done))


class TestRecalibration:
    def test_it_keeps_engine_and_trigger_and_frees_them_once(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[object] = []
        close = OnnxRunner.close
        monkeypatch.setattr(OnnxRunner, "close", lambda self: closed.append(self) or close(self))
        with rig.keeping() as keeper:
            first = keeper.running
            since = keeper.state().running.since
            rig.now += timedelta(hours=1)
            for number in (2, 3):
                before = keeper.running
                made = recalibrated(keeper, changed_to(float(number), before))
                assert made == Settled("plate", calibration_version=number)
                after = keeper.running
                assert after.model.trigger is before.model.trigger is first.model.trigger
                assert after.shared is first.shared
                assert (before.closed.is_set(), after.closed.is_set(), closed) == (True, False, [])
                assert after.model.provenance.calibration_version == number
            assert (rig.states[-1].running.threshold, rig.states[-1].running.since) == (3.0, since)
            assert switched(keeper, "plate").note == "already_running"
            assert switched(keeper, "gland") == Settled("gland")
            assert closed == [first.shared.runner]
            assert switched(keeper, "plate") == Settled("plate")
            assert keeper.state().running.calibration_version == 3

    def test_good_scores_are_those_of_the_calibration_that_is_applied(self, rig: Rig) -> None:
        with rig.keeping() as keeper:
            before = keeper.running.verified.bundle.calibration
            assert before is not None
            found = before.model_copy(update={"good_scores": (1.0, 2.0), "good_parts": 2})
            wanted = Recalibration(before.model_sha256, 1, found_elsewhere(calibration_text(found)))
            assert recalibrated(keeper, wanted).error is None
            assert keeper.running.model.good_scores == (1.0, 2.0)
            assert recalibrated(keeper, changed_to(0.5, keeper.running)) == Settled(
                "plate", calibration_version=3
            )
            assert keeper.running.model.good_scores == (1.0, 2.0)

    def test_what_was_asked_of_another_model_is_refused(self, rig: Rig) -> None:
        with rig.keeping() as keeper:
            wanted = changed_to(9.0, keeper.running)
            assert switched(keeper, "gland") == Settled("gland")
            refused = recalibrated(keeper, wanted)
            assert type(refused.error).__name__ == "RecipeOvertaken"
            assert refused.calibration_version == 1

    def test_rules_that_do_not_go_with_the_score_are_refused(self, rig: Rig) -> None:
        make_tiny_bundle(rig.folder / "plate2", product="plate", score=ScoreSpec(kind="mean"))
        rig.write(recipes={"plate": {"bundle": "plate2"}})
        with rig.keeping() as keeper:
            before = keeper.running.verified.bundle.calibration
            assert before is not None
            ruled = before.model_copy(update={"region_rules": RegionRules(min_area_mm2=3.0)})
            wanted = Recalibration(before.model_sha256, 1, found_elsewhere(calibration_text(ruled)))
            refused = recalibrated(keeper, wanted)
            assert "this model's is mean" in str(refused.error)
            assert not (rig.folder / "state" / "calibrations").exists()

    def test_that_of_the_state_comes_before_the_recipe_s_and_the_recipe_s_before_the_bundle_s(
        self, rig: Rig
    ) -> None:
        store, own = CalibrationStore(rig.folder / "state"), rig.folder / "own"
        own.mkdir()
        bundled = load_bundle(rig.folder / "plate").calibration
        assert bundled is not None
        write_calibration(own, bundled.model_copy(update={"threshold": 2.0}))
        rig.write(recipes={"plate": {"bundle": "plate", "calibration": "own"}})
        thresholds = []
        for stored in (None, bundled.model_copy(update={"threshold": 3.0, "version": 2})):
            if stored is not None:
                store.add(stored)
            loader = RecipeLoader(load_rig_config(rig.yaml), SESSION, store)
            calibration = loader.verify("plate").bundle.calibration
            assert calibration is not None
            thresholds.append(calibration.threshold)
        assert thresholds == [2.0, 3.0]


class TestThreshold:
    def test_of_the_recipe_overrules_and_is_provisional(self, rig: Rig) -> None:
        rig.write(recipes={"plate": {"bundle": "plate", "threshold": 2.5}})
        with rig.keeping() as keeper:
            calibration = keeper.running.verified.bundle.calibration
            assert calibration is not None
            assert (calibration.threshold, calibration.provisional) == (2.5, True)
            assert keeper.running.model.provenance.calibration_id == "tiny+rig"

    def test_of_another_calibration_must_be_of_this_model(self, rig: Rig) -> None:
        own = rig.folder / "own"
        own.mkdir()
        digest = load_bundle(rig.folder / "plate").model_sha256
        for model, sound in ((digest, True), ("0" * 64, False)):
            write_calibration(
                own,
                Calibration(
                    calibration_id="rig-3",
                    model_sha256=model,
                    threshold=0.9,
                    false_reject_rate=0.1,
                    good_parts=9,
                    created_utc=MONDAY,
                ),
            )
            rig.write(recipes={"plate": {"bundle": "plate", "calibration": "own"}})
            loader = RecipeLoader(load_rig_config(rig.yaml), SESSION)
            if sound:
                found = loader.verify("plate").bundle.calibration
                assert found is not None
                assert (found.calibration_id, found.threshold) == ("rig-3", 0.9)
            else:
                with pytest.raises(EdgeError, match="was found for model"):
                    loader.verify("plate")

    def test_overrules_nothing_where_nothing_was_found(self, rig: Rig) -> None:
        _uncalibrated(rig)
        rig.write(recipes={"gland": {"bundle": "gland", "threshold": 2.5}})
        with pytest.raises(EdgeError, match="calibrate it on good parts"):
            RecipeLoader(load_rig_config(rig.yaml), SESSION).verify("gland")


class TestSchedule:
    def test_it_is_followed_and_a_wish_holds_until_its_next_switch(self, rig: Rig) -> None:
        self.write(rig)
        with rig.keeping() as keeper:
            rig_runs(rig, "gland")  # since 06:00
            assert switched(keeper, "plate") == Settled("plate")
            rig.now += timedelta(hours=1)
            assert keeper.state().running.name == "plate"
            assert keeper.state().next_name == "plate"
            rig.now = MONDAY.replace(day=8, hour=6)
            rig_runs(rig, "gland")

    def test_without_a_clock_to_believe_nothing_happens(self, rig: Rig) -> None:
        self.write(rig)
        rig.synced = False
        with rig.keeping() as keeper:
            assert switched(keeper, "plate").note == "already_running"
            assert keeper.state().next_name is None
            rig.synced = True
            rig_runs(rig, "gland")

    def test_a_bad_one_is_refused_and_not_tried_every_second(self, rig: Rig) -> None:
        self.write(rig)
        _wrong_hash(rig)
        with rig.keeping() as keeper:
            wait_until(rig, lambda state: state.refused is not None)
            assert switched(keeper, "plate").note == "already_running"
            assert [state.loading for state in rig.states].count("gland") == 1
            assert keeper.running.name == "plate"

    def write(self, rig: Rig) -> None:
        rig.write(
            recipes={"plate": {"bundle": "plate"}, "gland": {"bundle": "gland"}},
            recipe="plate",
            schedule={
                "time_zone": "UTC",
                "switches": [
                    {"at": "06:00", "days": ["mon-fri"], "recipe": "gland"},
                    {"at": "22:00", "recipe": "plate"},
                ],
            },
        )


def wait_until(rig: Rig, done: Callable[[RecipeState], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.05)):
        if rig.states and done(rig.states[-1]):
            return
        pause.wait(0.05)
    raise AssertionError(rig.states[-1])


def rig_runs(rig: Rig, name: str) -> None:
    wait_until(rig, lambda state: state.running.name == name)


class TestReload:
    def reload(self, rig: Rig, keeper: RecipeKeeper) -> Settled:
        return settled(lambda done: keeper.reload(reloading(rig.yaml, SESSION), done))

    def test_what_changed_is_taken_over_and_the_rest_is_named(self, rig: Rig) -> None:
        with rig.keeping() as keeper:
            rig.write(
                recipes={
                    "plate": {"bundle": "plate", "threshold": 3.0},
                    "gland": {"bundle": "gland"},
                    "nut": {"bundle": "gland"},
                },
                recipe="plate",
                job_id="4712",
                health={"interval_s": 9},
                broker={"port": 1884},
            )
            result = self.reload(rig, keeper)
            assert result.reloaded is not None
            assert set(result.reloaded.applied) == {
                "recipes.plate",
                "recipes.gland",
                "recipes.nut",
                "job_id",
            }
            assert set(result.reloaded.needs_restart) == {"health.interval_s", "broker.port"}
            assert keeper.state().running.threshold == 3.0
            assert keeper.running.model.provenance.job_id == "4712"
            assert keeper.state().names == ("gland", "nut", "plate")
            assert switched(keeper, "nut") == Settled("nut")
            again = self.reload(rig, keeper)
            assert again.reloaded is not None
            assert again.reloaded.applied == ()
            assert set(again.reloaded.needs_restart) == {"health.interval_s", "broker.port"}

    @pytest.mark.parametrize("spoil", ["yaml", "key", "bundle", "none"])
    def test_a_broken_one_changes_nothing(self, rig: Rig, spoil: str) -> None:
        with rig.keeping() as keeper:
            before = keeper.running
            if spoil == "yaml":
                rig.yaml.write_text("rig: [", encoding="utf-8")
            elif spoil == "key":
                rig.write(recipes={"plate": {"bundle": "plate", "treshold": 1.0}})
            elif spoil == "bundle":
                rig.write(recipes={"plate": {"bundle": "plate"}, "nut": {"bundle": "nut"}}, recipe="plate")
            else:
                rig.yaml.unlink()
            result = self.reload(rig, keeper)
            assert result.error is not None
            assert isinstance(result.error, ConfigError) == (spoil != "bundle")
            assert keeper.running is before
            assert keeper.state().names == ("gland", "plate")

    def test_where_the_running_one_is_gone_the_first_takes_its_place(self, rig: Rig) -> None:
        with rig.keeping() as keeper:
            rig.write(recipes={"gland": {"bundle": "gland"}})
            assert self.reload(rig, keeper).recipe == "gland"
            assert keeper.running.name == "gland"


class TestMemory:
    def test_damage_and_strange_names_begin_with_the_first(self, rig: Rig) -> None:
        book = load_rig_config(rig.yaml).recipe_book()
        memory = RecipeMemory(rig.folder / "state")
        assert memory.recall(book) is None
        memory.remember("gland", MONDAY)
        found = memory.recall(book)
        assert found is not None
        assert (found.recipe, found.since) == ("gland", MONDAY)
        memory.remember("nut", MONDAY)
        assert memory.recall(book) is None
        (rig.folder / "state" / "recipe.json").write_bytes(b"\x00{")
        assert memory.recall(book) is None

    def test_what_can_not_be_remembered_runs_and_is_told(self, rig: Rig) -> None:
        (rig.folder / "state").mkdir()
        with rig.keeping() as keeper:
            (rig.folder / "state").rmdir()
            (rig.folder / "state").write_text("in the way")
            assert switched(keeper, "gland") == Settled("gland", note="not_remembered")
            assert keeper.running.name == "gland"
