"""Promise a false-reject rate on simulated plates, and count what is rejected on that rig and on others.

python docs/examples/another_day.py edge/demo/bundle
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from edge.bundle import load_bundle
from edge.calibrating.fitting import Asked, fit
from edge.calibrating.scores import KnownParts, ScoredPart
from edge.calibrating.tradeoff import measured_rate
from edge.inspector import Inspector
from edge.runtime import runner_for
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import Appearance, RigScene

ALPHA, DELTA = 0.02, 0.05
PARTS = 149  # what that promise takes
OTHERS = {
    "the same rig, later": (41, PARTS, Appearance()),
    "another rig (tilt, distance, tray, lamp)": (42, 0, Appearance()),
    "that rig with 15 % less light": (41, 400, Appearance(light=(0.85, 0.85, 0.85))),
    "that rig with warmer light": (41, 800, Appearance(light=(1.05, 1.0, 0.85))),
}


def main(bundle: Path) -> None:
    """A line of the table in docs/calibration.md for each rig."""
    loaded = load_bundle(bundle)
    with runner_for(loaded) as runner:
        inspector = Inspector(replace(loaded, calibration=None), runner)
        known = tuple(
            ScoredPart(str(number), score)
            for number, score in enumerate(islice(scores(inspector, 41, 0, Appearance()), PARTS))
        )
        found = fit(KnownParts(known), Asked(ALPHA, DELTA))
        sys.stdout.write(f"{found.sentence}; threshold {found.threshold:.4g}\n")
        for name, (seed, first, appearance) in OTHERS.items():
            later = list(islice(scores(inspector, seed, first, appearance), 100))
            rate = measured_rate(sum(score > found.threshold for score in later), len(later))
            sys.stdout.write(f"| {name} | {rate.count} of {rate.of} | {rate.low:.1%} to {rate.high:.1%} |\n")
            sys.stdout.flush()


def scores(inspector: Inspector, seed: int, first: int, appearance: Appearance) -> Iterator[float]:
    """The scores of a rig's good plates from its part `first` on, those that are judged."""
    scene = RigScene("plate", seed, defective_share=0.0, appearance=appearance)
    for number in count(first):
        shot = scene.shot(number)
        if shot is None:
            return
        score = inspector.inspect(frame_from_shot(scene, number, shot)).score
        if score is not None:
            yield score


if __name__ == "__main__":
    main(Path(sys.argv[1]))
