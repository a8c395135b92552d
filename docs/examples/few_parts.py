"""Draw what few good parts give, over all seeds, from one or more folders of edge-benchmark.

python docs/examples/few_parts.py docs/images/few-parts.png OUT [OUT...]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

FIGURES = {"i_auroc": "I-AUROC", "aupro_1": "AUPRO at 1 %"}


def main(picture: Path, folders: list[Path]) -> None:
    """One curve for each method: the mean over seeds, and one standard deviation as a band."""
    found: dict[str, dict[int, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(path for folder in folders for path in folder.glob("results/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))["result"]
        parts = result["train_parts"] + result["held_out_parts"]
        found[result["method"]][parts].append(result["figures"])
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(FIGURES)), FIGURES.items(), strict=True):
        ticks = set()
        for method, by_parts in sorted(found.items()):
            parts = sorted(by_parts)
            if len(parts) < 2:
                continue
            ticks |= set(parts)
            values = [[one[key] for one in by_parts[count]] for count in parts]
            mean, sd = np.array([np.mean(v) for v in values]), np.array([np.std(v, ddof=1) for v in values])
            axes.plot(parts, mean, marker="o", label=f"{method}, {len(values[0])} seeds")
            axes.fill_between(parts, mean - sd, mean + sd, alpha=0.16, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="good parts in all, those held out among them", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
