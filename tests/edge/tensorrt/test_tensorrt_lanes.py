"""Which stage runs on which stream: for any wiring, everything comes after what it needs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import StageSpec
from edge.runtime.tensorrt.lanes import Step, plan_steps

FRAME = ("image", "z", "mask")


def stage(name: str, takes: list[str], gives: list[str]) -> StageSpec:
    return StageSpec(
        name=name,
        file=f"{name}.onnx",
        precision="fp32",
        inputs={f"in{i}": tensor for i, tensor in enumerate(takes)},
        outputs={f"out{i}": tensor for i, tensor in enumerate(gives)},
    )


@st.composite
def stages(draw: st.DrawFn) -> list[StageSpec]:
    made: list[str] = []
    found = []
    for number in range(draw(st.integers(1, 12))):
        takes = draw(st.lists(st.sampled_from([*FRAME, *made]), min_size=1, max_size=4))
        gives = [f"t{number}_{i}" for i in range(draw(st.integers(1, 2)))]
        found.append(stage(f"s{number}", takes, gives))
        made += gives
    return found


def comes_after(steps: tuple[Step, ...], leave_out: tuple[int, int] | None = None) -> list[set[int]]:
    """For each step, all that is done before it: by its lane's order, by its waits, and by theirs."""
    before: list[set[int]] = []
    for number, step in enumerate(steps):
        waits = [w for w in step.waits if (number, w) != leave_out]
        same_lane = [n for n in range(number) if steps[n].lane == step.lane]
        direct = {*waits, *same_lane[-1:]}
        before.append(direct | {far for near in direct for far in before[near]})
    return before


@settings(max_examples=60, deadline=None)
@given(stages=stages(), lanes=st.integers(1, 5))
def test_every_step_comes_after_all_that_made_its_inputs(stages: list[StageSpec], lanes: int) -> None:
    steps = plan_steps(stages, FRAME, lanes)
    asked = {tensor for one in stages for tensor in one.inputs.values() if tensor in FRAME}
    assert sorted(step.name for step in steps if step.kind == "upload") == sorted(asked)
    assert [step.name for step in steps if step.kind == "stage"] == [one.name for one in stages]
    assert {step.lane for step in steps} == set(range(max(step.lane for step in steps) + 1))
    assert len({step.lane for step in steps}) <= lanes
    by_name = {one.name: one for one in stages}
    makers = {step.name: number for number, step in enumerate(steps) if step.kind == "upload"}
    before = comes_after(steps)
    for number, step in enumerate(steps):
        if step.kind == "stage":
            assert {makers[tensor] for tensor in by_name[step.name].inputs.values()} <= before[number]
            makers |= dict.fromkeys(by_name[step.name].outputs.values(), number)
        assert all(steps[other].lane != step.lane for other in step.waits)
        for other in step.waits:
            assert other not in comes_after(steps, leave_out=(number, other))[number]
    assert [step.awaited for step in steps] == [
        any(number in other.waits for other in steps) for number in range(len(steps))
    ]


def test_teacher_and_student_run_beside_each_other_and_the_distance_waits_for_both() -> None:
    method = [
        stage("backbone", ["image"], ["features"]),
        stage("teacher", ["features", "z"], ["teacher_out"]),
        stage("student", ["features", "z"], ["student_out"]),
        stage("distance", ["teacher_out", "student_out", "mask"], ["anomaly_map"]),
    ]
    assert plan_steps(method, FRAME, 2) == (
        Step("upload", "image", 0),
        Step("stage", "backbone", 0),  # who waits for the upload of z, on the same lane, waits for it too
        Step("upload", "z", 0, awaited=True),
        Step("stage", "teacher", 0, awaited=True),
        Step("stage", "student", 1, waits=(2,)),
        Step("upload", "mask", 1),
        Step("stage", "distance", 1, waits=(3,)),
    )


def test_on_one_stream_nobody_waits() -> None:
    method = [
        stage("a", ["image"], ["t"]),
        stage("b", ["image"], ["u"]),
        stage("c", ["t", "u"], ["anomaly_map"]),
    ]
    assert all(step.lane == 0 and not step.waits for step in plan_steps(method, FRAME, 1))


def test_the_backbone_runs_on_two_pictures_at_once() -> None:
    method = [
        stage("on_image", ["image"], ["a"]),
        stage("on_z", ["z"], ["b"]),
        stage("end", ["a", "b"], ["anomaly_map"]),
    ]
    lanes = {step.name: step.lane for step in plan_steps(method, FRAME, 2)}
    assert lanes["on_image"] != lanes["on_z"]
