"""Emitted PyTorch source: it runs, computes what the graph computes, and keeps names, whatever the scopes."""

from __future__ import annotations

import ast
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.emit import registry
from bridge.emit.formatting import Formatter
from bridge.emit.writer import Emitted, emit
from bridge.hub import metadata, recipe
from bridge.hub.metadata import Scope, ScopeEntry, SourceInfo, WeightInfo
from bridge.worker.standalone import write_tensors

CHANNELS = 4
HOSTILE = [
    *("self", "class", "0", "a-b", 'x"); import os #', "é", "forward", "weight", "type", "__init__"),
    *("torch", "F", "x\ny", "01", "¹", "٣"),
]


class Graph:
    """A small hub graph under construction: convolutions, normalisations, activations, sums."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.input = self.value("x", ["batch", CHANNELS, 6, 6])
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.arrays: dict[str, Any] = {}

    @staticmethod
    def value(name: str, shape: list[Any]) -> ir.Value:
        return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))

    def weight(
        self, path: str, shape: tuple[int, ...], kind: str = "parameter", *, trainable: bool = True
    ) -> ir.Value:
        if path in self.initializers:
            return self.initializers[path]
        array = self._random.uniform(0.5, 1.5, shape).astype(np.float32)
        value = ir.Value(
            name=path,
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(array),
        )
        metadata.set_weight_info(value, WeightInfo(path, kind, trainable))  # type: ignore[arg-type]
        metadata.set_recipe_record(value, {"source": path})
        self.initializers[path] = value
        self.arrays[path] = array
        return value

    def add(self, op: str, inputs: list[ir.Value], scope: Scope | None, **attributes: Any) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes)
        node.outputs[0].name = f"v{len(self.nodes)}"
        node.outputs[0].shape = ir.Shape(["batch", CHANNELS, 6, 6])
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        metadata.set_scope(node, scope)
        self.nodes.append(node)
        return node.outputs[0]

    def conv(self, x: ir.Value, path: str, scope: Scope | None) -> ir.Value:
        weight = self.weight(f"{path}.weight", (CHANNELS, CHANNELS, 3, 3))
        return self.add("Conv", [x, weight], scope, pads=[1, 1, 1, 1])

    def batch_norm(self, x: ir.Value, path: str, scope: Scope | None) -> ir.Value:
        kinds = {
            "weight": "parameter",
            "bias": "parameter",
            "running_mean": "buffer",
            "running_var": "buffer",
        }
        tensors = [self.weight(f"{path}.{name}", (CHANNELS,), kind) for name, kind in kinds.items()]
        return self.add("BatchNormalization", [x, *tensors], scope, epsilon=1e-5, momentum=0.9)

    def model(self, *outputs: ir.Value, root: str = "Net") -> ir.Model:
        graph = ir.Graph(
            [self.input],
            list(outputs),
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opset_imports={"": 23},
            name="test",
        )
        model = ir.Model(graph, ir_version=11)
        names = tuple(value.name or "" for value in outputs)
        metadata.set_source_info(model, SourceInfo("torch", "pt2", root, ("x",), names))
        return model


def scope(*names: str, types: tuple[str, ...] = (), calls: tuple[int, ...] = ()) -> Scope:
    return tuple(
        ScopeEntry(name, types[i] if types else "Block", calls[i] if calls else 0)
        for i, name in enumerate(names)
    )


def emitted_torch(model: ir.Model) -> Emitted:
    with Formatter("model.py") as formatter:
        return emit(model, registry.table("torch"), registry.dialect("torch"), formatter)


def load(emitted: Emitted, directory: Path) -> Any:
    """The emitted module, imported from its text with its weights."""
    file = directory / "model.py"
    file.write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors)
    namespace = types.ModuleType("emitted")
    namespace.__file__ = str(file)
    exec(compile(emitted.source, str(file), "exec"), namespace.__dict__)
    return namespace.load()


def assert_same(model: ir.Model, module: Any) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    x = np.random.default_rng(1).standard_normal((3, CHANNELS, 6, 6)).astype(np.float32)
    expected = session.run(None, {"x": x})
    with torch.no_grad():
        actual = module(torch.from_numpy(x))
    actual = actual if isinstance(actual, tuple) else (actual,)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-5, atol=1e-5 * np.abs(theirs).max())


@st.composite
def dirty_graphs(draw: st.DrawFn) -> ir.Model:
    """Convolutions, normalisations and sums with scopes that contradict each other and the weight paths."""
    graph = Graph()
    names = st.sampled_from(["a", "b", "0", "1", "conv"])
    scopes = st.none() | st.lists(names, max_size=3).map(lambda parts: scope(*parts))
    values = [graph.input]
    for number in range(draw(st.integers(1, 8))):
        op = draw(st.sampled_from(["Conv", "BatchNormalization", "Relu", "Add"]))
        x = draw(st.sampled_from(values))
        place = draw(scopes)
        path = ".".join(
            [entry.name for entry in place or ()] + [draw(st.sampled_from([f"w{number}", "shared"]))]
        )
        if op == "Conv":
            values.append(graph.conv(x, f"{path}_conv", place))
        elif op == "BatchNormalization":
            values.append(graph.batch_norm(x, f"{path}_norm", place))
        elif op == "Relu":
            values.append(graph.add("Relu", [x], place))
        else:
            values.append(graph.add("Add", [x, draw(st.sampled_from(values))], place))
    return graph.model(values[-1], *({draw(st.sampled_from(values[1:]))} - {values[-1]}))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=dirty_graphs())
def test_dirty_scopes_change_nothing(model: ir.Model, tmp_path_factory: Any) -> None:
    emitted = emitted_torch(model)
    module = load(emitted, tmp_path_factory.mktemp("emitted"))
    assert_same(model, module)
    state = module.state_dict()
    expected = {name for name, value in model.graph.initializers.items() if value.uses()}
    assert expected <= set(state)
    extra = {name.rpartition(".")[2] for name in set(state) - expected}
    assert extra <= {"num_batches_tracked"}
    for each in emitted.weights.tensors:
        if each.recipe is not None:
            constants = {name: model.graph.initializers[name].const_value for name in expected}
            source = {name: each.numpy() for name, each in constants.items() if each is not None}
            np.testing.assert_array_equal(recipe.run(each.recipe, source), emitted.tensors[each.target])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=12), min_size=3, max_size=6),
    data=st.data(),
)
def test_hostile_names_are_only_names(names: list[str], data: st.DataObject, tmp_path_factory: Any) -> None:
    graph = Graph()
    graph.input.name = "x"
    value = graph.input
    for name in names:
        place = scope(name, types=(data.draw(st.sampled_from(names)),))
        value = graph.conv(value, name, place)
        value = graph.add("Relu", [value], place)
        metadata.set_location(graph.nodes[-1], name)
    value.name = "y"
    model = graph.model(value, root=names[0])
    emitted = emitted_torch(model)
    imported = {
        alias.name
        for node in ast.walk(ast.parse(emitted.source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= {"torch", "torch.nn.functional", "json", "math", "mmap"}
    assert_same(model, load(emitted, tmp_path_factory.mktemp("emitted")))


def test_equal_blocks_share_a_class_and_differences_become_parameters(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input
    for number, channels in enumerate([6, 8]):
        place = scope("layers", str(number), types=("Sequential", "Bottleneck"))
        first = graph.weight(f"layers.{number}.reduce.weight", (channels, CHANNELS, 1, 1))
        second = graph.weight(f"layers.{number}.expand.weight", (CHANNELS, channels, 1, 1))
        inner = graph.add("Conv", [value, first], (*place, ScopeEntry("reduce", "Conv2d")))
        inner = graph.add("Conv", [inner, second], (*place, ScopeEntry("expand", "Conv2d")))
        value = graph.add("Add", [inner, value], place)
    model = graph.model(value)
    emitted = emitted_torch(model)
    classes = [node.name for node in ast.parse(emitted.source).body if isinstance(node, ast.ClassDef)]
    assert classes == ["Bottleneck", "Net"]
    assert "nn.Sequential(Bottleneck(out_channels=6), Bottleneck(out_channels=8))" in emitted.source
    assert_same(model, load(emitted, tmp_path))


def test_a_module_called_twice_is_one_module(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input
    for call in range(2):
        place = scope("block", calls=(call,))
        value = graph.conv(value, "block.conv", (*place, ScopeEntry("conv", "Conv2d", call)))
        value = graph.batch_norm(value, "block.norm", (*place, ScopeEntry("norm", "BatchNorm2d", call)))
    model = graph.model(value)
    emitted = emitted_torch(model)
    assert emitted.source.count("self.block(x)") == 2
    assert emitted.source.count("nn.Conv2d") == 1
    assert_same(model, load(emitted, tmp_path))


def test_a_tied_tensor_is_one_tensor(tmp_path: Path) -> None:
    graph = Graph()
    first = graph.conv(graph.input, "a", scope("a", types=("Conv2d",)))
    tied = graph.initializers["a.weight"]
    value = graph.add("Conv", [first, tied], scope("b", types=("Conv2d",)), pads=[1, 1, 1, 1])
    model = graph.model(value)
    module = load(emitted_torch(model), tmp_path)
    assert list(module.state_dict()) == ["a.weight"]
    assert_same(model, module)


def test_what_is_not_trained_in_the_source_is_frozen(tmp_path: Path) -> None:
    graph = Graph()
    graph.weight("conv.weight", (CHANNELS, CHANNELS, 3, 3), trainable=False)
    value = graph.conv(graph.input, "conv", scope("conv", types=("Conv2d",)))
    value = graph.conv(value, "free", scope("free", types=("Conv2d",)))
    module = load(emitted_torch(graph.model(value)), tmp_path)
    assert {name: each.requires_grad for name, each in module.named_parameters()} == {
        "conv.weight": False,
        "free.weight": True,
    }


def test_a_bare_parameter_keeps_its_name_and_a_large_constant_is_not_text(tmp_path: Path) -> None:
    graph = Graph()
    scale = graph.weight("stage.scale_by", (1, CHANNELS, 1, 1))
    value = graph.add("Mul", [graph.input, scale], scope("stage"))
    table = np.arange(CHANNELS * 36, dtype=np.float32).reshape(1, CHANNELS, 6, 6)
    constant = ir.Value(
        name="table",
        shape=ir.Shape(table.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(table),
    )
    graph.initializers["table"] = constant
    value = graph.add("Add", [value, constant], scope("stage"))
    value = graph.add("Sub", [value, graph.weight("stage.offset", (1, 1, 6, 6))], scope("stage"))
    value = graph.add("Neg", [value], scope("stage"))
    model = graph.model(value)
    emitted = emitted_torch(model)
    module = load(emitted, tmp_path)
    assert {"stage.scale_by", "stage.offset"} == {name for name, _ in module.named_parameters()}
    assert "stage.table" in dict(module.named_buffers())
    assert "143" not in emitted.source
    assert_same(model, module)


def test_anchors_point_at_the_lines_that_make_the_values(tmp_path: Path) -> None:
    graph = Graph()
    first = graph.conv(graph.input, "block.conv", scope("block", "conv"))
    value = graph.add("Add", [first, graph.input], scope("block"))
    value = graph.add("Neg", [value], ())
    metadata.set_source_value(first, "conv2d")
    emitted = emitted_torch(graph.model(value))
    lines = emitted.source.splitlines()
    by_hub = {anchor.hub: anchor for anchor in emitted.anchors.anchors}
    assert by_hub["v0"].source == "conv2d"
    assert "self.conv(" in lines[by_hub["v0"].line - 1]
    assert "+" in lines[by_hub["v1"].line - 1]
    assert [anchor.hub for anchor in emitted.anchors.anchors] == ["v0", "v1", "v2"]
    name = graph.input.name
    assert [each.inputs for each in emitted.anchors.anchors] == [(name,), ("v0", name), ("v1",)]


def test_numbered_tensors_are_registered_under_their_numbers() -> None:
    graph = Graph()
    value = graph.input
    for number in ("0", "1"):
        scale = graph.weight(f"stats.{number}", (1, 3, 1, 1))
        value = graph.add("Mul", [value, scale], scope("stats"))
    source = emitted_torch(graph.model(value)).source
    assert 'self.register_parameter("0", ' in source
    assert 'self.get_parameter("1")' in source


def test_the_same_graph_gives_the_same_text() -> None:
    def build() -> Emitted:
        graph = Graph()
        value = graph.conv(graph.input, "a.conv", scope("a", "conv"))
        return emitted_torch(graph.model(graph.batch_norm(value, "a.norm", scope("a", "norm"))))

    first, second = build(), build()
    assert first.source == second.source
    assert first.anchors == second.anchors
    assert first.weights == second.weights


def test_a_layer_does_not_hide_a_tensor_that_is_not_its_own(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.conv(graph.input, "a", scope("a", types=("Custom",)))
    value = graph.add(
        "Mul", [value, graph.weight("a.gain", (1, CHANNELS, 1, 1))], scope("a", types=("Custom",))
    )
    model = graph.model(value)
    module = load(emitted_torch(model), tmp_path)
    assert {name for name, _ in module.named_parameters()} == {"a.weight", "a.gain"}
    assert_same(model, module)


def test_a_stateless_layer_inside_another_moves_beside_it(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.batch_norm(graph.input, "bn", scope("bn", types=("BatchNormAct2d",)))
    value = graph.add("Relu", [value], scope("bn", "act", types=("BatchNormAct2d", "ReLU")))
    model = graph.model(value)
    emitted = emitted_torch(model)
    assert "self.bn = nn.BatchNorm2d(4)" in emitted.source
    assert "self.bn_act = nn.ReLU()" in emitted.source
    assert_same(model, load(emitted, tmp_path))


def test_dropout_is_a_layer_wherever_it_stands(tmp_path: Path) -> None:
    graph = Graph()
    ratio = ir.Value(name="ratio", shape=ir.Shape([]), const_value=ir.tensor(np.float32(0.25)))
    graph.initializers["ratio"] = ratio
    value = graph.add("Relu", [graph.input], scope("block"))
    value = graph.add("Dropout", [value, ratio], scope("block"))
    value = graph.conv(value, "block.conv", scope("block"))
    module = load(emitted_torch(graph.model(value)), tmp_path)
    dropouts = [each for each in module.modules() if isinstance(each, torch.nn.Dropout)]
    assert [each.p for each in dropouts] == [0.25]


def test_calls_that_differ_are_written_out(tmp_path: Path) -> None:
    graph = Graph()
    first = graph.conv(graph.input, "block.conv", scope("block", "conv", calls=(0, 0)))
    first = graph.add("Relu", [first], scope("block", calls=(0,)))
    second = graph.conv(first, "block.conv", scope("block", "conv", calls=(1, 1)))
    second = graph.add("Neg", [second], scope("block", calls=(1,)))
    model = graph.model(graph.add("Add", [second, first], ()))
    emitted = emitted_torch(model)
    assert emitted.source.count("self.block.conv(x)") == 2
    assert_same(model, load(emitted, tmp_path))


def test_an_input_does_not_hide_a_helper_function(tmp_path: Path) -> None:
    graph = Graph()
    graph.input.name = "pad"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    amounts = ir.Value(name="pads", shape=ir.Shape([8]), const_value=ir.tensor(pads))
    amounts.type = ir.TensorType(ir.DataType.INT64)
    graph.initializers["pads"] = amounts
    value = graph.add("Pad", [graph.input, amounts], (), mode="reflect")
    value.shape = ir.Shape(["batch", CHANNELS, 8, 8])
    emitted = emitted_torch(graph.model(value))
    assert "def pad(" in emitted.source
    x = torch.rand(2, CHANNELS, 6, 6)
    expected = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(load(emitted, tmp_path)(x), expected)


def test_blocks_with_dropouts_of_their_own_share_a_class(tmp_path: Path) -> None:
    graph = Graph()
    ratio = ir.Value(name="ratio", shape=ir.Shape([]), const_value=ir.tensor(np.float32(0.25)))
    graph.initializers["ratio"] = ratio
    value = graph.input
    for name in ("first", "second"):
        place = scope(name)
        value = graph.conv(value, f"{name}.conv", place)
        value = graph.add("Relu", [graph.add("Dropout", [value, ratio], place)], place)
    emitted = emitted_torch(graph.model(value))
    classes = [each.name for each in ast.parse(emitted.source).body if isinstance(each, ast.ClassDef)]
    assert classes == ["Block", "Net"]
    assert emitted.source.count("nn.Dropout(0.25)") == 1


def test_a_child_called_twice_in_a_row_is_no_chain(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input
    for call in range(2):
        place = (ScopeEntry("outer", "Twice"), ScopeEntry("0", "Block", call))
        value = graph.conv(value, "outer.0.conv", (*place, ScopeEntry("conv", "Conv2d", call)))
        value = graph.batch_norm(value, "outer.0.norm", (*place, ScopeEntry("norm", "Norm", call)))
    model = graph.model(graph.add("Neg", [value], ()))
    emitted = emitted_torch(model)
    assert emitted.source.count("self[0](x)") == 2
    assert_same(model, load(emitted, tmp_path))
