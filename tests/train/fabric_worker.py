"""What torchrun starts for test_fabric: one worker, which says what it did."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

from edge.errors import EdgeError
from tests.small_run import TINY, NoBars
from train.datasets import open_dataset
from train.loop.checkpoints import weights_of
from train.loop.workers import Workers
from train.methods import MsdModel
from train.training import train_run
from train.views import FeatureCache


def main(what: str, source: Path, folder: Path) -> None:
    with Workers() as workers:
        work(workers, what, source, folder)


def work(workers: Workers, what: str, source: Path, folder: Path) -> None:
    lot = folder / "lot"
    with workers.together():
        if workers.is_first:
            shutil.copytree(source, lot)
    data = open_dataset(lot, "captures", None, 0.34)
    out = folder / "run"
    said: dict[str, object] = {"rank": workers.rank}
    if what == "broken":
        victim = data.train[1].rgb_path  # the second worker's
        said["broken"] = victim.name
        with workers.together():
            if workers.is_first:
                victim.write_bytes(victim.read_bytes()[:2000])

    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(out)):
            mode = str(arguments[1])
            if any(letter in mode for letter in "wxa"):
                opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    fitted: list[MsdModel] = []
    fit = MsdModel.fit

    def remembered(model: MsdModel, *arguments: object) -> object:
        fitted.append(model)
        return fit(model, *arguments)  # type: ignore[arg-type]

    MsdModel.fit = remembered  # type: ignore[method-assign,assignment]
    try:
        train_run(
            data, TINY, out, cache=FeatureCache(None), progress=NoBars(), note={}, workers=workers,
            checkpoint_steps=5,
        )  # fmt: skip
        save_file(weights_of(fitted[0]), folder / f"weights-{workers.rank}.safetensors")
    except EdgeError as error:
        said["error"] = str(error)
    said["writes"] = bool(opened)
    (folder / f"said-{workers.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
