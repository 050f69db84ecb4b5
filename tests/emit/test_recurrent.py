"""Recurrent operators with trained tensors: which layers are emitted, and that they compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from bridge.emit import preflight, registry
from bridge.emit.imported import load_emitted
from bridge.emit.registry import TargetName
from bridge.emit.writer import Emitted, emit
from bridge.formats import onnx_reader
from bridge.formats.request import ReadRequest
from bridge.hub import recipe
from bridge.hub.recipe import Array
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors

TARGETS: tuple[TargetName, ...] = ("torch", "tf")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN = 4, 3


class AsPrinted:
    """A formatter that leaves the text as it is printed."""

    def format(self, text: str) -> str:
        return text


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


def recurrence(
    op: str,
    *,
    bias: bool = True,
    states: bool = False,
    lengths: bool = False,
    outputs: tuple[int, ...] = (0, 1, 2),
    form: str = "plain",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one recurrent node with the axes x (steps, batch, features) dynamic.

    `form` says what surrounds it: nothing, `flat` (the directions side by side), `batch first` (that, with
    the batch first on both sides), `squeezed` (the axis of the only direction removed).
    """
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * HIDDEN
    tensors = {
        "rnn.W": floats(directions, rows, FEATURES),
        "rnn.R": floats(directions, rows, HIDDEN),
        "zero": np.array([0]),
        "one": np.array([1]),
        "shape": np.array([0, 0, -1]),
    }
    if bias:
        tensors["rnn.B"] = floats(directions, 2 * rows)
    axes = ["N", "T", FEATURES] if form == "batch first" else ["T", "N", FEATURES]
    inputs = [helper.make_tensor_value_info("x", 1, axes)]
    nodes = []
    if form == "batch first":
        nodes.append(helper.make_node("Transpose", ["x"], ["swapped"], perm=[1, 0, 2]))
    arguments = [
        "swapped" if form == "batch first" else "x", "rnn.W", "rnn.R", "rnn.B" if bias else "",
        "lengths" if lengths else "",
    ]  # fmt: skip
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", 6, ["N"]))
    made = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    if states:
        first = ["h", "c"][: len(made) - 1]
        inputs += [helper.make_tensor_value_info(name, 1, [directions, "N", HIDDEN]) for name in first]
        arguments += first
    given = [name if i in outputs else "" for i, name in enumerate(made)]
    nodes.append(helper.make_node(op, arguments, given, hidden_size=HIDDEN, **attributes))
    results = [name for name in given if name]
    if form in ("flat", "batch first"):
        nodes.append(helper.make_node("Transpose", ["Y"], ["apart"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", ["apart", "shape"], ["flat"]))
        results[0] = "flat"
    if form == "batch first":
        nodes.append(helper.make_node("Transpose", ["flat"], ["last"], perm=[1, 0, 2]))
        results[0] = "last"
    if form == "squeezed":
        for i, name in enumerate(results):
            axis = "one" if name == "Y" else "zero"
            nodes.append(helper.make_node("Squeeze", [name, axis], [f"{name}_squeezed"]))
            results[i] = f"{name}_squeezed"
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "recurrence",
        inputs,
        [helper.make_tensor_value_info(name, 1, None) for name in results],
        [numpy_helper.from_array(value, name) for name, value in tensors.items() if name in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def convert(model: onnx.ModelProto, target: TargetName, directory: Path) -> Emitted:
    file = directory / "model.onnx"
    file.write_bytes(model.SerializeToString())
    hub = pipeline.canonicalise(onnx_reader.read(ReadRequest(str(file), "onnx")))
    prepared = pipeline.prepare(hub, target=target)
    table = registry.table(target)
    preflight.check(prepared, table)
    emitted = emit(prepared, table, registry.dialect(target), AsPrinted())
    (directory / "model.py").write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, np.ascontiguousarray)
    return emitted


def run(target: TargetName, directory: Path, inputs: list[Array]) -> list[Array]:
    model = load_emitted(directory)
    if target == "torch":
        import torch

        with torch.no_grad():
            results = model(*map(torch.from_numpy, inputs))
    else:
        results = model(*inputs)
    return [np.asarray(each) for each in (results if isinstance(results, tuple) else (results,))]


def assert_equal(model: onnx.ModelProto, target: TargetName, directory: Path) -> None:
    """The emitted model gives what onnxruntime does, for two batch sizes and lengths."""
    session = ort.InferenceSession(model.SerializeToString())
    for steps, batch in ((5, 2), (1, 3)):
        sizes = {"T": steps, "N": batch}
        shapes = [
            [sizes.get(axis.dim_param, axis.dim_value) for axis in each.type.tensor_type.shape.dim]
            for each in model.graph.input
        ]
        inputs = [floats(*shape, seed=i) for i, shape in enumerate(shapes)]
        for i, each in enumerate(model.graph.input):
            if each.name == "lengths":
                inputs[i] = np.arange(batch, dtype=np.int32) * 2 % steps + 1
        names = [each.name for each in model.graph.input]
        expected = session.run(None, dict(zip(names, inputs, strict=True)))
        for mine, right in zip(run(target, directory, inputs), expected, strict=True):
            assert mine.shape == right.shape
            np.testing.assert_allclose(mine, right, atol=2e-6)


LSTM, GRU, RNN = "nn.LSTM(input_size=4, hidden_size=3", "nn.GRU(input_size=4, hidden_size=3", "nn.RNN("
K_LSTM, K_GRU, K_RNN = "keras.layers.LSTM(3", "keras.layers.GRU(3", "keras.layers.SimpleRNN(3"
BOTH = {"direction": "bidirectional"}
BACK = {"direction": "reverse"}
AFTER = {"linear_before_reset": 1}

NATIVE: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("LSTM", {}, LSTM, K_LSTM),
    ("LSTM", {"form": "flat"}, LSTM, K_LSTM),
    ("LSTM", {"form": "batch first", "states": True}, "batch_first=True)", K_LSTM),
    ("LSTM", {"form": "squeezed", "outputs": (0, 2)}, LSTM, K_LSTM),
    ("LSTM", {"outputs": (1,), "bias": False}, "bias=False)", "use_bias=False"),
    ("LSTM", {"outputs": (2,)}, LSTM, "return_state=True"),
    ("LSTM", {"form": "flat", **BACK}, LSTM, "go_backwards=True"),
    ("LSTM", {"form": "batch first", "states": True, **BACK}, LSTM, "go_backwards=True"),
    ("RNN", {"outputs": (0,), **BACK}, RNN, "go_backwards=True"),
    ("LSTM", {"form": "batch first", "states": True, **BOTH}, "bidirectional=True)", K_LSTM),
    ("LSTM", {"outputs": (1, 2), **BOTH}, "bidirectional=True)", K_LSTM),
    ("GRU", {}, None, "reset_after=False"),
    ("GRU", {"form": "batch first", **BOTH}, None, "reset_after=False"),
    ("GRU", {"form": "flat", **AFTER}, GRU, K_GRU),
    ("GRU", {"states": True, "bias": False, **AFTER, **BOTH}, GRU, K_GRU),
    ("RNN", {"form": "flat", "states": True}, RNN, K_RNN),
    ("RNN", {"activations": ["Relu"], "form": "squeezed"}, "nonlinearity='relu'", "activation='relu'"),
    ("RNN", {"outputs": (1,), **BOTH}, RNN, K_RNN),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("op", "options", "torch", "tf"), NATIVE, ids=lambda each: str(each)[:40])
def test_the_layer_of_the_target(
    op: str, options: dict[str, Any], torch: str | None, tf: str | None, target: TargetName, tmp_path: Path
) -> None:
    model = recurrence(op, **options)
    emitted = convert(model, target, tmp_path)
    wanted = {"torch": torch, "tf": tf}[target]
    if wanted is None:
        assert f"nn.{op}(" not in emitted.source
    else:
        assert wanted in emitted.source
    assert_equal(model, target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("LSTM", {"clip": 0.5}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}),
        ("GRU", {"activations": ["Sigmoid", "Relu"], **AFTER}),
        ("RNN", {"activations": ["Relu", "Tanh"], **BOTH}),
    ],
)
def test_no_layer_where_none_computes_it(
    op: str, options: dict[str, Any], target: TargetName, tmp_path: Path
) -> None:
    model = recurrence(op, **options)
    source = convert(model, target, tmp_path).source
    assert not any(name in source for name in ("nn.LSTM(", "nn.GRU(", "nn.RNN(", "keras.layers.LSTM("))
    assert_equal(model, target, tmp_path)


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("LSTM", {"form": "flat"}),
        ("LSTM", {"form": "batch first", "states": True, **BOTH}),
        ("GRU", {"outputs": (1,), **BACK}),
        ("GRU", {"outputs": (1,), "form": "plain", **BOTH, **AFTER}),
        ("RNN", {"form": "squeezed", "outputs": (0,)}),
    ],
)
def test_lengths_of_sequences_are_masks_of_keras(op: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = recurrence(op, lengths=True, **options)
    source = convert(model, "tf", tmp_path).source
    assert "mask=" in source
    assert ("zero_output_for_mask=True" in source) == (0 in options.get("outputs", (0,)))
    assert_equal(model, "tf", tmp_path)


def test_moves_only_unless_biases_are_added(tmp_path: Path) -> None:
    torch = convert(recurrence("LSTM", form="flat", **BOTH), "torch", tmp_path)
    assert {each.target: each.recipe_kind for each in torch.weights.tensors} == {
        f"rnn.{kind}_{role}_l0{suffix}": "bijective"
        for kind in ("weight", "bias")
        for role in ("ih", "hh")
        for suffix in ("", "_reverse")
    }
    gru = convert(recurrence("GRU", form="flat", **AFTER), "tf", tmp_path)
    assert {each.target: each.recipe_kind for each in gru.weights.tensors} == {
        f"rnn/gru_cell/{name}": "bijective" for name in ("kernel", "recurrent_kernel", "bias")
    }
    lstm = convert(recurrence("LSTM", form="flat"), "tf", tmp_path)
    kinds = {each.target: each.recipe_kind for each in lstm.weights.tensors}
    assert kinds["rnn/lstm_cell/bias"] == "lossy"
    assert kinds["rnn/lstm_cell/kernel"] == "bijective"


@pytest.mark.parametrize("target", TARGETS)
def test_the_weight_map_gives_the_layers_tensors(target: TargetName, tmp_path: Path) -> None:
    model = recurrence("LSTM", form="flat", **BOTH)
    emitted = convert(model, target, tmp_path)
    source = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for each in emitted.weights.tensors:
        assert each.recipe is not None
        np.testing.assert_array_equal(recipe.run(each.recipe, source), emitted.tensors[each.target])


def steps(op: str, count: int, **attributes: Any) -> onnx.ModelProto:
    """A model that calls one operator of a single step `count` times on the steps of x (T, N, features)."""
    rows = GATES[op] * HIDDEN
    states = ["h", "c"][: 2 if op == "LSTM" else 1]
    tensors = {
        "cell.W": floats(1, rows, FEATURES),
        "cell.R": floats(1, rows, HIDDEN),
        "cell.B": floats(1, 2 * rows),
        "first": np.array([0]),
    }
    nodes = [helper.make_node("Unsqueeze", [name, "first"], [f"{name}0"]) for name in states]
    for step in range(count):
        tensors[f"at{step}"] = np.array(step)
        nodes.append(helper.make_node("Gather", ["x", f"at{step}"], [f"row{step}"], axis=0))
        nodes.append(helper.make_node("Unsqueeze", [f"row{step}", "first"], [f"x{step}"]))
        given = ["", *(f"{name}{step + 1}" for name in states)]
        inputs = [f"x{step}", "cell.W", "cell.R", "cell.B", "", *(f"{name}{step}" for name in states)]
        nodes.append(helper.make_node(op, inputs, given, hidden_size=HIDDEN, **attributes))
    nodes.append(helper.make_node("Squeeze", [f"h{count}", "first"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "steps",
        [
            helper.make_tensor_value_info("x", 1, [count, "N", FEATURES]),
            *(helper.make_tensor_value_info(name, 1, ["N", HIDDEN]) for name in states),
        ],
        [helper.make_tensor_value_info("y", 1, ["N", HIDDEN])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("op", "attributes", "torch", "keras"),
    [
        ("LSTM", {}, "nn.LSTMCell(input_size=4, hidden_size=3)", "keras.layers.LSTMCell(3"),
        ("GRU", {"linear_before_reset": 1}, "nn.GRUCell(", "keras.layers.GRUCell(3"),
        ("GRU", {}, None, "reset_after=False"),
        ("RNN", {"activations": ["Relu"]}, "nonlinearity='relu'", "activation='relu'"),
    ],
)
def test_one_cell_is_called_at_every_step(
    op: str,
    attributes: dict[str, Any],
    torch: str | None,
    keras: str,
    target: TargetName,
    tmp_path: Path,
) -> None:
    model = steps(op, 3, **attributes)
    source = convert(model, target, tmp_path).source
    wanted = {"torch": torch, "tf": keras}[target]
    if wanted is None:
        assert "nn.GRUCell(" not in source
    else:
        assert source.count(wanted) == 1
        assert source.count("self.cell(") == 3
    assert_equal(model, target, tmp_path)
