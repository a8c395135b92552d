"""The empty tray: learnt from frames, refused where it is not one, and kept in a sealed file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import SceneError
from edge.frame import Frame
from edge.scene.tray import LEAST_FRAMES, Tray, learn_tray, read_tray, write_tray
from edge.sealed import read_sealed, seal
from edge.simulation import Appearance
from edge.simulation.noise import DepthNoise
from edge.testing import flat_frame
from tests.edge.scene.scenes import NOW, simulated_frames, simulated_tray


def flat(count: int = 7) -> list[Frame]:
    return [flat_frame(number) for number in range(count)]


@pytest.fixture(scope="module")
def tray() -> Tray:
    return simulated_tray()


def test_a_simulated_rigs_tray_is_learnt_through_the_real_pipeline(tray: Tray) -> None:
    assert (tray.plane.tilt_x_deg, tray.plane.tilt_y_deg) == pytest.approx((0.5, -0.5), abs=0.1)
    assert tray.plane.distance_mm == pytest.approx(240, rel=0.031)  # the seed's own 3 %
    assert 0.4 < tray.plane.noise_mm < 1.0  # 0.67 mm at 0.24 m: what was measured on a D405
    assert 0.9 < tray.fill_share < 1.0  # the strip on the left has no depth
    assert tray.camera == "simulated-plate-7"
    assert (tray.frames, tray.learnt_utc, tray.depth_unit_m) == (5, NOW, 1e-4)
    left, right = (np.mean([row[column] for row in tray.cell_fill]) for column in (0, -1))
    assert left < 0.5 < right


def test_it_is_kept_to_the_last_digit(tray: Tray, tmp_path: Path) -> None:
    write_tray(tray, tmp_path / "tray.yaml")
    assert read_tray(tmp_path / "tray.yaml") == tray
    text, _ = read_sealed(tmp_path / "tray.yaml")
    assert "tilt_x_deg" in text


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(LEAST_FRAMES)))
def test_the_order_of_the_frames_does_not_matter(order: list[int]) -> None:
    frames = [flat_frame(i, depth_m=0.3 + 0.001 * i) for i in range(LEAST_FRAMES)]
    learnt = learn_tray([frames[i] for i in order], now=NOW)
    assert learnt == learn_tray(frames, now=NOW)
    assert learnt.plane.distance_mm == pytest.approx(302, abs=0.01)


def test_a_few_odd_frames_say_nothing() -> None:
    odd = replace(flat_frame(9), rgb=np.full((48, 64, 3), 250, np.uint8))
    assert learn_tray([*flat(5), odd, odd], now=NOW).figures == learn_tray(flat(7), now=NOW).figures


def test_a_part_on_the_tray_is_found_and_placed() -> None:
    frames = [flat_frame(i, part_height_m=0.02) for i in range(7)]
    with pytest.raises(
        SceneError, match=r"stands 20 mm above its plane .* pixel \(3[12], 2[34]\); clear the"
    ):
        learn_tray(frames, now=NOW)


def test_a_hollow_in_the_tray_is_found_too() -> None:
    frames = [flat_frame(i, part_height_m=-0.02) for i in range(7)]
    with pytest.raises(SceneError, match="lies 20 mm below"):
        learn_tray(frames, now=NOW)
    assert learn_tray(frames, now=NOW, part_threshold_m=0.03).frames == 7


def test_a_simulated_part_is_found_through_noise() -> None:
    shown = next(simulated_frames(1, empty=False))
    with pytest.raises(SceneError, match="not empty"):
        learn_tray([shown] * 5, now=NOW)


def test_noise_at_the_far_end_of_the_range_is_no_part() -> None:
    """At 0.45 m one frame strays by 2.4 mm: over a threshold of 4 mm there is always something."""
    rng = np.random.default_rng(3)
    frames = [
        replace(f, depth_m=(f.depth_m + rng.normal(0, 2.4e-3, f.depth_m.shape)).astype(np.float32))
        for f in (flat_frame(i, depth_m=0.45, width_px=320, height_px=240) for i in range(10))
    ]
    assert learn_tray(frames, now=NOW).plane.noise_mm == pytest.approx(2.4, rel=0.1)


def test_too_few_frames() -> None:
    with pytest.raises(SceneError, match="4 frames to learn the tray by; give at least 5"):
        learn_tray(flat(4), now=NOW)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (flat_frame(8, width_px=80), r"frame 8 is 80×48 px .* frame 0 is 64×48 px"),
        (replace(flat_frame(8), source="other"), "frame 8 is of other .* frame 0 of replay"),
        (replace(flat_frame(8), depth_unit_m=0.001), r"depth unit 0\.001 m"),
        (replace(flat_frame(8), stale="it is 3 s old"), "as it is now .it is 3 s old"),
        (replace(flat_frame(8), depth_m=np.zeros((48, 64), np.float32)), "frame 8 of replay: only 0 pixels"),
    ],
)
def test_frames_that_do_not_fit(other: Frame, said: str) -> None:
    with pytest.raises(SceneError, match=said):
        learn_tray([*flat(), other], now=NOW)


def test_too_little_depth() -> None:
    frames = flat()
    holes = frames[0].depth_m.copy()
    holes[6:-6, 6:-6] = 0
    frames = [replace(frame, depth_m=holes) for frame in frames]
    assert (holes > 0).mean() > 0.3
    learn_tray(frames, now=NOW)
    holes[:, 20:] = np.where(np.arange(48)[:, None] % 4 < 3, 0, holes[:, 20:])
    with pytest.raises(SceneError, match=r"of the tray has depth, 30% is the least .* more light"):
        learn_tray([replace(frame, depth_m=holes) for frame in frames], now=NOW)


def test_a_plain_tray_that_the_matcher_gives_up_on() -> None:
    plain = Appearance(tray_contrast=0.0)
    frames = list(simulated_frames(5, plain, DepthNoise(holes=10), empty=True))
    assert np.mean(frames[0].depth_m > 0) < 0.3
    with pytest.raises(SceneError, match="depth"):
        learn_tray(frames, now=NOW)


def test_an_edited_file_is_refused_with_what_to_do(tray: Tray, tmp_path: Path) -> None:
    path = tmp_path / "tray.yaml"
    write_tray(tray, path)
    path.write_text(path.read_text(encoding="utf-8").replace("frames: 5", "frames: 6"), encoding="utf-8")
    with pytest.raises(SceneError, match="edited by hand, or damaged; learn the tray again"):
        read_tray(path)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_one_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("flip") / "tray.yaml"
    write_tray(learn_tray(flat(5), now=NOW), path)
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(SceneError, match="learn the tray again"):
        read_tray(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema_version: 1", "schema_version: 2"),
        ("fill_share", "filled"),
        ("cell_fill:\n", "cell_fill:\n- [0.5]\n"),
        ("noise_mm: ", "noise_mm: .nan #"),
        ("frames: 5", "frames: {"),
    ],
)
def test_what_is_no_tray_of_this_version_is_refused(tray: Tray, tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "tray.yaml"
    write_tray(tray, path)
    text, _ = read_sealed(path)
    assert old in text
    path.write_text(seal(text.replace(old, new, 1)), encoding="utf-8")
    with pytest.raises(SceneError, match="is no tray that this version can read"):
        read_tray(path)


def test_no_file_and_no_folder(tray: Tray, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"tray\.yaml: the tray can't be read .* learn the tray again"):
        read_tray(tmp_path / "tray.yaml")
    with pytest.raises(SceneError, match="can't be written"):
        write_tray(tray, tmp_path / "nowhere" / "tray.yaml")
