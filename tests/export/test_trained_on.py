"""A bundle says which captures its model has seen."""

from __future__ import annotations

from pathlib import Path

from edge.bundle import load_bundle
from edge.sealed import file_sha256
from edge.trained_on import trained_on
from train.datasets import DataSet


def test_an_exported_bundle_lists_what_it_was_trained_on_and_what_was_held_out(
    bundle_folder: Path, training_data: DataSet
) -> None:
    seen = trained_on(load_bundle(bundle_folder))
    assert seen is not None
    assert set(seen.train) == {file_sha256(sample.rgb_path) for sample in training_data.train}
    assert set(seen.held_out) == {file_sha256(sample.rgb_path) for sample in training_data.validation}
