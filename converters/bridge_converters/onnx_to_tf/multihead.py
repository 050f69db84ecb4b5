"""Keras' own multi-head attention."""

from __future__ import annotations

from typing import Any

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_tf._table import layer_rule

_SLOTS = ("query", "key", "value", "attention_output")


@layer_rule("MultiHeadAttention", domain="bridge")
def multihead_layer(view: NodeView) -> Layer | None:
    """Attention with its projections; the inputs are those of `fuse_multihead_layers`."""
    tensors = {}
    for index, slot in enumerate(_SLOTS):
        for offset, name in enumerate(("kernel", "bias")):
            value = view.input(3 + 2 * index + offset)
            if value is not None:
                tensors[f"{slot}.{name}"] = LayerTensor(value)
    options: dict[str, Any] = {
        "value_dim": view.attr("value_dim"),
        "dropout": view.attr("dropout"),
        "use_bias": "query.bias" in tensors,
        "output_shape": view.attr("width"),
    }
    defaults = {
        "value_dim": view.attr("key_dim"),
        "dropout": 0.0,
        "use_bias": True,
        "output_shape": view.attr("features"),
    }
    shapes = [(None, None, view.known_shape(3 + 2 * index)[0]) for index in range(3)]
    same = view.input(1) is view.input(2)
    return Layer(
        "keras.layers.MultiHeadAttention",
        (view.attr("num_heads"), view.attr("key_dim")),
        without(options, defaults),
        tensors,
        inputs=(0, 2),
        build_shape=shapes[0],
        further_build_shapes=(shapes[2],) if same else (shapes[2], shapes[1]),
        keywords={} if same else {"key": 1},
        call_options={"use_causal_mask": True} if view.attr("is_causal") else {},
        label=view.attr("label"),
    )
