"""Loops that count up to a limit run for a number of steps; everything else keeps its condition."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from bridge.hub import metadata
from bridge.hub.metadata import SourceInfo
from bridge.passes.counted_loops import count_steps
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes
from bridge.passes.unused import drop_unused
from bridge.passes.whole_slices import drop_whole_slices

X = np.arange(1, 7, dtype=np.float32).reshape(6, 1)


def model_of(text: str) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\nnet {text}'))
    metadata.set_source_info(model, SourceInfo(framework="onnx", format="onnx"))
    return infer_shapes(attach_recipes(model))


def run(model: ir.Model, **inputs: object) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString())
    return list(session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()}))


def counting(
    *,
    limit: str = "n",
    start: str = "Less(zero, n)",
    again: str = "Less(next, n)",
    grown: str = "one",
    most: str = "",
) -> ir.Model:
    """A loop as TensorFlow's `while i < n: total += x[i]; i += 1` arrives."""
    return model_of(f"""(float[T, 1] x, int32 n, int64 m) => (float[K] total, float[R, K] all)
        <int32 zero = {{0}}, int32 one = {{1}}, int32 two = {{2}}, float[1] nothing = {{0.0}},
         bool yes = {{1}}> {{
        below = Less(zero, n)
        go = {start}
        last, total, all = Loop({most}, go, zero, nothing) <
            body = step (int64 k, bool c, int32 i, float[1] sum)
                    => (bool on, int32 next, float[1] more, float[1] each) {{
                row = Gather(x, i)
                more = Add(sum, row)
                each = Identity(more)
                next = Add(i, {grown})
                less = Less(next, n)
                on = {again}
            }}
        >
    }}""")


def loop(model: ir.Model) -> ir.Node:
    (node,) = [node for node in model.graph if node.op_type == "Loop"]
    return node


@pytest.mark.parametrize(
    "forms",
    [
        {},
        {"start": "Greater(n, zero)", "again": "Greater(n, next)"},
        {"start": "And(yes, below)", "again": "And(c, less)"},
        {"most": "m", "start": "Less(zero, n)", "again": "Less(next, n)"},
    ],
)
@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_counter_below_a_limit(forms: dict[str, str], n: int) -> None:
    model = counting(**forms)
    inputs = {"x": X, "n": np.array(n, np.int32), "m": np.array(3)}
    expected = run(model, **inputs)
    counted = drop_unused(count_steps(model))
    node = loop(counted)
    assert node.inputs[1] is None
    assert node.inputs[0] is not None
    assert len(node.inputs) == 3, "the counter is gone"
    for wanted, got in zip(expected, run(counted, **inputs), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_limit_that_is_the_largest_number_of_steps_says_nothing_more() -> None:
    model = model_of("""(float[T, 1] x) => (float[K] total) <float[1] nothing = {0.0}, int32 zero = {0},
        int32 one = {1}, float none = {0.0}> {
        n = Size(x)
        n32 = Cast<to = 6>(n)
        m = Cast<to = 7>(n32)
        nf = Cast<to = 1>(n32)
        a = Less(none, nf)
        b = Less(none, nf)
        go = And(a, b)
        last, total = Loop(m, go, zero, nothing) <
            body = step (int64 k, bool c, int32 i, float[1] sum) => (bool on, int32 next, float[1] more) {
                row = Gather(x, i)
                more = Add(sum, row)
                next = Add(one, i)
                kf = Cast<to = 1>(k)
                first = Less(kf, nf)
                nextf = Cast<to = 1>(next)
                second = Less(nextf, nf)
                on = And(first, second)
            }
        >
    }""")
    counted = drop_unused(count_steps(model))
    node = loop(counted)
    assert node.inputs[1] is None
    assert len(node.inputs) == 3
    np.testing.assert_array_equal(run(counted, x=X)[0], X.sum(0))


def test_several_counters_are_all_left_out() -> None:
    model = model_of("""(float[T, 1] x, int32 n) => (float[K] total) <float[1] nothing = {0.0},
        int32 zero = {0}, int32 one = {1}> {
        go = Less(zero, n)
        last, other, total = Loop(, go, zero, zero, nothing) <
            body = step (int64 k, bool c, int32 i, int32 j, float[1] sum)
                    => (bool on, int32 next, int32 after, float[1] more) {
                row = Gather(x, i)
                again = Gather(x, j)
                twice = Add(row, again)
                more = Add(sum, twice)
                next = Add(i, one)
                after = Add(j, one)
                on = Less(next, n)
            }
        >
    }""")
    counted = drop_unused(count_steps(model))
    assert len(loop(counted).inputs) == 3
    np.testing.assert_array_equal(run(counted, x=X, n=np.array(4, np.int32))[0], 2 * X[:4].sum(0))


@pytest.mark.parametrize(
    "forms",
    [
        {"grown": "two"},
        {"start": "Less(one, n)"},
        {"start": "Identity(yes)"},
        {"again": "Less(i, n)"},
        {"again": "Less(n, next)"},
        {"again": "Or(less, less)"},
    ],
)
def test_other_conditions_stay(forms: dict[str, str]) -> None:
    model = counting(**forms)
    before = loop(model)
    assert count_steps(model) is model
    assert loop(model) is before or len(loop(model).inputs) == len(before.inputs)
    assert loop(model).inputs[1] is not None


def test_a_limit_that_changes_stays() -> None:
    model = model_of("""(float[2] x) => (float[2] y) <int32 zero = {0}, int32 one = {1}, int32 n = {5}> {
        go = Less(zero, n)
        a, b, y = Loop(, go, zero, n, x) <
            body = step (int64 k, bool c, int32 i, int32 limit, float[2] v)
                    => (bool on, int32 next, int32 smaller, float[2] more) {
                more = Add(v, v)
                next = Add(i, one)
                smaller = Sub(limit, one)
                on = Less(next, smaller)
            }
        >
    }""")
    expected = run(model, x=np.ones(2, np.float32))
    count_steps(model)
    assert loop(model).inputs[1] is not None
    np.testing.assert_array_equal(run(model, x=np.ones(2, np.float32))[0], expected[0])


def test_a_counter_that_is_read_stays() -> None:
    model = model_of("""(float[T, 1] x, int32 n) => (int32 last, float[K] total)
        <int32 zero = {0}, int32 one = {1}, float[1] nothing = {0.0}> {
        go = Less(zero, n)
        last, total = Loop(, go, zero, nothing) <
            body = step (int64 k, bool c, int32 i, float[1] sum) => (bool on, int32 next, float[1] more) {
                row = Gather(x, i)
                more = Add(sum, row)
                next = Add(i, one)
                on = Less(next, n)
            }
        >
    }""")
    inputs = {"x": X, "n": np.array(4, np.int32)}
    expected = run(model, **inputs)
    counted = drop_unused(count_steps(model))
    assert loop(counted).inputs[1] is None
    for wanted, got in zip(expected, run(counted, **inputs), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_whole_axes_are_left_out_of_slices() -> None:
    model = model_of("""(float[T, 9] x) => (float[A, B] y, float[C, D] z)
        <int64[2] starts = {0, 3}, int64[2] ends = {2147483647, 6}, int64[2] axes = {0, 1},
         int64[2] tail = {1, 3}> {
        y = Slice(x, starts, ends, axes)
        z = Slice(x, tail, ends, axes)
    }""")
    x = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    expected = run(model, x=x)
    after = drop_unused(drop_whole_slices(model))
    first, second = [node for node in after.graph if node.op_type == "Slice"]
    assert [ir.convenience.get_const_tensor(value).numpy().tolist() for value in first.inputs[1:]] == [  # type: ignore[union-attr, arg-type]
        [3],
        [6],
        [1],
    ]
    assert ir.convenience.get_const_tensor(second.inputs[1]).numpy().tolist() == [1, 3]  # type: ignore[union-attr, arg-type]
    for wanted, got in zip(expected, run(after, x=x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_an_axis_read_backwards_keeps_its_size() -> None:
    model = model_of("""(float[N, T, 3] x) => (float[A, B, C] y)
        <int64[1] start = {-1}, int64[1] end = {-9223372036854775808}, int64[1] axis = {1}> {
        y = Slice(x, start, end, axis, start)
    }""")
    assert str(model.graph.outputs[0].shape) == "[N,T,3]"


@pytest.mark.parametrize(("axis", "count"), [(1, 0), (0, 2)])
def test_what_is_read_backwards_twice_is_not(axis: int, count: int) -> None:
    model = model_of(f"""(float[N, T, 3] x) => (float[A, B, C] y)
        <int64[1] start = {{-1}}, int64[1] end = {{-9223372036854775808}}, int64[1] axis = {{1}},
         int64[1] other = {{{axis}}}> {{
        once = Slice(x, start, end, axis, start)
        twice = Slice(once, start, end, other, start)
        y = Neg(twice)
    }}""")
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    (expected,) = run(model, x=x)
    after = drop_unused(drop_whole_slices(model))
    assert [node.op_type for node in after.graph].count("Slice") == count
    np.testing.assert_array_equal(run(after, x=x)[0], expected)
