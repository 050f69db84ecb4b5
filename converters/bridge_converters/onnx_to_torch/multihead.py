"""PyTorch's own multi-head attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_torch._table import layer_rule, lowering

_SLOTS = (
    "in_proj_weight",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "in_proj_bias",
    "out_proj.weight",
    "out_proj.bias",
)


@lowering("CausalMask", domain="bridge")
def causal_mask(x: Tensor, *, axis: int) -> Tensor:
    """What hides the keys behind each query, added to scores; an axis of x has both."""
    return nn.Transformer.generate_square_subsequent_mask(x.shape[axis], device=x.device, dtype=x.dtype)


@layer_rule("MultiHeadAttention", domain="bridge")
def multihead_layer(view: NodeView) -> Layer | None:
    """Attention with its projections; the inputs are those of `fuse_multihead_layers`."""
    given = {slot: view.input(index) for index, slot in enumerate(_SLOTS, 3)}
    tensors = {slot: LayerTensor(value) for slot, value in given.items() if value is not None}
    width, causal = view.attr("features"), bool(view.attr("is_causal"))
    options: dict[str, Any] = {
        "dropout": view.attr("dropout"),
        "bias": "in_proj_bias" in tensors,
        "batch_first": bool(view.attr("batch_first")),
    }
    if "k_proj_weight" in tensors:
        options |= {"kdim": view.known_shape(5)[1], "vdim": view.known_shape(6)[1]}
    defaults = {"dropout": 0.0, "bias": True, "batch_first": False, "kdim": width, "vdim": width}
    return Layer(
        "nn.MultiheadAttention",
        (width, view.attr("num_heads")),
        without(options, defaults),
        tensors,
        inputs=(0, 1, 2),
        results=(0, 1),
        keywords={"attn_mask": 3 + len(_SLOTS)} if causal else {},
        call_options={"need_weights": False} | ({"is_causal": True} if causal else {}),
        label=view.attr("label"),
    )
