"""PyTorch's recurrent operators as LSTM, GRU and RNN, a cell as one of them over a single step."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset23
from torch.export import ExportedProgram
from torch.onnx._internal.exporter._torchlib.ops.hop import call_op

from bridge.hub.graph import static_shape
from bridge_converters.torch_to_onnx.packed import KINDS, operator_for

op: Any = opset23
"""While the exporter records, onnxscript's operators take and return graph values, unlike their types."""

Translation = Callable[..., Any]

_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
}
_TO_ONNX = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ONNX's gates lie in PyTorch's tensors: i o f c among i f g o, z r h among r z n."""


def translations() -> dict[Callable[..., Any], Translation]:
    """The operators of whole modules (`nn.LSTM`) and of cells (`nn.LSTMCell`)."""
    aten = torch.ops.aten
    return {
        aten.lstm.input: _lstm,
        aten.gru.input: partial(_one_state, *_KINDS["gru"]),
        aten.rnn_tanh.input: partial(_one_state, *_KINDS["rnn_tanh"]),
        aten.rnn_relu.input: partial(_one_state, *_KINDS["rnn_relu"]),
        **{operator_for(kind): partial(_packed, *_KINDS[kind]) for kind in KINDS},
        aten.lstm_cell.default: _lstm_cell,
        aten.gru_cell.default: partial(_cell, *_KINDS["gru"]),
        aten.rnn_tanh_cell.default: partial(_cell, *_KINDS["rnn_tanh"]),
        aten.rnn_relu_cell.default: partial(_cell, *_KINDS["rnn_relu"]),
    }


def remarks(program: ExportedProgram) -> list[str]:
    """What the user should know about a program's recurrent modules."""
    names = {
        str(spec.target).rpartition(".")[0]
        for spec in program.graph_signature.input_specs
        if re.search(r"(^|\.)weight_hr_l\d+(_reverse)?$", str(spec.target))
    }
    return [
        f"LSTM at {name or 'the root'} is a composed loop because it has a projection (proj_size), "
        "which neither ONNX nor Keras has a layer for"
        for name in sorted(names)
    ]


def _lstm(
    input: ir.Value,
    hx: Sequence[ir.Value],
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[ir.Value, ...]:
    return _stack("LSTM", {}, input, hx, params, has_biases, num_layers, dropout, bidirectional, batch_first)


def _one_state(
    op_type: str,
    attributes: dict[str, Any],
    input: ir.Value,
    hx: ir.Value,
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[ir.Value, ...]:
    return _stack(
        op_type, attributes, input, [hx], params, has_biases, num_layers, dropout, bidirectional, batch_first
    )


def _packed(
    op_type: str,
    attributes: dict[str, Any],
    input: ir.Value,
    lengths: ir.Value,
    states: Sequence[ir.Value],
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
) -> tuple[ir.Value, ...]:
    """The same over sequences of several lengths."""
    ends = op.Cast(lengths, to=ir.DataType.INT32)
    return _stack(
        op_type,
        attributes,
        input,
        states,
        params,
        has_biases,
        num_layers,
        dropout,
        bidirectional,
        batch_first=False,
        lengths=ends,
    )


def _stack(
    op_type: str,
    attributes: dict[str, Any],
    x: ir.Value,
    first: Sequence[ir.Value],
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
    lengths: ir.Value | None = None,
) -> tuple[ir.Value, ...]:
    """All layers of a module: the sequences of the last, and the last states of each layer and direction.

    Between layers the inactive dropout stays, with its ratio.
    """
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    projected = each == (5 if has_biases else 3)
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    last: list[list[ir.Value]] = []
    for layer in range(num_layers):
        rows = range(layer * directions, (layer + 1) * directions)
        weights = [params[row * each : (row + 1) * each] for row in rows]
        if projected:
            given = [[_row(state, row) for state in first] for row in rows]
            x, *states = _projected(x, given, weights)
        else:
            begin = [
                op.Slice(state, [rows.start], [rows.stop], [0])
                if len(rows) < num_layers * directions
                else state
                for state in first
            ]
            y, *states = _layer(op_type, attributes, x, begin, weights, lengths)
            x = op.Squeeze(y, [1]) if directions == 1 else _side_by_side(y)
        last.append(states)
        if dropout > 0 and layer < num_layers - 1:
            x, _ = op.Dropout(x, op.Constant(value_float=dropout))
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    if num_layers == 1:
        return (x, *last[0])
    return (x, *(op.Concat(*states, axis=0) for states in zip(*last, strict=True)))


def _side_by_side(y: ir.Value) -> ir.Value:
    """(steps, directions, batch, hidden) as (steps, batch, directions * hidden)."""
    joined: ir.Value = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1])
    return joined


def _row(state: ir.Value, row: int) -> ir.Value:
    vector: ir.Value = op.Squeeze(op.Slice(state, [row], [row + 1], [0]), [0])
    return vector


def _layer(
    op_type: str,
    attributes: dict[str, Any],
    x: ir.Value,
    first: Sequence[ir.Value],
    weights: Sequence[Sequence[ir.Value]],
    lengths: ir.Value | None = None,
) -> Sequence[ir.Value]:
    """One ONNX node; `weights` are w_ih, w_hh and perhaps b_ih, b_hh of each direction."""
    order = _TO_ONNX[op_type]
    directions = len(weights)
    matrices = [
        _joined([op.Unsqueeze(_gates(each[index], order), [0]) for each in weights]) for index in (0, 1)
    ]
    biases = None
    if len(weights[0]) > 2:
        biases = _joined(
            [
                op.Unsqueeze(op.Concat(_gates(each[2], order), _gates(each[3], order), axis=0), [0])
                for each in weights
            ]
        )
    if "activations" in attributes:
        attributes = attributes | {"activations": attributes["activations"] * directions}
    rows = static_shape(weights[0][1])
    assert rows is not None
    return call_op(
        op_type,
        x,
        *matrices,
        biases,
        lengths,
        *first,
        _num_outputs=1 + len(first),
        direction="bidirectional" if directions == 2 else "forward",
        hidden_size=rows[0] // len(order),
        **attributes,
    )


def _joined(parts: Sequence[ir.Value]) -> ir.Value:
    joined: ir.Value = parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)
    return joined


def _gates(tensor: ir.Value, order: Sequence[int]) -> ir.Value:
    """The rows of a tensor with the gates in ONNX's order."""
    if len(order) == 1:
        return tensor
    parts = op.Split(tensor, axis=0, num_outputs=len(order))
    ordered: ir.Value = op.Concat(*(parts[index] for index in order), axis=0)
    return ordered


def _lstm_cell(
    input: ir.Value,
    hx: Sequence[ir.Value],
    w_ih: ir.Value,
    w_hh: ir.Value,
    b_ih: ir.Value | None = None,
    b_hh: ir.Value | None = None,
) -> tuple[ir.Value, ...]:
    return _step("LSTM", {}, input, hx, w_ih, w_hh, b_ih, b_hh)


def _cell(
    op_type: str,
    attributes: dict[str, Any],
    input: ir.Value,
    hx: ir.Value,
    w_ih: ir.Value,
    w_hh: ir.Value,
    b_ih: ir.Value | None = None,
    b_hh: ir.Value | None = None,
) -> ir.Value:
    return _step(op_type, attributes, input, [hx], w_ih, w_hh, b_ih, b_hh)[0]


def _step(
    op_type: str,
    attributes: dict[str, Any],
    x: ir.Value,
    states: Sequence[ir.Value],
    *weights: ir.Value | None,
) -> tuple[ir.Value, ...]:
    """The states (batch, hidden) after one step on x (batch, features)."""
    given = [each for each in weights if each is not None]
    first = [op.Unsqueeze(state, [0]) for state in states]
    _, *last = _layer(op_type, attributes, op.Unsqueeze(x, [0]), first, [given])
    return tuple(op.Squeeze(each, [0]) for each in last)


def _projected(
    x: ir.Value, first: Sequence[Sequence[ir.Value]], weights: Sequence[Sequence[ir.Value]]
) -> tuple[ir.Value, ...]:
    """An LSTM whose hidden state is a projection, which ONNX's lacks, as a Scan over x (steps, ...).

    h = w_hr (o * tanh(c)); Sak, Senior and Beaufays, "Long Short-Term Memory Based Recurrent Neural Network
    Architectures for Large Vocabulary Speech Recognition" (arXiv 1402.1128).
    """
    sequences, hidden, cells = [], [], []
    for direction, (states, tensors) in enumerate(zip(first, weights, strict=True)):
        w_ih, w_hh, *biases, w_hr = tensors
        inputs = op.MatMul(x, op.Transpose(w_ih, perm=[1, 0]))
        for bias in biases:
            inputs = op.Add(inputs, bias)
        body = _projected_body(w_hh, w_hr)
        h, c, y = call_op(
            "Scan",
            *states,
            inputs,
            _num_outputs=3,
            body=body,
            num_scan_inputs=1,
            scan_input_directions=[direction],
            scan_output_directions=[direction],
        )
        sequences.append(y)
        hidden.append(op.Unsqueeze(h, [0]))
        cells.append(op.Unsqueeze(c, [0]))
    y = sequences[0] if len(sequences) == 1 else op.Concat(*sequences, axis=-1)
    return y, _joined(hidden), _joined(cells)


def _projected_body(w_hh: ir.Value, w_hr: ir.Value) -> ir.Graph:
    """One step on projected inputs: the next h and c, and h once more."""
    kind = ir.TensorType(w_hr.dtype)  # type: ignore[arg-type]
    h, c, x = (ir.Value(name=f"{name}_step", type=kind) for name in ("h", "c", "x"))
    nodes: list[ir.Node] = []

    def add(op_type: str, *values: ir.Value, count: int = 1, **attributes: Any) -> Any:
        node = ir.node(op_type, values, attributes, num_outputs=count)
        nodes.append(node)
        for output in node.outputs:
            output.type = kind
        return node.outputs if count > 1 else node.outputs[0]

    past = add("MatMul", h, add("Transpose", w_hh, perm=[1, 0]))
    i, f, g, o = add("Split", add("Add", x, past), count=4, axis=-1, num_outputs=4)
    kept = add("Mul", add("Sigmoid", f), c)
    new_c = add("Add", kept, add("Mul", add("Sigmoid", i), add("Tanh", g)))
    wide = add("Mul", add("Sigmoid", o), add("Tanh", new_c))
    new_h = add("MatMul", wide, add("Transpose", w_hr, perm=[1, 0]))
    outputs = [new_h, new_c, add("Identity", new_h)]
    return ir.Graph([h, c, x], outputs, nodes=nodes, name="lstm_with_projection")
