"""Sources that bridge converts: small members of families of `timm`."""

from __future__ import annotations

from typing import Any

from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators
from torch import nn

from scripts.proof.pairs.torch_models.registry import torch_model


def _timm() -> Any:
    """The package; it imports torchvision, which may lack its operators. Attention is written out."""
    declare_missing_operators()
    import timm

    timm.layers.set_fused_attn(False)
    return timm


def _created(name: str, **options: Any) -> nn.Module:
    model: nn.Module = _timm().create_model(name, pretrained=False, num_classes=10, **options)
    return model


@torch_model("timm_resnet")
def resnet() -> nn.Module:
    family = _timm().models.resnet
    model: nn.Module = family.ResNet(
        family.BasicBlock, (2, 2, 2, 2), num_classes=10, channels=(8, 16, 24, 32), stem_width=8
    )
    return model


@torch_model("timm_mobilenetv3")
def mobilenetv3() -> nn.Module:
    return _created("mobilenetv3_small_050")


@torch_model("timm_efficientnet")
def efficientnet() -> nn.Module:
    return _created("test_efficientnet")


@torch_model("timm_efficientnet_gn")
def efficientnet_gn() -> nn.Module:
    return _created("test_efficientnet_gn")


@torch_model("timm_convnext")
def convnext() -> nn.Module:
    return _created("test_convnext", ls_init_value=0.5)


@torch_model("timm_nfnet")
def nfnet() -> nn.Module:
    return _created("test_nfnet")


@torch_model("timm_vit")
def vit() -> nn.Module:
    return _created("test_vit", img_size=32)


@torch_model("timm_mixer")
def mixer() -> nn.Module:
    model: nn.Module = _timm().models.mlp_mixer.MlpMixer(
        num_classes=10, img_size=32, patch_size=8, num_blocks=2, embed_dim=32
    )
    nn.init.normal_(model.head.weight, std=0.2)  # a fresh head is zero
    return model
