"""What an engine is built with, beside its graph."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BuildOptions"]


class BuildOptions(BaseModel):
    """The options that change what comes out of a build, so each is part of the engine's key.

    `workspace_mb` (MiB) is the most scratch memory that a layer's kernel may take; `optimization_level` is
    TensorRT's, 0 (quick to build) to 5 (tries all); `dla_core` puts the layers that it can run on that
    core of the Deep Learning Accelerator, and `allow_gpu_fallback` lets the GPU run the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace_mb: int = Field(default=1024, ge=16, le=1_048_576)
    optimization_level: int = Field(default=3, ge=0, le=5)
    dla_core: int | None = Field(default=None, ge=0, le=7)
    allow_gpu_fallback: bool = True
