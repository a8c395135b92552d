"""A data set with fewer good parts, as somebody has it who starts."""

from __future__ import annotations

from dataclasses import replace

from edge.errors import ConfigError
from train.datasets import DataSet
from train.datasets.check import evenly
from train.datasets.dataset import held_out

__all__ = ["with_parts"]


def with_parts(data: DataSet, parts: int | None, held_out_share: float) -> DataSet:
    """The data set with `parts` good parts in all; None leaves it as it is.

    They are taken evenly from all good parts outside the test split, those that the data set holds out itself
    among them, and `held_out_share` of them is held out: whoever has twenty parts calibrates with some of the
    twenty. Raises `ConfigError` where there are not so many, or too few to hold one out.
    """
    if parts is None:
        return data
    there = sorted(data.train + data.validation, key=lambda sample: (sample.source, sample.part_id))
    if parts > len(there):
        raise ConfigError(
            f"{data.name} has {len(there)} good parts beside the test split, --parts asks for {parts}; 'all' "
            "takes what there is"
        )
    train, validation = held_out(evenly(there, parts), held_out_share)
    if not train or not validation:
        raise ConfigError(
            f"{data.name}: of {parts} good parts, held_out_share {held_out_share:g} leaves {len(train)} to "
            f"train on and {len(validation)} to hold out; there must be one of each: ask for more parts"
        )
    return replace(data, train=train, validation=validation)
