"""The student: a plain convolutional network that imitates the teacher (AST, section 3.3)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.teacher import POSITION_CHANNELS, positional_encoding

__all__ = ["Student", "StudentConfig"]


class StudentConfig(BaseModel):
    """Width and number of residual blocks; the paper's are 1024 and 4."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=128, ge=1)
    blocks: int = Field(default=4, ge=0)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


class Student(nn.Module):
    """(N, channels, cells, cells) → the same shape; sees the position as 32 channels beside the features."""

    position: Tensor

    def __init__(self, config: StudentConfig, channels: int, cells: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("position", positional_encoding(cells)[None], persistent=False)  # (1, 32, m, m)
        self.first = nn.Conv2d(channels + POSITION_CHANNELS, config.hidden, 3, padding=1)
        self.blocks = nn.Sequential(*(_ResidualBlock(config.hidden) for _ in range(config.blocks)))
        self.last = nn.Conv2d(config.hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x, self.position.expand(x.shape[0], -1, -1, -1)], dim=1)
        hidden = self.blocks(nn.functional.leaky_relu(self.first(seen)))
        y: Tensor = self.last(hidden)
        return y
