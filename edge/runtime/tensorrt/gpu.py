"""What a GPU is, as far as an engine that was built on it cares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GpuIdentity"]


class GpuIdentity(BaseModel):
    """One GPU and the software under it: an engine runs where it was built, and nowhere else.

    `name` as CUDA gives it ("Orin"), `sm` its compute capability ("8.7"), `driver` the version of its
    driver or of the CUDA that the driver knows ("12.6"), `platform` the release of JetPack or L4T
    ("R36.4.0"); the last two are None where they can't be found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    sm: str = Field(pattern=r"^\d+\.\d+$")
    driver: str | None = None
    platform: str | None = None
