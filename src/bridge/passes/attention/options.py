"""What an Attention node asks for beyond scaled dot products."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import attribute

_USUAL = frozenset({"is_causal", "scale"})
_DEFAULTS = {
    "left_window_size": -1,
    "qk_matmul_output_mode": 0,
    "right_window_size": -1,
    "softcap": 0.0,
    "softmax_precision": 0,
}


def unusual_options(node: ir.Node) -> frozenset[str]:
    """The attributes of an Attention other than `is_causal` and `scale` that are not at their defaults.

    An attribute that is not known here is among them, so that nothing drops one of a newer opset.
    """
    return frozenset(
        name
        for name in node.attributes
        if name not in _USUAL
        and (name not in _DEFAULTS or attribute(node, name) not in (None, _DEFAULTS[name]))
    )
