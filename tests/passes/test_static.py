"""Shapes, arithmetic on shapes, and constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import assert_equivalent, floats, hub, ints, node_of, number, operators

from bridge.errors import BridgeError
from bridge.hub.graph import integers
from bridge.passes.computed_shapes import constant_target
from bridge.passes.constants import lift_constants
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes, reshaped
from bridge.passes.static import fold_static


def folded(model: ir.Model) -> ir.Model:
    return fold_static(attach_recipes(lift_constants(model.clone(deep_copy=True))))


def shape_of(model: ir.Model, name: str) -> list[int | str | None]:
    (value,) = [output for node in model.graph for output in node.outputs if output.name == name]
    assert value.shape is not None
    return [axis if isinstance(axis, int) else axis.value for axis in value.shape]


def test_reshape_to_the_run_time_batch_is_constant() -> None:
    """The spelling of torch's exporter: sizes are read, put together and used as a target."""
    model = hub(
        "(float[N,3,4,5] x) => (float y) { s = Shape <start=0, end=1> (x) n = Squeeze(s)"
        " k = Constant <value_ints=[-1]> () r = Reshape(n, k) f = Constant <value_ints=[60]> ()"
        " t = Concat <axis=0> (r, f) y = Reshape <allowzero=1> (x, t) }"
    )
    found = folded(model)
    assert operators(found) == ["Reshape"]
    assert integers(found.graph[0].inputs[1]) == (-1, 60)
    assert shape_of(found, "y") == ["N", 60]
    assert_equivalent(model, found)


def test_reshape_as_tf2onnx_spells_it() -> None:
    model = hub(
        "(float[N,3,4,5] x) => (float y) { s = Shape(x) g = Gather(s, order) c = Cast <to=6> (g)"
        " b = Slice(c, zero, one, zero) t = Concat <axis=0> (b, width) l = Cast <to=7> (t)"
        " p = Transpose <perm=[0,2,3,1]> (x) y = Reshape(p, l) }",
        constants={
            "order": ints(0, 2, 3, 1),
            "zero": ints(0),
            "one": ints(1),
            "width": np.asarray([60], np.int32),
        },
    )
    found = folded(model)
    assert operators(found) == ["Transpose", "Reshape"]
    assert_equivalent(model, found)


def test_two_free_axes_are_copied_or_left() -> None:
    both = hub(
        "(float[N,T,6] x) => (float y) { s = Shape(x) a = Slice(s, zero, two, zero)"
        " t = Concat <axis=0> (a, halves) y = Reshape(x, t) }",
        constants={"zero": ints(0), "two": ints(2), "halves": ints(2, 3)},
    )
    found = folded(both)
    assert integers(found.graph[0].inputs[1]) == (0, 0, 2, 3)
    assert_equivalent(both, found)
    product = hub(
        "(float[N,T,6] x) => (float y) { s = Shape(x) a = Gather(s, zero) b = Gather(s, one) m = Mul(a, b)"
        " t = Concat <axis=0> (m, six) y = Reshape(x, t) }",
        constants={"zero": ints(0), "one": ints(1), "six": ints(6)},
    )
    found = folded(product)
    assert operators(found) == ["Reshape"]
    assert integers(found.graph[0].inputs[1]) == (-1, 6)
    assert_equivalent(product, found)


def test_symbols_cancel_in_a_reshape() -> None:
    model = hub(
        "(float[N,6,7] x) => (float y) { a = Reshape(x, to) y = Relu(a) }", constants={"to": ints(0, -1)}
    )
    found = folded(model)
    assert shape_of(found, "y") == ["N", 42]


def test_axis_names_of_a_converter_are_not_trusted() -> None:
    model = hub("(float[N,3] x) => (float[unk__7,3] y) { a = Neg(x) y = Relu(a) }")
    model.graph[0].outputs[0].shape = ir.Shape(["unk__3", 3])
    found = infer_shapes(model)
    assert shape_of(found, "a") == ["N", 3]
    assert shape_of(found, "y") == ["N", 3]


def test_contradiction_is_an_error() -> None:
    model = hub("(float[N,3] x) => (float[N,4] y) { y = Relu(x) }")
    with pytest.raises(BridgeError, match="contradict"):
        infer_shapes(model)


def test_integer_tables_of_rank_two_do_not_stop_inference() -> None:
    model = hub(
        "(float[4,6] x) => (float y) { d = Sub(rows, columns) b = Less(d, zero) f = Cast <to=1> (b)"
        " y = Add(x, f) }",
        constants={
            "rows": np.arange(4, dtype=np.int64).reshape(4, 1),
            "columns": np.arange(6, dtype=np.int64).reshape(1, 6),
            "zero": np.asarray(0, np.int64),
        },
    )
    found = folded(model)
    assert operators(found) == ["Add"]
    assert_equivalent(model, found)


def test_zero_bias_of_torchs_exporter_is_a_constant() -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float y) { s = Shape <start=0, end=1> (w) k = Constant <value_ints=[1]> ()"
        " e = Expand(s, k) z = Constant <value = float {0}> () c = CastLike(z, x) b = Expand(c, e)"
        " y = Conv(x, w, b) }",
        trained={"w": floats(3, 2, 3, 3)},
    )
    found = folded(model)
    assert operators(found) == ["Conv"]
    bias = found.graph[0].inputs[2]
    assert bias is not None
    assert bias.const_value is not None
    assert bias.const_value.numpy().tolist() == [0, 0, 0]
    assert_equivalent(model, found)


def test_trained_tensors_are_no_constants() -> None:
    model = hub(
        "(float[N,3] x) => (float y) { a = Mul(w, two) y = Add(x, a) }",
        trained={"w": floats(3)},
        constants={"two": number(2.0)},
    )
    assert operators(folded(model)) == ["Mul", "Add"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r = RandomNormal <shape=[3]> () y = Add(x, r)", ["RandomNormal", "Add"]),
        ("a = Dropout(c, half, true) y = Add(x, a)", ["Dropout", "Add"]),
        ("a = Exp(c) y = Add(x, a)", ["Add"]),
        ("a = Expand(c, huge) s = ReduceSum(a) y = Add(x, s)", ["Expand", "ReduceSum", "Add"]),
    ],
)
def test_what_is_folded(text: str, expected: list[str]) -> None:
    model = hub(
        f"(float[N,3] x) => (float y) {{ {text} }}",
        constants={"c": floats(3), "half": number(0.5), "true": np.asarray(True), "huge": ints(100_000, 3)},
    )
    assert operators(folded(model)) == expected


def test_constant_of_a_branch_stays_in_it() -> None:
    model = hub(
        "(bool c, float[3] x) => (float y) { y = If(c) <then_branch = t () => (float[3] a) {"
        " k = Constant <value = float[3] {1, 2, 3}> () a = Identity(k) },"
        " else_branch = e () => (float[3] b) { b = Neg(x) }> }"
    )
    found = folded(model)
    assert operators(found) == ["If"]
    assert_equivalent(model, found)


def test_constant_that_is_an_output() -> None:
    model = hub(
        "(float[N] x) => (float[N] y, float[2] k) { y = Neg(x) k = Constant <value_floats=[1.0,2.0]> () }"
    )
    found = folded(model)
    assert operators(found) == ["Neg", "Identity"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("source", "target", "allowzero", "expected"),
    [
        (["N", 3, 4], (0, -1), False, ["N", 12]),
        (["N", 3, 4], (-1, 12), False, ["N", 12]),
        (["N", 3, 4], (-1, 6), False, [None, 6]),
        (["N", "T", 4], ("N", -1), False, ["N", None]),
        (["N", "T", 4], ("N", "T", -1), False, ["N", "T", 4]),
        (["N", "T", 4], (-1, "T", 4), False, ["N", "T", 4]),
        (["N", "N"], ("N", -1), False, ["N", "N"]),
        ([None, 3], (-1, 3), False, [None, 3]),
        ([0, 3], (0, 7), True, [0, 7]),
        ([4, 3], (5, -1), False, [5, None]),
    ],
)
def test_axes_of_a_reshape(
    source: list[int | str | None], target: tuple[int | str | None, ...], allowzero: bool, expected: object
) -> None:
    assert reshaped(source, target, allowzero) == expected


@settings(max_examples=200, deadline=None)
@given(
    source=st.lists(st.integers(1, 4) | st.sampled_from(["N", "T"]), min_size=1, max_size=4),
    result=st.lists(st.integers(0, 6) | st.sampled_from(["N", "T"]) | st.none(), min_size=1, max_size=4),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_constant_target_gives_the_result(
    source: list[int | str | None], result: list[int | str | None], sizes: tuple[int, int]
) -> None:
    """Wherever a target is given, reshaping with it to a result that exists gives that result."""
    target = constant_target(source, result)
    if target is None:
        return
    extent = {"N": sizes[0], "T": sizes[1]}
    before = [axis if isinstance(axis, int) else extent[axis] for axis in source if axis is not None]
    wanted = [axis if isinstance(axis, int) else extent.get(str(axis)) for axis in result]
    total, unknown = int(np.prod(before)), wanted.count(None)
    known = int(np.prod([axis for axis in wanted if axis is not None]))
    if unknown > 1 or (unknown == 1 and total % known) or (unknown == 0 and total != known):
        return
    wanted = [total // known if axis is None else axis for axis in wanted]
    filled = [before[axis] if entry == 0 else entry for axis, entry in enumerate(target)]
    assert list(np.zeros(before).reshape(filled).shape) == wanted


def test_every_value_is_typed_and_shaped_after_folding() -> None:
    model = hub(
        "(float[N,2,H,W] x) => (float y) { a = Conv <pads=[1,1,1,1]> (x, w) b = Relu(a)"
        " c = MaxPool <kernel_shape=[2,2], strides=[2,2]> (b) y = Flatten(c) }",
        trained={"w": floats(3, 2, 3, 3)},
    )
    found = folded(model)
    for node in found.graph:
        for output in node.outputs:
            assert output.dtype is not None
            assert output.shape is not None
    assert shape_of(found, "b") == shape_of(found, "a")
    assert node_of(found, "MaxPool").outputs[0].shape is not None
