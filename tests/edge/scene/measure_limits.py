"""How far the scene may drift before verdicts go bad: the demo's bundle on a simulated rig that drifts.

    python tests/edge/scene/measure_limits.py [PARTS [PATTERN]]

One row per drift whose name PATTERN matches: I-AUROC over as many good as bad parts, and the share of good
parts above the bundle's threshold. The defaults of `scene.limits` rest on this table (docs/scene.md).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from edge.bundle import load_bundle
from edge.demo.rig import packaged_bundle
from edge.frame import Frame
from edge.inspector import Inspector
from edge.runtime import runner_for
from edge.simulation import Appearance, RigScene
from edge.simulation.noise import DepthNoise

SEED = 7  # no rig of this seed was trained on
AS_LEARNT = Appearance(lean_deg=(0.5, -0.5))
POOR = DepthNoise(holes=3)
Rig = tuple[Appearance, DepthNoise]


def rigs() -> Iterator[tuple[str, Rig]]:
    """Each drift by its name, from the rig at set-up on."""
    yield "none", (AS_LEARNT, DepthNoise())
    for lean in (1.0, 2.0, 3.0, 4.0, 6.0):
        yield f"tilt {lean:g}°", (replace(AS_LEARNT, lean_deg=(0.5 + lean, -0.5)), DepthNoise())
    for share in (-0.06, -0.03, 0.03, 0.06, 0.12):
        yield f"distance {share:+.0%}", (replace(AS_LEARNT, distance_m=0.24 * (1 + share)), DepthNoise())
    for light in (0.5, 0.7, 0.8, 0.9, 1.2, 1.3, 1.5, 2.0):
        yield f"light ×{light:g}", (replace(AS_LEARNT, light=(light, light, light)), DepthNoise())
    for red in (0.8, 0.9, 0.95, 1.05, 1.1, 1.2):
        yield f"red ×{red:g}", (replace(AS_LEARNT, light=(red, 1.0, 1.0)), DepthNoise())
    for times in (1.5, 2.0, 3.0):
        yield f"depth noise ×{times:g}", (AS_LEARNT, DepthNoise(sigma_disparity_px=0.08 * times))
    for contrast in (0.03, 0.02, 0.0):
        plain = replace(AS_LEARNT, tray_contrast=contrast)
        fill = (RigScene("plate", SEED, appearance=plain, depth_noise=POOR).tray(0).depth_m > 0).mean()
        yield f"fill {fill:.0%}", (plain, POOR)


def scores_of(inspector: Inspector, rig: Rig, bad: bool, parts: int) -> list[float | None]:
    """The score of each part; None where it got none."""
    scene = RigScene("plate", SEED, defective_share=float(bad), appearance=rig[0], depth_noise=rig[1])
    found = []
    for index in range(parts):
        shot = scene.shot(index + 1000 * bad)
        if shot is None:
            continue
        frame = Frame(
            rgb=shot.rgb,
            depth_m=shot.depth_m,
            depth_unit_m=scene.depth_unit_m,
            intrinsics=scene.intrinsics,
            captured_ns=0,
            captured_utc=datetime.now(timezone.utc),
            seq=index,
            source="simulated",
        )
        found.append(inspector.inspect(frame).score)
    return found


def main() -> None:
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    bundle = load_bundle(packaged_bundle())
    if bundle.calibration is None:
        raise SystemExit("the demo's bundle has no calibration")
    inspector = Inspector(bundle, runner_for(bundle))
    console, table = Console(), Table("drift", "I-AUROC", "good rejected", "bad passed", "no score")
    for name, rig in rigs():
        if not re.search(sys.argv[2] if len(sys.argv) > 2 else "", name):
            continue
        good, bad = (scores_of(inspector, rig, kind, parts) for kind in (False, True))
        known = [(score, 0) for score in good if score is not None]
        known += [(score, 1) for score in bad if score is not None]
        scores, labels = [score for score, _ in known], [label for _, label in known]
        limit = bundle.calibration.threshold
        above = [sum(s is not None and s > limit for s in kind) / parts for kind in (good, bad)]
        auroc = f"{roc_auc_score(labels, scores):.3f}" if len(set(labels)) == 2 else "-"
        row = (name, auroc, f"{above[0]:.0%}", f"{1 - above[1]:.0%}", str(2 * parts - len(known)))
        console.log(*row)
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
