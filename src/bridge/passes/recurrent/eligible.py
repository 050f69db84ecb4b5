"""Which LSTM, GRU and RNN nodes a target has a layer for."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, is_trained, producer

RECURRENT = ("LSTM", "GRU", "RNN")
STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""The inputs that hold the states before the first step."""

_BIAS, _LENGTHS, _PEEPHOLES = 3, 4, 7
_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}
_ZERO_PRESERVING = (
    "Expand",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Cast",
)


def is_eligible(node: ir.Node, target: Literal["torch", "tf"]) -> bool:
    """Whether a layer of the target computes exactly what a node does, from trained tensors."""
    if node.domain != "" or node.op_type not in RECURRENT:
        return False
    if not all(is_trained(input_of(node, index)) for index in (1, 2)):
        return False
    if not has_no_bias(node) and not is_trained(input_of(node, _BIAS)):
        return False
    if input_of(node, _LENGTHS) is not None or input_of(node, _PEEPHOLES) is not None:
        return False
    if attribute(node, "clip") is not None or attribute(node, "input_forget", 0):
        return False
    before_reset = node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0)
    if target == "torch" and before_reset:
        return False
    given = [state for index in STATES[node.op_type] if (state := input_of(node, index)) is not None]
    if len(given) not in (0, len(STATES[node.op_type])):
        return False
    return activation(node) is not None


def activation(node: ir.Node) -> str | None:
    """The one activation of an RNN (`tanh` or `relu`), the standard one of others; None for any other."""
    names = attribute(node, "activations")
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    standard = _ACTIVATIONS.get(node.op_type, ("tanh",))
    if names is None:
        return "tanh"
    assert isinstance(names, tuple)
    given = tuple(str(name).lower() for name in names)[: len(standard) * directions]
    if given == standard * directions:
        return "tanh"
    return "relu" if node.op_type == "RNN" and set(given) == {"relu"} else None


def has_no_bias(node: ir.Node) -> bool:
    """Whether a node has no bias, or zeros that are not trained."""
    bias = input_of(node, _BIAS)
    if bias is None:
        return True
    array = constant(bias)
    return array is not None and not np.any(array)


def first_states(node: ir.Node) -> list[ir.Value]:
    """The states before the first step, empty where they are zeros."""
    states = [state for index in STATES[node.op_type] if (state := input_of(node, index)) is not None]
    return [] if all(map(is_zeros, states)) else states


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def is_zeros(value: ir.Value | None) -> bool:
    """Whether a value is zero throughout, whatever its shape turns out to be."""
    while True:
        array = constant(value)
        if array is not None:
            return not np.any(array)
        node = producer(value, "ConstantOfShape", *_ZERO_PRESERVING)
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            filled = node.attributes.get("value")
            return filled is None or not np.any(filled.as_tensor().numpy())
        value = node.inputs[0]
