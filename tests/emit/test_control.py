"""Emitted control flow on both targets: nested bodies, captures, names, weights in bodies, scopes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bridge.emit import preflight, registry
from bridge.emit.imported import load_emitted
from bridge.emit.registry import TargetName
from bridge.emit.writer import Emitted, emit
from bridge.errors import UnsupportedOps
from bridge.formats import onnx_reader
from bridge.formats.request import ReadRequest
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors

TARGETS: tuple[TargetName, ...] = ("torch", "tf")
SIZE = 3
SCOPES: tuple[tuple[str, ...], ...] = ((), ("a",), ("a", "b"), ("a", "b", "c"), ("d",))


class AsPrinted:
    """A formatter that leaves the text as it is printed."""

    def format(self, text: str) -> str:
        return text


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


def run(target: TargetName, directory: Path, inputs: list[Any], *, traced: bool = True) -> list[Any]:
    model = load_emitted(directory)
    if target == "torch":
        import torch

        with torch.no_grad():
            results = model(*(torch.from_numpy(np.array(each)) for each in inputs))
        return [each.numpy() for each in (results if isinstance(results, tuple) else (results,))]
    import tensorflow as tf

    call = tf.function(lambda *given: model(*given), autograph=False) if traced else model
    results = call(*(tf.constant(each) for each in inputs))
    return [each.numpy() for each in (results if isinstance(results, tuple) else (results,))]


def expected(model: onnx.ModelProto, inputs: list[Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    names = [each.name for each in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def check(model: onnx.ModelProto, directory: Path, inputs: list[Any], targets: Any = TARGETS) -> list[str]:
    """Convert to the targets, compare with onnxruntime; gives the emitted texts."""
    texts = []
    for target in targets:
        folder = directory / target
        folder.mkdir(exist_ok=True)
        texts.append(convert(model, target, folder).source)
        for mine, right in zip(run(target, folder, inputs), expected(model, inputs), strict=True):
            assert mine.dtype == right.dtype
            assert mine.shape == right.shape
            np.testing.assert_allclose(mine, right, rtol=2e-5, atol=2e-5)
    return texts


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 23]>\n' + text)


class Program:
    """Draws a graph of nested branches and loops on matrices of SIZE x SIZE.

    Names repeat from one body to its siblings, never from the outside to the inside.
    """

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw
        self._weights: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        nodes, visible = self.nodes(["x"], depth=0)
        outputs = [visible[-1], *self._draw(st.lists(st.sampled_from(visible[1:]), max_size=1))]
        outputs = list(dict.fromkeys(outputs))
        graph = helper.make_graph(
            nodes, "net", [tensor("x")], list(map(tensor, outputs)), list(self._weights.values())
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)

    def nodes(self, visible: list[str], *, depth: int) -> tuple[list[onnx.NodeProto], list[str]]:
        """Nodes on visible values; gives them with what is visible afterwards."""
        visible = list(visible)
        nodes: list[onnx.NodeProto] = []
        for _ in range(self._draw(st.integers(1, 4 if depth == 0 else 3))):
            kinds = ["Add", "Tanh", "Sub", "linear", "constant"]
            kinds += ["If", "Loop", "Scan"] if depth < 3 else []
            made = getattr(self, self._draw(st.sampled_from(kinds)).lower())(visible, depth)
            scope = self._draw(st.sampled_from(SCOPES))
            for node in made:
                names = ["", *(".".join(scope[: i + 1]) for i in range(len(scope))), "node"]
                types = ["Net", *(each.upper() for each in scope), "op"]
                node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(names))
                node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=repr(types))
            nodes += made
        return nodes, visible

    def _new(self, visible: list[str], depth: int) -> str:
        visible.append(f"v{depth}_{len(visible)}")
        return visible[-1]

    def _one(self, visible: list[str]) -> str:
        name: str = self._draw(st.sampled_from(visible))
        return name

    def add(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        operands = [self._one(visible), self._one(visible)]
        return [helper.make_node("Add", operands, [self._new(visible, depth)])]

    def sub(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        operands = [self._one(visible), self._one(visible)]
        return [helper.make_node("Sub", operands, [self._new(visible, depth)])]

    def tanh(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        return [helper.make_node("Tanh", [self._one(visible)], [self._new(visible, depth)])]

    def linear(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        name = self._draw(st.sampled_from(["a.fc.weight", "a.b.fc.weight", "d.c.fc.weight", "free"]))
        array = np.random.default_rng(len(name)).uniform(-0.5, 0.5, (SIZE, SIZE)).astype(np.float32)
        self._weights[name] = numpy_helper.from_array(array, name)
        return [helper.make_node("MatMul", [self._one(visible), name], [self._new(visible, depth)])]

    def constant(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        array = np.full((SIZE, SIZE), self._draw(st.sampled_from([0.5, -1.0, 2.0])), np.float32)
        value = numpy_helper.from_array(array)
        return [helper.make_node("Constant", [], [self._new(visible, depth)], value=value)]

    def _number(
        self, visible: list[str], depth: int, op: str, other: float
    ) -> tuple[list[onnx.NodeProto], str]:
        """A scalar computed from a visible matrix: how its sum compares with a number, or a small count."""
        source, base = self._one(visible), f"{op.lower()}{depth}_{len(visible)}"
        nodes = [helper.make_node("ReduceSum", [source], [f"{base}_sum"], keepdims=0)]
        constant = numpy_helper.from_array(np.array(other, np.float32))
        nodes.append(helper.make_node("Constant", [], [f"{base}_other"], value=constant))
        nodes.append(helper.make_node(op, [f"{base}_sum", f"{base}_other"], [f"{base}_result"]))
        if op == "Mod":
            nodes[-1].attribute.append(helper.make_attribute("fmod", 1))
            nodes.append(
                helper.make_node("Cast", [f"{base}_result"], [f"{base}_count"], to=TensorProto.INT64)
            )
        return nodes, nodes[-1].output[0]

    def _body(self, visible: list[str], depth: int, outputs: int) -> tuple[list[onnx.NodeProto], list[str]]:
        """A body's nodes and names of values that it computes, one for each output."""
        nodes, inner = self.nodes(visible, depth=depth + 1)
        results = []
        for index in range(outputs):
            nodes.append(helper.make_node("Identity", [self._one(inner)], [f"r{depth}_{index}"]))
            results.append(nodes[-1].output[0])
        return nodes, results

    def if_(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        before, condition = self._number(visible, depth, "Less", self._draw(st.sampled_from([-1.0, 0.5])))
        count = self._draw(st.integers(1, 2))
        branches = {}
        for role in ("then_branch", "else_branch"):
            nodes, results = self._body(visible, depth, count)
            branches[role] = helper.make_graph(nodes, role, [], list(map(tensor, results)))
        return [
            *before,
            helper.make_node(
                "If", [condition], [self._new(visible, depth) for _ in range(count)], **branches
            ),
        ]

    def loop(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        computed = self._draw(st.booleans())
        before, stop = self._number(visible, depth, "Less", 0.5)
        if computed:
            more, trips = self._number(visible, depth, "Mod", 3.0)
            before = before + more
        else:
            trips = f"trips{depth}_{len(visible)}"
            number = numpy_helper.from_array(np.array(self._draw(st.integers(1, 3)), np.int64))
            before.append(helper.make_node("Constant", [], [trips], value=number))
        carried = self._draw(st.integers(1, 2))
        initial = [self._one(visible) for _ in range(carried)]
        inner = [*visible]
        state = [self._new(inner, depth + 1) for _ in range(carried)]
        stops = self._draw(st.booleans())
        nodes, results = self._body(inner, depth, carried)
        going, given = f"going{depth}", f"again{depth}"
        if stops:
            nodes.append(helper.make_node("ReduceSum", [results[0]], [f"total{depth}"], keepdims=0))
            limit = numpy_helper.from_array(np.array(2.0, np.float32))
            nodes.append(helper.make_node("Constant", [], [f"limit{depth}"], value=limit))
            nodes.append(helper.make_node("Less", [f"total{depth}", f"limit{depth}"], [given]))
        else:
            nodes.append(helper.make_node("Identity", [going], [given]))
        body = helper.make_graph(
            nodes,
            "body",
            [scalar(f"step{depth}", TensorProto.INT64), scalar(going, TensorProto.BOOL), *map(tensor, state)],
            [scalar(given, TensorProto.BOOL), *map(tensor, results)],
        )
        condition = stop if stops or self._draw(st.booleans()) else ""
        outputs = [self._new(visible, depth) for _ in range(carried)]
        return [*before, helper.make_node("Loop", [trips, condition, *initial], outputs, body=body)]

    def scan(self, visible: list[str], depth: int) -> list[onnx.NodeProto]:
        inner = [*visible]
        state = self._new(inner, depth + 1)
        nodes, results = self._body(inner, depth, 1)
        element = f"row{depth}"
        nodes.append(helper.make_node("Add", [results[0], element], [f"next{depth}"]))
        nodes.append(helper.make_node("ReduceMean", [f"next{depth}"], [f"mean{depth}"], keepdims=0))
        nodes.append(helper.make_node("Add", [element, f"mean{depth}"], [f"out{depth}"]))
        row = helper.make_tensor_value_info(element, TensorProto.FLOAT, [SIZE])
        out = helper.make_tensor_value_info(f"out{depth}", TensorProto.FLOAT, [SIZE])
        body = helper.make_graph(nodes, "body", [tensor(state), row], [tensor(f"next{depth}"), out])
        directions = {
            "scan_input_axes": [self._draw(st.integers(-2, 1))],
            "scan_input_directions": [self._draw(st.integers(0, 1))],
            "scan_output_axes": [self._draw(st.integers(-2, 1))],
            "scan_output_directions": [self._draw(st.integers(0, 1))],
        }
        operands = [self._one(visible), self._one(visible)]
        outputs = [self._new(visible, depth), self._new(visible, depth)]
        return [helper.make_node("Scan", operands, outputs, body=body, num_scan_inputs=1, **directions)]


setattr(Program, "if", Program.if_)


def tensor(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE])


def scalar(name: str, dtype: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, [])


@st.composite
def programs(draw: Callable[..., Any]) -> onnx.ModelProto:
    return Program(draw).model()


_DIRECTORIES = itertools.count()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(model=programs())
def test_nested_control_flow_gives_what_the_graph_gives(
    target: TargetName, model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / f"program{next(_DIRECTORIES)}"
    directory.mkdir()
    for seed in (0, 1):
        x = np.random.default_rng(seed).uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)
        check(model, directory, [x], targets=(target,))


_CONVOLUTIONS = """net (float[N,4,6,6] x, int64 n) => (float[N,4,6,6] y, float[k,N,4] means)
<float[4,4,3,3] weight = {WEIGHTS}, float[4] bias = {0.5, 1, 2, 3}> {
    zero = Constant<value_float=0.0>()
    s = ReduceSum<keepdims=0>(x)
    c = Less(s, zero)
    a = Conv<pads=[1,1,1,1]>(x, weight, bias)
    h, means = Loop(n, c, a) <body = b (int64 i, bool go, float[N,4,6,6] u)
        => (bool on, float[N,4,6,6] u2, float[N,4] m) {
            on = Identity(go)
            v = Conv<pads=[1,1,1,1]>(u, weight, bias)
            r = Relu(v)
            u2 = Add(r, x)
            axes = Constant<value_ints=[2,3]>()
            m = ReduceMean<keepdims=0>(u2, axes)
        }>
    y = If(c) <
        then_branch = t () => (float[N,4,6,6] p) { p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(h) },
        else_branch = e () => (float[N,4,6,6] q) { q = Neg(h) }
    >
}"""


@pytest.mark.parametrize("sign", [1, -1])
def test_bodies_call_layers_and_compute_in_the_targets_layout(sign: int, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).uniform(-0.1, 0.1, 144).round(3)
    model = parsed(_CONVOLUTIONS.replace("WEIGHTS", ", ".join(map(str, weights))))
    x = np.random.default_rng(1).uniform(0, 1, (2, 4, 6, 6)).astype(np.float32)
    steps = np.array(2 if sign < 0 else 0)
    if sign > 0:  # onnxruntime gives free axes of what no step has stacked the size 0
        model.graph.output.pop()
    for text in check(model, tmp_path, [sign * x, steps]):
        assert text.count("self.conv(") == 2


def test_what_cannot_be_expressed_in_a_body_is_listed(tmp_path: Path) -> None:
    model = parsed("""net (float[3] x, bool c) => (float[3] y) {
        y = If(c) <
            then_branch = t () => (float[3] a) {
                z = Loop(, , x) <body = b (int64 i, bool go, float[3] h) => (bool on, float[3] h2) {
                    on = Identity(go)
                    h2 = Neg(h)
                }>
                a = Neg(z)
            },
            else_branch = e () => (float[3] d) { d = Neg(x) }
        >
    }""")
    with pytest.raises(UnsupportedOps, match="Loop") as caught:
        convert(model, "torch", tmp_path)
    assert "neither a trip count nor a condition" in str(caught.value)


@pytest.mark.parametrize("ending", ["Identity(c)", "Less(sum, most)"])
def test_loops_that_stack_are_traced_with_any_number_of_steps(ending: str, tmp_path: Path) -> None:
    import torch

    model = parsed(f"""net (float[N, T] x) => (float[N] last, float[S, N] all) <
        float[1] zero = {{0}}, int64[1] second = {{1}}, int64[0] none = {{}},
        float most = {{4}}, bool yes = {{1}}
    > {{
        shape = Shape(x)
        sizes = Gather(shape, second)
        trips = Reshape(sizes, none)
        rows = Shape<end = 1>(x)
        start = Expand(zero, rows)
        last, all = Loop(trips, yes, start) <
            body = step (int64 i, bool c, float[N] h) => (bool on, float[N] next, float[N] each) {{
                column = Gather<axis = 1>(x, i)
                next = Add(h, column)
                each = Exp(h)
                sum = ReduceSum<keepdims = 0>(next)
                on = {ending}
            }}
        >
    }}""")
    convert(model, "torch", tmp_path)
    net = load_emitted(tmp_path)
    axes = {"x": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    traced = torch.export.export(net, (torch.rand(2, 4),), dynamic_shapes=axes).module()
    for batch, length in ((1, 6), (3, 5)):
        x = np.random.default_rng(length).uniform(0, 1, (batch, length)).astype(np.float32)
        for mine, right in zip(traced(torch.from_numpy(x)), expected(model, [x]), strict=True):
            np.testing.assert_allclose(mine.detach().numpy(), right, rtol=2e-5)
