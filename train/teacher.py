"""The teacher: a conditional normalising flow over features and depth (AST, Rudolph et al., WACV 2023)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import GLOWCouplingBlock, PermuteRandom
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.reduction import Reduction, reduced

__all__ = ["Teacher", "TeacherConfig", "masked_nll", "positional_encoding"]

POSITION_CHANNELS = 32
_OUTPUT_CLAMP = 1e6
_DEFAULT = Reduction()


class TeacherConfig(BaseModel):
    """Shape of the flow: one coupling block per entry of `kernels`, subnets with `hidden` channels.

    The paper's: hidden 64, kernels 3, 3, 3, 5, clamp 1.9 (AST, section 4.3 and the authors' code).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=64, ge=1)
    kernels: tuple[int, ...] = Field(default=(3, 3, 3, 5), min_length=1)
    clamp: float = Field(default=1.9, gt=0)


def positional_encoding(cells: int, channels: int = POSITION_CHANNELS) -> Tensor:
    """Sines and cosines of x (first half of the channels) and of y; (channels, cells, cells), base 1e4."""
    half = channels // 2
    frequency = torch.exp(torch.arange(0, half, 2).float() * -(np.log(1e4) / half))  # (half / 2,)
    phase = torch.arange(cells).float()[:, None] * frequency  # (cells, half / 2)
    waves = torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1).T  # (half, cells)
    along_x = waves[:, None, :].expand(half, cells, cells)
    along_y = waves[:, :, None].expand(half, cells, cells)
    return torch.cat([along_x, along_y]).contiguous()


class _Subnet(nn.Module):
    """conv → ReLU → conv, replicate padding, times a learnt scalar that starts at 0 (the identity)."""

    def __init__(self, channels_in: int, channels_out: int, hidden: int, kernel: int) -> None:
        super().__init__()
        pad = kernel // 2
        self.first = nn.Conv2d(channels_in, hidden, kernel, padding=pad, padding_mode="replicate")
        self.second = nn.Conv2d(hidden, channels_out, kernel, padding=pad, padding_mode="replicate")
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(x))) * self.gamma
        return y


class _CouplingPerCell(GLOWCouplingBlock):  # type: ignore[misc]  # FrEIA has no types
    """FrEIA's GLOW coupling, whose log-determinant keeps the cells apart, so that a mask can weigh them.

    The stock block sums log|det J| over the image: (N,). Here it is (N, H, W), summed over channels only.
    """

    def _coupling1(self, x1: Tensor, u2: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        return self._affine(x1, self.subnet2(u2), self.split_len1, rev)

    def _coupling2(self, x2: Tensor, u1: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        return self._affine(x2, self.subnet1(u1), self.split_len2, rev)

    def _affine(self, x: Tensor, coefficients: Tensor, split: int, rev: bool) -> tuple[Tensor, Tensor]:
        log_scale = self.clamp * self.f_clamp(coefficients[:, :split])
        shift = coefficients[:, split:]
        per_cell = log_scale.sum(dim=1)  # (N, H, W)
        if rev:
            return (x - shift) * torch.exp(-log_scale), -per_cell
        return torch.exp(log_scale) * x + shift, per_cell


class Teacher(nn.Module):
    """A bijection of (N, channels, cells, cells) onto a standard normal, conditioned on the position.

    `forward(x)` gives the latent z of the shape of x; `forward_with_jacobian(x)` also log|det J| of each
    cell, (N, cells, cells); `inverse(z)` gives x back: `allclose(inverse(forward(x)), x)`.
    """

    position: Tensor

    def __init__(self, config: TeacherConfig, channels: int, cells: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("position", positional_encoding(cells)[None], persistent=False)  # (1, 32, m, m)
        condition = (POSITION_CHANNELS, cells, cells)
        clamp = config.clamp
        self.flow = SequenceINN(channels, cells, cells)
        for number, kernel in enumerate(config.kernels):
            self._append_permutation(seed=number)
            self.flow.append(
                _CouplingPerCell,
                cond=0,
                cond_shape=condition,
                subnet_constructor=_subnet_constructor(config.hidden, kernel),
                clamp=clamp,
                clamp_activation=lambda s: 0.636 * torch.atan(s / clamp),
            )

    def _append_permutation(self, seed: int) -> None:
        state = np.random.get_state()  # FrEIA reseeds numpy's global generator: put it back
        try:
            self.flow.append(PermuteRandom, seed=seed)
        finally:
            np.random.set_state(state)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_jacobian(x)[0]

    def forward_with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.flow(x, c=[self._condition(x)])
        return torch.clamp(z, -_OUTPUT_CLAMP, _OUTPUT_CLAMP), log_det

    def inverse(self, z: Tensor) -> Tensor:
        x: Tensor = self.flow(z, c=[self._condition(z)], rev=True)[0]
        return x

    def _condition(self, x: Tensor) -> Tensor:
        return self.position.expand(x.shape[0], -1, -1, -1)


def _subnet_constructor(hidden: int, kernel: int) -> Callable[[int, int], nn.Module]:
    return lambda channels_in, channels_out: _Subnet(channels_in, channels_out, hidden, kernel)


def masked_nll(z: Tensor, log_det: Tensor, mask: Tensor, reduction: Reduction = _DEFAULT) -> Tensor:
    """Negative log-likelihood per cell under a standard normal, masked; a scalar.

    `z` (N, C, m, m), `log_det` (N, m, m), `mask` (N, 1, m, m) in 0…1. The loss of a cell is
    m·(½Σ_c z² − log|det J|); AST takes its mean over all cells and the sum over channels.
    """
    per_cell = 0.5 * z.square().sum(dim=1, keepdim=True) - log_det[:, None]  # (N, 1, m, m)
    return reduced(per_cell, mask, z.shape[1], reduction)
