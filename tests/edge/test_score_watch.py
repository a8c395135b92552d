from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pytest

from edge.inspection import Outcome
from edge.messages import TriggerKind, Verdict
from edge.score_messages import ScoreHealth
from edge.score_watch import ScoreWatch
from edge.score_watch_config import ScoreWatchConfig
from edge.testing import sample_verdict

THRESHOLD = 13.0
_PASS = sample_verdict().model_copy(update={"threshold": THRESHOLD, "trigger": TriggerKind.PART_PRESENT})


def verdict(scored: float, **changes: object) -> Verdict:
    outcome = Outcome.FAIL if scored > THRESHOLD else Outcome.PASS
    return _PASS.model_copy(update={"score": scored, "outcome": outcome, **changes})


def scores(count: int, seed: int, mean: float = 10.0) -> list[float]:
    """Good parts of a standard deviation of 1, three of which the threshold lies above 10."""
    return [float(score) for score in np.random.default_rng(seed).normal(mean, 1.0, count)]


SET_UP = tuple(scores(60, seed=1))


def watched(
    stream: Iterable[float],
    config: ScoreWatchConfig | None = None,
    good: tuple[float, ...] | None = SET_UP,
    **changes: object,
) -> ScoreHealth:
    watch = ScoreWatch(config or ScoreWatchConfig())
    for score in stream:
        watch.on_verdict(verdict(score, **changes), good)
    health = watch.health()
    assert health is not None
    return health


def test_a_line_that_stays_as_it_was_is_let_be() -> None:
    health = watched(scores(1500, seed=2))
    assert health.state == "watching"
    assert health.reference == "set_up"
    assert health.reference_parts == len(SET_UP)
    assert health.warning is None
    assert health.detail is None
    assert health.tested + health.fails == 1500
    assert max(health.e_value_up, health.e_value_down, health.e_value_fails) < health.e_value_limit
    assert health.median_now == pytest.approx(10.0, abs=0.5)
    assert health.share_above == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("mean", "direction", "mending"), [(11.0, "up", "clean lens"), (9.0, "down", "known")]
)
def test_a_drift_is_warned_of_once_with_what_to_do(
    caplog: pytest.LogCaptureFixture, mean: float, direction: str, mending: str
) -> None:
    with caplog.at_level(logging.WARNING):
        health = watched([*scores(400, seed=3), *scores(300, seed=4, mean=mean)])
    assert health.warning == f"scores_drifted_{direction}"
    assert health.direction == direction
    assert health.warned_for_s is not None
    assert health.detail is not None
    assert mending in health.detail
    (said,) = (record.message for record in caplog.records if record.name.startswith("edge.score"))
    assert said.startswith(f"scores_drifted_{direction}: ")


def test_a_drift_that_was_mended_is_warned_of_no_more() -> None:
    health = watched([*scores(300, 3), *scores(300, 4, mean=11.5), *scores(300, 5)])
    assert health.warning is None
    assert health.e_value_up == health.e_value_limit


def test_defective_parts_are_no_drift() -> None:
    chance = np.random.default_rng(6)
    stream = [14.0 + score if chance.random() < 0.3 else score for score in scores(2000, seed=7)]
    health = watched(stream)
    assert health.fails > 500
    assert health.warning is None
    assert max(health.e_value_up, health.e_value_down, health.e_value_fails) < health.e_value_limit


def test_a_fifth_of_defects_that_are_missed_does_not_make_the_good_parts_drift() -> None:
    chance = np.random.default_rng(6)
    health = watched([12.9 if chance.random() < 0.2 else score for score in scores(2000, seed=7)])
    assert health.share_above == pytest.approx(0.6, abs=0.1)
    assert health.warning is None


def test_a_line_of_which_all_fails_is_said_to_fail_too_much() -> None:
    health = watched([*scores(200, seed=2), *[20.0] * 100])
    assert health.warning == "too_many_fails"
    assert health.direction is None
    assert health.fail_share is not None
    assert health.fail_share > 0.9
    assert health.detail is not None
    assert "max_fail_share 50%" in health.detail


def test_without_scores_of_set_up_the_first_parts_are_the_reference_and_it_says_so() -> None:
    config = ScoreWatchConfig(learn_parts=50)
    for good in (None, SET_UP[:5]):
        health = watched(scores(30, seed=2), config, good)
        assert (health.state, health.reference, health.reference_parts) == ("learning", "first_parts", 30)
        assert health.reference_median is None
        assert health.e_value_up == 1.0
        health = watched([*scores(100, seed=2), *scores(200, seed=3, mean=11.0)], config, good)
        assert (health.state, health.reference, health.reference_parts) == ("watching", "first_parts", 50)
        assert health.warning == "scores_drifted_up"


def test_the_score_that_is_the_threshold_itself_is_not_compared() -> None:
    health = watched(scores(40, seed=2), good=(*SET_UP, THRESHOLD, THRESHOLD))
    assert health.reference_parts == len(SET_UP)
    assert watched([THRESHOLD] * 40).tested == 0


def test_each_model_and_calibration_has_a_state_of_its_own() -> None:
    watch = ScoreWatch(ScoreWatchConfig())
    for score in [*scores(300, seed=3), *scores(200, seed=4, mean=11.5)]:
        watch.on_verdict(verdict(score), SET_UP)
    drifted = watch.health()
    assert drifted is not None
    assert drifted.warning == "scores_drifted_up"
    for changes in ({"calibration_id": "c2"}, {"model_sha256": "1" * 64}, {"threshold": 14.0}):
        watch.on_verdict(verdict(10.0, **changes), SET_UP)
        anew = watch.health()
        assert anew is not None
        assert (anew.tested, anew.warning) == (1, None)
    watch.on_verdict(verdict(11.5), SET_UP)
    back = watch.health()
    assert back is not None
    assert back.tested == drifted.tested + 1
    assert back.warning == "scores_drifted_up"


def test_models_that_are_long_gone_are_forgotten() -> None:
    watch = ScoreWatch(ScoreWatchConfig())
    for number in range(50):
        watch.on_verdict(verdict(10.0, calibration_id=f"c{number}"), SET_UP)
    assert len(watch._streams) == 16


@pytest.mark.parametrize("trigger", [TriggerKind.EVERY_FRAME, TriggerKind.INTERVAL, None])
def test_frames_that_may_show_one_part_many_times_are_not_tested_unless_asked_for(
    trigger: TriggerKind | None,
) -> None:
    stream = [*scores(100, seed=3), *scores(300, seed=4, mean=11.5)]
    health = watched(stream, trigger=trigger)
    assert health.state == "not_tested"
    assert (health.tested, health.e_value_up, health.warning) == (0, 1.0, None)
    assert health.median_now is not None
    assert health.detail is not None
    assert "score_watch.enabled: true" in health.detail
    assert watched(stream, ScoreWatchConfig(enabled=True), trigger=trigger).warning == "scores_drifted_up"


def test_it_can_be_switched_off() -> None:
    watch = ScoreWatch(ScoreWatchConfig(enabled=False))
    watch.on_verdict(verdict(10.0), SET_UP)
    assert watch.health() is None


def test_what_is_neither_pass_nor_fail_says_nothing_of_the_scores() -> None:
    watch = ScoreWatch(ScoreWatchConfig())
    watch.on_verdict(verdict(10.0, outcome=Outcome.NO_DECISION, reason="part_exceeds_view"), SET_UP)
    watch.on_verdict(verdict(10.0, outcome=Outcome.ERROR, score=None), SET_UP)
    assert watch.health() is None


def test_what_a_person_is_to_look_at_was_judged_by_its_score() -> None:
    watch = ScoreWatch(ScoreWatchConfig())
    watch.on_verdict(verdict(0.9 * THRESHOLD, outcome=Outcome.REVIEW), SET_UP)
    health = watch.health()
    assert health is not None
    assert health.tested == 1


def test_the_same_verdicts_always_say_the_same() -> None:
    stream = [round(score) for score in scores(300, seed=8)]  # full of ties
    assert watched(stream) == watched(stream)
