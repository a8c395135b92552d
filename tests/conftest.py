"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SAMPLE_VARIABLE = "EDGE_INSPECT_SAMPLE"


@pytest.fixture(scope="session")
def sample_category() -> Path:
    """A category of MVTec 3D-AD (its licence forbids to ship it): cable_gland, or a part of it."""
    named = os.environ.get(SAMPLE_VARIABLE)
    here = Path(__file__).resolve().parents[2] / "shared" / "data" / "mvtec3d_sample" / "cable_gland"
    category = Path(named) if named else here
    if not (category / "calibration").is_dir():
        pytest.skip(f"no sample of MVTec 3D-AD; set {SAMPLE_VARIABLE} to a category's folder")
    return category
