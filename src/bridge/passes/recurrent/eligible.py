"""Which LSTM, GRU and RNN nodes a target has a layer for, and why not for the others."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, is_trained, producer

RECURRENT = ("LSTM", "GRU", "RNN")
STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""The inputs that hold the states before the first step."""

LENGTHS = 4
_BIAS, _PEEPHOLES = 3, 7
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


def refusal(node: ir.Node, target: Literal["torch", "tf"]) -> str | None:
    """Why no layer of the target computes exactly what a recurrent node does; None if one does.

    The reason completes "is a composed loop because ...".
    """
    names = {"torch": "PyTorch", "tf": "Keras"}
    if not all(is_trained(input_of(node, index)) for index in (1, 2)):
        return "its weights are computed"
    if not has_no_bias(node) and not is_trained(input_of(node, _BIAS)):
        return "its bias is computed"
    if input_of(node, _PEEPHOLES) is not None:
        return f"{names[target]} has no peephole connections"
    if attribute(node, "clip") is not None:
        return f"{names[target]} clips no gates"
    if attribute(node, "input_forget", 0):
        return f"{names[target]} has no coupled input and forget gates"
    before_reset = node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0)
    if target == "torch" and before_reset:
        return "it resets before the product (linear_before_reset 0), and PyTorch's resets after it"
    if len(given_states(node)) not in (0, len(STATES[node.op_type])):
        return "it is given only one of its two states"
    if activation(node) is None:
        return "its activations are not those of the layer"
    return None


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
    states = given_states(node)
    return [] if all(map(is_zeros, states)) else states


def given_states(node: ir.Node) -> list[ir.Value]:
    """The states before the first step as they are given."""
    return [state for index in STATES[node.op_type] if (state := input_of(node, index)) is not None]


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
