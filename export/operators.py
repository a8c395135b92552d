"""What TensorRT reads of ONNX, as a table: `operators.yaml`."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.strict_yaml import load_strict_yaml

__all__ = ["OperatorTable", "OperatorUse", "operator_table"]

FILE = Path(__file__).with_name("operators.yaml")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OperatorUse(_Frozen):
    """How an operator may be used: data types of its inputs, and which of them must be constant."""

    types: str | tuple[str, ...]
    constant: tuple[int, ...] = ()
    since: str | None = None


class OperatorTable(_Frozen):
    """Operators that each TensorRT we build with reads, and those refused: why, and what instead."""

    opset: tuple[int, int]
    ir_version: int = Field(ge=1)
    types: dict[str, tuple[str, ...]]
    operators: dict[str, OperatorUse]
    refused: dict[str, tuple[str, str]]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        unknown = {
            use.types for use in self.operators.values() if isinstance(use.types, str)
        } - self.types.keys()
        twice = self.operators.keys() & self.refused.keys()
        if unknown or twice:
            raise ValueError(f"groups of types that are not there: {unknown}; read and refused: {twice}")
        return self

    def types_of(self, operator: str) -> tuple[str, ...]:
        """The data types (NumPy's names) of an operator that the table has."""
        types = self.operators[operator].types
        return self.types[types] if isinstance(types, str) else types


@functools.cache
def operator_table() -> OperatorTable:
    """The table that ships."""
    return load_strict_yaml(FILE, OperatorTable)
