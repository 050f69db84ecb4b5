"""Attention with projections: which layers are emitted, that they compute the same, and what stays apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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
LAYERS = {"torch": "nn.MultiheadAttention(", "tf": "keras.layers.MultiHeadAttention("}
WIDTH, HEADS = 12, 3


class AsPrinted:
    """A formatter that leaves the text as it is printed."""

    def format(self, text: str) -> str:
        return text


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


class Graph:
    """Nodes and initializers of a model with the inputs x and m (batch, length, width)."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self._names = (f"v{number}" for number in itertools.count())

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = next(self._names)
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, *values: int) -> str:
        name = next(self._names)
        self.tensors[name] = np.asarray(values, np.int64)
        return name

    def trained(self, name: str, *shape: int) -> str:
        self.tensors.setdefault(name, floats(*shape, seed=len(name)))
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        data = [
            helper.make_tensor_value_info("x", 1, ["n", "t", WIDTH]),
            helper.make_tensor_value_info("m", 1, ["n", "s", WIDTH]),
        ]
        results = [helper.make_tensor_value_info(each, 1, None) for each in outputs]
        tensors = [numpy_helper.from_array(array, name) for name, array in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "g", data, results, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def separate(
    graph: Graph,
    *,
    data: tuple[str, str, str] = ("x", "m", "m"),
    names: Mapping[str, str] | None = None,
    biases: str = "qkvo",
    perm: tuple[int, ...] = (0, 2, 1, 3),
    result: tuple[int, ...] = (0, 2, 1, 3),
    heads: tuple[int, int] = (HEADS, WIDTH // HEADS),
    inputs: tuple[str, ...] = (),
    **attention: Any,
) -> str:
    """Attention whose tensors are called as Keras calls them; `names` are others in the place of some."""
    called = {"q": "a/query", "k": "a/key", "v": "a/value", "o": "a/attention_output"} | dict(names or {})

    def project(value: str, slot: str) -> str:
        value = graph.add("MatMul", value, graph.trained(f"{called[slot]}/kernel", WIDTH, WIDTH))
        return (
            graph.add("Add", value, graph.trained(f"{called[slot]}/bias", WIDTH)) if slot in biases else value
        )

    operands = []
    for value, slot in zip(data, "qkv", strict=True):
        split = graph.add("Reshape", project(value, slot), graph.constant(0, 0, *heads))
        operands.append(graph.add("Transpose", split, perm=perm))
    y = graph.add("Attention", *operands, *inputs, **attention)
    y = graph.add("Reshape", graph.add("Transpose", y, perm=result), graph.constant(0, 0, WIDTH))
    return project(y, "o")


def packed(graph: Graph, *, slots: tuple[int, int, int] = (0, 1, 2)) -> str:
    """Attention of x with itself whose tensors are called and packed as PyTorch does."""
    weight = graph.add("Transpose", graph.trained("a.in_proj_weight", 3 * WIDTH, WIDTH), perm=[1, 0])
    y = graph.add("MatMul", "x", weight)
    y = graph.add("Add", y, graph.trained("a.in_proj_bias", 3 * WIDTH))
    y = graph.add("Reshape", y, graph.constant(0, 0, 3, HEADS, WIDTH // HEADS))
    y = graph.add("Transpose", y, perm=[2, 0, 3, 1, 4])
    operands = []
    for slot in slots:
        index = f"i{slot}"
        graph.tensors[index] = np.asarray(slot, np.int64)
        operands.append(graph.add("Gather", y, index, axis=0))
    y = graph.add("Transpose", graph.add("Attention", *operands), perm=[0, 2, 1, 3])
    y = graph.add("Reshape", y, graph.constant(0, 0, WIDTH))
    weight = graph.add("Transpose", graph.trained("a.out_proj.weight", WIDTH, WIDTH), perm=[1, 0])
    return graph.add("Add", graph.add("MatMul", y, weight), graph.trained("a.out_proj.bias", WIDTH))


def convert(graph: Graph, target: TargetName, directory: Path, *outputs: str) -> Emitted:
    """Emit the graph for a target, and check what it computes against onnxruntime."""
    model = graph.model(*outputs)
    file = directory / "model.onnx"
    onnx.save(model, file)
    hub = pipeline.canonicalise(onnx_reader.read(ReadRequest(str(file), "onnx")))
    prepared = pipeline.prepare(hub, target=target)
    table = registry.table(target)
    preflight.check(prepared, table)
    emitted = emit(prepared, table, registry.dialect(target), AsPrinted())  # type: ignore[arg-type]
    (directory / "model.py").write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, np.ascontiguousarray)
    feeds = {"x": floats(2, 5, WIDTH, seed=7), "m": floats(2, 4, WIDTH, seed=8)}
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    loaded = load_emitted(directory)
    if target == "torch":
        import torch

        with torch.no_grad():
            given = loaded(*(torch.from_numpy(each) for each in feeds.values()))
    else:
        import tensorflow as tf

        given = loaded(*(tf.constant(each) for each in feeds.values()))
    results = given if isinstance(given, tuple | list) else [given]
    for found, right in zip(results, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(found), right, rtol=1e-4, atol=1e-5)
    for each in emitted.weights.tensors:
        if each.recipe is not None:
            made = recipe.run(each.recipe, graph.tensors)
            np.testing.assert_array_equal(made, emitted.tensors[each.target])
            assert each.recipe_kind == "bijective"
    return emitted


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("biases", ["qkvo", ""])
@pytest.mark.parametrize("data", [("x", "x", "x"), ("x", "m", "m")])
def test_projections_of_one_module_are_its_layer(
    target: TargetName, biases: str, data: tuple[str, str, str], tmp_path: Path
) -> None:
    graph = Graph()
    emitted = convert(graph, target, tmp_path, separate(graph, data=data, biases=biases))
    assert LAYERS[target] in emitted.source


@pytest.mark.parametrize("target", TARGETS)
def test_packed_projections_are_a_layer(target: TargetName, tmp_path: Path) -> None:
    graph = Graph()
    emitted = convert(graph, target, tmp_path, packed(graph))
    assert LAYERS[target] in emitted.source
    if target == "torch":
        (weight,) = (each for each in emitted.weights.tensors if each.target.endswith("in_proj_weight"))
        assert weight.recipe == recipe.Source("a.in_proj_weight")


CAUSAL = {"torch": "is_causal=True", "tf": "use_causal_mask=True"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_causal_layer(target: TargetName, tmp_path: Path) -> None:
    graph = Graph()
    emitted = convert(graph, target, tmp_path, separate(graph, data=("x", "x", "x"), is_causal=1))
    assert LAYERS[target] in emitted.source
    assert CAUSAL[target] in emitted.source


def test_causal_attention_to_another_sequence_is_no_layer_of_pytorch(tmp_path: Path) -> None:
    graph = Graph()
    emitted = convert(graph, "torch", tmp_path, separate(graph, is_causal=1))
    assert LAYERS["torch"] not in emitted.source


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", [-np.inf, -1.0])
@pytest.mark.parametrize("diagonal", [1, 0])
def test_a_triangle_is_a_causal_mask(
    target: TargetName, number: float, diagonal: int, tmp_path: Path
) -> None:
    graph = Graph()
    graph.tensors["number"] = np.asarray(number, np.float32)
    graph.tensors["diagonal"] = np.asarray(diagonal, np.int64)
    length = graph.add("Shape", "x", start=1, end=2)
    square = graph.add("Expand", "number", graph.add("Concat", length, length, axis=0))
    mask = graph.add("Trilu", square, "diagonal", upper=1)
    y = separate(graph, data=("x", "x", "x"), inputs=(mask,))
    if diagonal == 0 and number == -np.inf:
        y = graph.add("Slice", y, graph.constant(1), graph.constant(9), graph.constant(1))
    emitted = convert(graph, target, tmp_path, y)
    assert (CAUSAL[target] in emitted.source) == (number == -np.inf and diagonal == 1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize("dtype", [np.bool_, np.float32])
def test_masks_may_be_constants_of_the_module(
    target: TargetName, shape: tuple[int, ...], dtype: type, tmp_path: Path
) -> None:
    graph = Graph()
    graph.tensors["mask"] = (floats(*shape, seed=3) > -0.5).astype(dtype)
    emitted = convert(graph, target, tmp_path, separate(graph, inputs=("mask",)))
    assert LAYERS[target] not in emitted.source


NEAR = {
    "another module's keys": {"names": {"k": "b/key"}},
    "other names": {"names": {"o": "a/dense"}},
    "shared projections": {"names": {"k": "a/query"}},
    "exchanged projections": {"names": {"q": "a/key", "k": "a/query"}},
    "no bias of the keys": {"biases": "qvo"},
    "no bias of the output": {"biases": "qkv"},
    "another scale": {"scale": 0.51},
    "capped scores": {"softcap": 20.0},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("near", NEAR)
def test_near_misses_stay_apart(target: TargetName, near: str, tmp_path: Path) -> None:
    graph = Graph()
    emitted = convert(graph, target, tmp_path, separate(graph, **NEAR[near]))  # type: ignore[arg-type]
    assert LAYERS[target] not in emitted.source


@pytest.mark.parametrize("target", TARGETS)
def test_a_projection_that_others_read_stays_apart(target: TargetName, tmp_path: Path) -> None:
    graph = Graph()
    y = separate(graph)
    other = graph.add("MatMul", "x", "a/query/kernel")
    emitted = convert(graph, target, tmp_path, y, other)
    assert LAYERS[target] not in emitted.source


@pytest.mark.parametrize("target", TARGETS)
def test_packed_projections_that_are_used_twice_stay_apart(target: TargetName, tmp_path: Path) -> None:
    graph = Graph()
    emitted = convert(graph, target, tmp_path, packed(graph, slots=(0, 0, 2)))
    assert LAYERS[target] not in emitted.source


@pytest.mark.parametrize("target", TARGETS)
def test_a_mask_stays_apart(target: TargetName, tmp_path: Path) -> None:
    graph = Graph()
    scores = graph.add("MatMul", "x", graph.add("Transpose", "m", perm=[0, 2, 1]))
    mask = graph.add("Unsqueeze", scores, graph.constant(1))
    emitted = convert(graph, target, tmp_path, separate(graph, inputs=(mask,)))
    assert LAYERS[target] not in emitted.source


@pytest.mark.parametrize("target", TARGETS)
def test_heads_of_other_channels_keep_their_elements(target: TargetName, tmp_path: Path) -> None:
    """Heads in the fast axis: the layer's tensors are permuted accordingly."""
    graph = Graph()
    emitted = convert(
        graph,
        target,
        tmp_path,
        separate(graph, heads=(WIDTH // HEADS, HEADS), perm=(0, 3, 1, 2), result=(0, 2, 3, 1)),
    )
    assert LAYERS[target] in emitted.source
