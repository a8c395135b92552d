"""TensorRT-RTX: the one TensorRT whose builder works where there is no GPU."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.tensorrt_real.parts import reason_against, skip


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The module `tensorrt_rtx`, as the argument `trt` of what builds engines."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        skip(reason_against() or f"{error}; install the extra `dev`")
