"""What TensorRT tells of a build becomes one number that never falls, and nothing it calls raises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.runtime.tensorrt.progress import BuildStep, Watch

names = st.sampled_from(["Building", "Cloning", "Timing", "Timing 2"])
calls = st.lists(
    st.one_of(
        st.tuples(st.just("start"), names, st.none() | names, st.integers(-1, 5)),
        st.tuples(st.just("step"), names, st.integers(0, 9)),
        st.tuples(st.just("finish"), names),
    )
)


@settings(deadline=None)
@given(calls=calls)
def test_whatever_is_told_the_fraction_never_falls_and_ends_at_one(calls: list[tuple[object, ...]]) -> None:
    steps: list[BuildStep] = []
    watch = Watch("a.onnx", steps.append, None)
    for what, *arguments in calls:
        if what == "start":
            watch.phase_start(*arguments)  # type: ignore[arg-type]  # drawn to fit
        elif what == "step":
            assert watch.step_complete(*arguments)  # type: ignore[arg-type]  # drawn to fit
        else:
            watch.phase_finish(*arguments)  # type: ignore[arg-type]  # drawn to fit
    watch.finish()
    fractions = [step.fraction for step in steps]
    assert len(steps) == len(calls) + 1
    assert fractions == sorted(fractions)
    assert min(fractions) >= 0
    assert fractions[-1] == 1


def test_inner_phases_are_parts_of_one_step() -> None:
    steps: list[BuildStep] = []
    watch = Watch("a.onnx", steps.append, None)
    watch.phase_start("Building", None, 4)
    watch.step_complete("Building", 0)
    watch.phase_start("Timing", "Building", 2)
    watch.step_complete("Timing", 0)
    assert steps[-1] == BuildStep("a.onnx", 1 / 4 + 1 / 8, "Timing")
    watch.phase_finish("Timing")
    watch.step_complete("Building", 1)
    assert steps[-1].fraction == 2 / 4


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_progress_raises_is_kept_and_ends_the_build(error: BaseException) -> None:
    def progress(step: BuildStep) -> None:
        raise error

    watch = Watch("a.onnx", progress, None)
    watch.phase_start("Building", None, 2)
    assert watch.failure is error
    assert watch.step_complete("Building", 0) is False


def test_what_cancelled_raises_ends_the_build_too() -> None:
    def cancelled() -> bool:
        raise OSError("no such flag")

    watch = Watch("a.onnx", None, cancelled)
    assert watch.step_complete("Building", 0) is False
    assert isinstance(watch.failure, OSError)


def test_threads_are_told_apart_and_none_is_lost() -> None:
    steps: list[BuildStep] = []
    watch = Watch("a.onnx", steps.append, None)
    watch.phase_start("Building", None, 1)

    def phase(number: int) -> None:
        name = f"Timing {number}"
        watch.phase_start(name, "Building", 50)
        for step in range(50):
            watch.step_complete(name, step)
        watch.phase_finish(name)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(phase, range(8)))
    assert len(steps) == 1 + 8 * 52
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
