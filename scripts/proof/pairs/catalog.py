"""The list of right pairs: two versions of the same model that the verdict must call equivalent.

This module imports no framework. The definitions are in `torch_models` and `tf_models`, in modules
named like the family; for the family "converted" there are sources only, bridge makes the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framework = Literal["torch", "tf"]


@dataclass(frozen=True)
class Input:
    """An input of both versions. A string in `shape` is a dynamic axis; `limit` is the vocabulary's size."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    limit: int = 0


@dataclass(frozen=True)
class Pair:
    """Two versions of a model with equal weights.

    `made` says where the version that is not the source comes from: written by hand like the source, or
    converted from it by bridge. `unstable` is the reason where nothing may be concluded about it; empty
    where the verdict must be "equivalent". `keras` says that the TensorFlow version is a `.keras` file.
    A pair may take its definitions from another one: `definition` is that one's name.
    """

    name: str
    family: str
    source: Framework
    inputs: tuple[Input, ...]
    made: Literal["hand", "converted"] = "hand"
    keras: bool = False
    unstable: str = ""
    definition: str = ""

    @property
    def target(self) -> Framework:
        return "tf" if self.source == "torch" else "torch"

    @property
    def defined_as(self) -> str:
        """The name under which the frameworks' versions are registered."""
        return self.definition or self.name


def _values(*shape: int | str, name: str = "x") -> Input:
    return Input(name, "float32", ("batch", *shape))


def _tokens(length: int | str, limit: int) -> Input:
    return Input("tokens", "int64", ("batch", length), limit)


def _image(channels: int = 3, side: int = 16) -> Input:
    return _values(channels, side, side)


def _image_last(channels: int = 3, side: int = 16) -> Input:
    return _values(side, side, channels)


_HAND = (
    Pair("mlp", "dense", "torch", (_values(12),)),
    Pair("activations", "dense", "tf", (_values(10),)),
    Pair("autoencoder", "dense", "torch", (_values(32),), keras=True),
    Pair("siamese", "dense", "tf", (_values(8, name="left"), _values(8, name="right"))),
    Pair("swiglu_rmsnorm", "dense", "torch", (_values(6, 16),)),
    Pair("lenet", "vision", "tf", (_image_last(1, 28),), keras=True),
    Pair("vgg", "vision", "torch", (_image(),)),
    Pair("resnet_stack", "vision", "torch", (_image(),)),
    Pair("mobilenet_block", "vision", "tf", (_image_last(),), keras=True),
    Pair("squeeze_excite", "vision", "torch", (_image_last(8, 12),)),
    Pair("dilated", "vision", "tf", (_image(),)),
    Pair("transposed_conv", "segmentation", "torch", (_values(24),)),
    Pair("unet", "segmentation", "torch", (_image(),)),
    Pair("resize_shuffle", "segmentation", "torch", (_image(),)),
    Pair("causal_conv1d", "sequence", "tf", (_values(24, 6),)),
    Pair("conv3d", "sequence", "torch", (_values(2, 6, 8, 8),)),
    Pair("group_instance_norm", "normalisation", "torch", (_image(4, 32),)),
    Pair(
        "group_instance_norm_large",
        "normalisation",
        "torch",
        (_image(4, 128),),
        definition="group_instance_norm",
    ),
    Pair("large_bias_norm", "normalisation", "tf", (_values(12),)),
    Pair(
        "variance_cancellation",
        "normalisation",
        "torch",
        (_values(32),),
        unstable="the difference of two large, nearly equal sums",
    ),
    Pair("transformer_block", "attention", "torch", (_values(10, 16),)),
    Pair("attention_pooling", "attention", "tf", (_values("length", 12),)),
    Pair("causal_decoder", "attention", "torch", (_tokens(9, 40),)),
    Pair("einsum_mixer", "attention", "torch", (_values(8, 12),)),
    Pair(
        "embedding_classifier",
        "recurrent",
        "torch",
        (_tokens("length", 50), Input("mask", "float32", ("batch", "length"))),
    ),
    Pair("lstm", "recurrent", "torch", (_values(9, 8),), keras=True),
    Pair("gru", "recurrent", "tf", (_values(7, 8),)),
    Pair("several_outputs", "heads", "torch", (_values(16),)),
    Pair("softmax_heads", "heads", "tf", (_values(14),)),
    Pair("rbf_cosine", "heads", "torch", (_values(10),)),
    Pair("indexing", "heads", "torch", (_values(12, 6),)),
    Pair("deep_plain", "conditioning", "torch", (_values(24),)),
    Pair("exp_sums", "conditioning", "tf", (_values(20),)),
)

_CONVERTED = (
    Pair("timm_resnet", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_mobilenetv3", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_efficientnet", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_convnext", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_vit", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_mixer", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_nfnet", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("timm_efficientnet_gn", "converted", "torch", (_image(3, 32),), "converted"),
    Pair("unet_to_tf", "segmentation", "torch", (_image(),), "converted", definition="unet"),
    Pair(
        "einsum_mixer_to_tf",
        "attention",
        "torch",
        (_values(8, 12),),
        "converted",
        definition="einsum_mixer",
    ),
    Pair("keras_mobilenet", "converted", "tf", (_image_last(3, 32),), "converted", keras=True),
    Pair("keras_efficientnet", "converted", "tf", (_image_last(3, 32),), "converted", keras=True),
    Pair("keras_convnext", "converted", "tf", (_image_last(3, 32),), "converted", keras=True),
    Pair("keras_resnet", "converted", "tf", (_image_last(3, 32),), "converted", keras=True),
    Pair("keras_transformer", "converted", "tf", (_values(8, 16),), "converted", keras=True),
    Pair("lenet_to_torch", "vision", "tf", (_image_last(1, 28),), "converted", True, definition="lenet"),
    Pair(
        "attention_pooling_to_torch",
        "attention",
        "tf",
        (_values("length", 12),),
        "converted",
        definition="attention_pooling",
    ),
    Pair(
        "causal_conv1d_to_torch",
        "sequence",
        "tf",
        (_values(24, 6),),
        "converted",
        definition="causal_conv1d",
    ),
)

PAIRS = {pair.name: pair for pair in (*_HAND, *_CONVERTED)}
"""All right pairs, by name."""
