"""What a host writes becomes a command that the rig's desk reads, or one that it refuses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.order_messages import ThresholdOrder
from edge.sparkplug.commands import metrics_for, threshold_order
from edge.sparkplug.payload import Value
from tests.edge.sparkplug.scada import running_recipe


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_threshold_arrives_as_it_was_written(threshold: float) -> None:
    running = running_recipe("plate", version=3, review=0.25)
    asked = ThresholdOrder.model_validate_json(threshold_order(threshold, running))
    assert asked.threshold == threshold
    assert (asked.expected_version, asked.recipe, asked.review_threshold) == (3, "plate", 0.25)
    assert asked.issued_by == "sparkplug"


@given(
    st.sampled_from([math.nan, math.inf, -math.inf, None, True, False])
    | st.integers(0, (1 << 64) - 1)
    | st.text()
)
def test_what_is_no_finite_number_is_no_order(value: Value) -> None:
    with pytest.raises(ValidationError, match="threshold") as caught:
        ThresholdOrder.model_validate_json(threshold_order(value, None))
    assert [mistake["loc"] for mistake in caught.value.errors()] == [("threshold",)]


def test_without_a_calibration_its_version_is_0() -> None:
    for running in (None, running_recipe("plate", version=None, review=None)):
        asked = ThresholdOrder.model_validate_json(threshold_order(0.5, running))
        assert (asked.expected_version, asked.review_threshold) == (0, None)


def test_a_rig_of_one_recipe_that_nobody_triggers_has_a_threshold_all_the_same() -> None:
    offered = metrics_for(triggerable=False, several_recipes=False)
    assert [metric.name for metric in offered] == ["Command/Threshold", "Command/Answer"]
