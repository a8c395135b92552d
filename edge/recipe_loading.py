"""From a recipe's name to a model that is ready to inspect with, verified and tried."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge.bundle import Bundle, load_bundle
from edge.calibration_file import CALIBRATION_FILE, parse_calibration, read_sealed_calibration
from edge.calibration_store import CalibrationStore
from edge.clock import Session
from edge.config import PicturesConfig, RigConfig
from edge.errors import CalibrationError, RecipeUnfit, RecipeUnknown
from edge.event_trigger import EventTrigger
from edge.grounds import Grounds
from edge.inspection import Inspection
from edge.inspector import Inspector
from edge.pictures import pictures_of
from edge.publisher import Picture
from edge.recipe_config import RecipeBook, RecipeConfig
from edge.ruled_score import RuledScore
from edge.runtime import Runner, check_backend, runner_for
from edge.runtime.shared import SharedRunner
from edge.runtime.tensorrt.progress import BuildProgress
from edge.selftest import run_sample
from edge.trial import try_stages
from edge.trigger import Trigger, trigger_from_config
from edge.verdict import Provenance
from edge.work.model import Model

__all__ = [
    "LoadedRecipe",
    "RecipeLoader",
    "VerifiedRecipe",
    "calibrated_bundle",
    "check_rules",
    "differs_in_calibration",
    "verify_recipe",
]


@dataclass(frozen=True, slots=True)
class VerifiedRecipe:
    """A recipe whose bundle was verified, with the threshold that it is to use; two that are equal inspect
    alike.
    """

    name: str
    config: RecipeConfig
    bundle: Bundle
    job_id: str | None
    pictures: PicturesConfig


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRecipe:
    """A recipe in memory; `grounds` is what its trigger has found of frames.

    `closed` is set once its model has been freed, or lives on with another calibration alone.
    """

    verified: VerifiedRecipe
    model: Model
    closed: threading.Event
    shared: SharedRunner
    grounds: Grounds

    @property
    def name(self) -> str:
        return self.verified.name


def verify_recipe(config: RigConfig, name: str, store: CalibrationStore) -> VerifiedRecipe:
    """Read a recipe's bundle, whole; nothing of it is run, and nothing is written.

    Its calibration is that of `store` for the model; else the recipe's own; else the bundle's. Raises
    `RecipeUnknown`, `ConfigError` (a key can't be read), and what `load_bundle` raises; and
    `CalibrationError` where another calibration or threshold does not fit the bundle, or one is damaged.
    """
    book = config.recipe_book()
    recipe = book.recipes.get(name)
    if recipe is None:
        raise RecipeUnknown(f"no recipe {name!r}; there are {', '.join(book.names)}")
    bundle = load_bundle(recipe.bundle, config.read_trusted_keys())
    calibrated = calibrated_bundle(name, bundle, recipe, store)
    check_rules(calibrated)
    return VerifiedRecipe(name, recipe, calibrated, config.job_id, config.pictures)


def check_rules(bundle: Bundle) -> None:
    """Raises `CalibrationError` where its calibration's region rules don't go with its score."""
    calibration, manifest = bundle.calibration, bundle.manifest
    rules = None if calibration is None else calibration.region_rules
    RuledScore(manifest.score, rules, manifest.preprocessing.depth_px)


class RecipeLoader:
    """Loads recipes as one configuration of the rig has them; any thread may, one at a time.

    `store` holds the calibrations that were made on this rig, none if not given.
    """

    def __init__(self, config: RigConfig, session: Session, store: CalibrationStore | None = None) -> None:
        self.config = config
        self.store = CalibrationStore(None) if store is None else store
        self.book: RecipeBook = config.recipe_book()
        self._session = session

    def verify(self, name: str) -> VerifiedRecipe:
        """`verify_recipe` of this loader's configuration."""
        return verify_recipe(self.config, name, self.store)

    def load(
        self,
        verified: VerifiedRecipe,
        *,
        progress: BuildProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> LoadedRecipe:
        """Make a runner for it (engines are built where they are missing), and try it on a golden sample.

        Raises `RunnerError` or `BundleError` where its stages can't be run, `RecipeUnfit` where they don't
        give what they gave on the workstation, `TriggerError`, `ConfigError`; then nothing of it is left in
        memory.
        """
        bundle, config = verified.bundle, self.config
        check_backend(bundle, config.runtime)
        grounds, foreground = Grounds(), bundle.manifest.preprocessing.foreground
        trigger = trigger_from_config(verified.config.trigger, foreground, grounds)
        if config.runtime.backend == "onnx":
            try_stages(bundle)
        runner = runner_for(bundle, config.runtime, progress=progress, cancelled=cancelled)
        try:
            _try_golden(bundle, runner)
        except BaseException:
            runner.close()
            raise
        return self._loaded(verified, SharedRunner(runner), trigger, grounds)

    def recalibrated(self, loaded: LoadedRecipe, verified: VerifiedRecipe) -> LoadedRecipe:
        """A loaded recipe with another calibration: the same engine in memory, the same trigger.

        For one of which `differs_in_calibration` is true. Raises `CalibrationError`.
        """
        return self._loaded(verified, loaded.shared, loaded.model.trigger, loaded.grounds)

    def _loaded(
        self,
        verified: VerifiedRecipe,
        shared: SharedRunner,
        trigger: Trigger | EventTrigger,
        grounds: Grounds,
    ) -> LoadedRecipe:
        bundle, closed = verified.bundle, threading.Event()
        model = Model(
            inspector=Inspector(bundle, shared.runner, grounds),
            trigger=trigger,
            pictures=_picture_maker(verified.pictures),
            provenance=self._provenance(bundle),
            close=shared.lease(closed.set),
            good_scores=bundle.calibration.good_scores if bundle.calibration else None,
            promise=bundle.calibration.promise if bundle.calibration else None,
        )
        return LoadedRecipe(verified, model, closed, shared, grounds)

    def _provenance(self, bundle: Bundle) -> Provenance:
        calibration = bundle.calibration
        return Provenance(
            session=self._session,
            product=bundle.product,
            method=bundle.method,
            model_sha256=bundle.model_sha256,
            calibration_id=calibration.calibration_id if calibration else None,
            threshold_provisional=calibration.provisional if calibration else None,
            calibration_version=calibration.version if calibration else None,
            job_id=self.config.job_id,
            # A recording or a folder shows parts that were real once: they must not count as parts of today.
            is_simulated=self.config.camera.source != "live",
        )


def differs_in_calibration(one: VerifiedRecipe, other: VerifiedRecipe) -> bool:
    """Whether they are alike but for their calibration: nothing is loaded to go from one to the other."""
    return one != other and _uncalibrated(one) == _uncalibrated(other)


def _uncalibrated(verified: VerifiedRecipe) -> VerifiedRecipe:
    return replace(
        verified,
        config=verified.config.model_copy(update={"calibration": None, "threshold": None}),
        bundle=replace(verified.bundle, calibration=None, calibration_sha256=None),
    )


def calibrated_bundle(name: str, bundle: Bundle, recipe: RecipeConfig, store: CalibrationStore) -> Bundle:
    """The bundle with the calibration and the threshold that the rig or the recipe has of its own.

    Raises `CalibrationError` where one does not fit the bundle, or is damaged.
    """
    stored = store.in_force(bundle.model_sha256)
    if stored is not None:
        bundle = replace(bundle, calibration=stored.calibration, calibration_sha256=stored.sha256)
    elif recipe.calibration is not None:
        sealed = read_sealed_calibration(recipe.calibration)
        if sealed is None:
            raise CalibrationError(
                f"recipe {name}: {recipe.calibration} holds no {CALIBRATION_FILE}; check the path, or leave "
                "it out to use the bundle's"
            )
        calibration = parse_calibration(sealed[0], recipe.calibration / CALIBRATION_FILE, bundle.model_sha256)
        bundle = replace(bundle, calibration=calibration, calibration_sha256=sealed[1])
    if recipe.threshold is None:
        return bundle
    if bundle.calibration is None:
        raise CalibrationError(
            f"recipe {name}: sets a threshold of {recipe.threshold:g} for {bundle.path}, which has no "
            "calibration; calibrate it on good parts of this rig, then overrule what was found"
        )
    found = bundle.calibration
    review = found.review_threshold
    try:
        overruled = found.by_hand(
            recipe.threshold,
            # Where all that was to be reviewed fails now, nothing is left of the band.
            review if review is not None and review < recipe.threshold else None,
            calibration_id=f"{found.calibration_id}+rig",
        )
    except ValueError as error:  # pydantic's ValidationError is one
        raise CalibrationError(
            f"recipe {name}: its threshold of {recipe.threshold:g} does not go with the calibration of "
            f"{bundle.path}: {error}"
        ) from error
    return replace(bundle, calibration=overruled)


def _try_golden(bundle: Bundle, runner: Runner) -> None:
    for path in bundle.golden_files()[:1]:
        result = run_sample(bundle, runner, path)
        if result.problem is not None:
            raise RecipeUnfit(
                f"{bundle.path}: golden sample {result.name}: {result.problem}; see `edge-doctor --selftest`"
            )


def _picture_maker(config: PicturesConfig) -> Callable[[Inspection], Sequence[Picture]]:
    return lambda inspection: pictures_of(inspection, config)
