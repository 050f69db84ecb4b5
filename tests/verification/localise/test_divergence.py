"""The first wrong node between two traces, with and without recorded names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from traces import Recorder, end, named, weights

from bridge.verification.localise.alike import Index
from bridge.verification.localise.divergence import Divergence, first_divergence
from bridge.verification.localise.pairing import Pairing, Status, pair_by_anchor, pair_by_value
from bridge.verification.localise.trace import Trace

Array = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 1e-6


def by_value(source: Trace, target: Trace) -> list[Pairing]:
    return pair_by_value(source, target, Index([value.array for value in source.values]), TOLERANCE)


def diverge(source: Trace, target: Trace) -> Divergence:
    found = first_divergence(source, target, by_value(source, target), [(end(source), end(target))])
    assert found is not None
    return found


def feed(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((4, 6))


def normalise(x: Array, scale: Array, shift: Array, epsilon: float = 1e-5) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return np.asarray(centred / deviation * scale + shift)


def fused(**_: Any) -> Trace:
    """Dense, layer normalisation in one node, ReLU, a residual connection, dense."""
    r = Recorder(x=feed())
    for name, array in weights().items():
        r.weight(name, array)
    r("dense", "linear", np.matmul, "x", "w", scope="dense")
    r("norm", "layer_norm", normalise, "dense", "scale", "shift", scope="norm")
    r("relu", "relu", lambda x: np.maximum(x, 0), "norm", scope="act")
    r("sum", "add", np.add, "relu", "dense", scope="add")
    r("out", "linear", np.matmul, "sum", "v", scope="head")
    return r.trace()


def spelled_out(
    *,
    epsilon: float = 1e-5,
    ceiling: float = np.inf,
    relu: bool = True,
    change: Callable[[Array], Array] | None = None,
) -> Trace:
    """The same network, layer normalisation by moments; with faults."""
    r = Recorder(x=feed())
    for name, array in weights().items():
        r.weight(name, array)
    r("dense/MatMul:0", "MatMul", np.matmul, "x", "w")
    if change is not None:
        r("dense/Reverse:0", "Reverse", change, "dense/MatMul:0")
    dense = "dense/MatMul:0" if change is None else "dense/Reverse:0"
    r("norm/mean:0", "Mean", lambda x: x.mean(-1, keepdims=True), dense)
    r("norm/centred:0", "Sub", np.subtract, dense, "norm/mean:0")
    r("norm/variance:0", "Mean", lambda x: (x**2).mean(-1, keepdims=True), "norm/centred:0")
    r("norm/add:0", "Add", lambda x: x + epsilon, "norm/variance:0")
    r("norm/rsqrt:0", "Rsqrt", lambda x: 1 / np.sqrt(x), "norm/add:0")
    r("norm/mul:0", "Mul", np.multiply, "norm/centred:0", "norm/rsqrt:0")
    r("norm/mul_1:0", "Mul", np.multiply, "norm/mul:0", "scale")
    r("norm/add_1:0", "Add", np.add, "norm/mul_1:0", "shift")
    before = "norm/add_1:0"
    if relu:
        r("act/Relu:0", "Relu", lambda x: np.clip(x, 0, ceiling), before)
        before = "act/Relu:0"
    r("add/add:0", "Add", np.add, before, dense)
    r("head/MatMul:0", "MatMul", np.matmul, "add/add:0", "v")
    return r.trace()


def test_right_models_of_other_spelling_have_no_divergence() -> None:
    source, target = fused(), spelled_out()
    assert first_divergence(source, target, by_value(source, target), [(end(source), end(target))]) is None
    assert first_divergence(target, source, by_value(target, source), [(end(target), end(source))]) is None


def test_a_fault_inside_an_operation_that_is_spelled_out() -> None:
    source, target = fused(), spelled_out(epsilon=1e-2)
    found = diverge(source, target)
    assert named(target, [found.target])[0].startswith("norm/")
    assert {name.split("/")[0] for name in named(target, found.target_block)} == {"norm"}
    assert found.source is not None
    assert source.values[found.source].name == "norm"
    assert [named(target, [position])[0] for _, position in found.last_equal] == ["dense/MatMul:0"]


def test_a_fault_after_an_operation_that_is_spelled_out() -> None:
    source, target = fused(), spelled_out(ceiling=0.5)
    found = diverge(source, target)
    assert named(target, [found.target]) == ["act/Relu:0"]
    assert found.source is not None
    assert named(source, [found.source]) == ["relu"]


def test_the_roles_may_be_exchanged() -> None:
    source, target = spelled_out(ceiling=0.5), fused()
    found = diverge(source, target)
    assert named(target, [found.target]) == ["relu"]
    assert found.source is not None
    assert named(source, [found.source]) == ["act/Relu:0"]


def test_a_missing_operation_is_named_on_the_side_that_has_it() -> None:
    source, target = fused(), spelled_out(relu=False)
    found = diverge(source, target)
    assert named(target, [found.target]) == ["add/add:0"]
    assert found.source is not None
    assert named(source, [found.source]) == ["relu"]


def test_channels_in_another_order() -> None:
    source, target = fused(), spelled_out(change=lambda x: x[:, ::-1])
    assert named(target, [diverge(source, target).target]) == ["dense/Reverse:0"]


def test_a_square_tensor_that_is_read_by_its_other_axis() -> None:
    def network(*, transposed: bool) -> Trace:
        r = Recorder(x=np.random.default_rng(3).standard_normal((2, 3, 5, 5)))
        r.weight("w", np.random.default_rng(4).standard_normal((5, 4)))
        order = (0, 1, 3, 2) if transposed else (0, 1, 2, 3)
        r("tanh", "tanh", np.tanh, "x")
        r("turn", "transpose", lambda x: x.transpose(order), "tanh")
        r("out", "linear", np.matmul, "turn", "w")
        return r.trace()

    source, target = network(transposed=False), network(transposed=True)
    found = diverge(source, target)
    assert named(target, [found.target]) == ["turn"]
    assert found.scrambled


def test_a_bias_that_is_left_out_is_named_by_the_module_that_stops_early() -> None:
    def network(bias: bool, scoped: bool) -> Trace:
        r = Recorder(x=feed())
        for name, array in weights().items():
            r.weight(name, array)
        r("conv/mul", "MatMul", np.matmul, "x", "w")
        if bias:
            r("conv/bias", "Add", np.add, "conv/mul", "shift")
        r("norm/scale", "Mul", np.multiply, "conv/bias" if bias else "conv/mul", "scale")
        return r.trace()

    source, target = network(True, True), network(False, True)
    found = diverge(source, target)
    assert named(target, [found.target]) == ["conv/mul"]
    assert found.source is not None
    assert named(source, [found.source]) == ["conv/bias"]


def test_a_value_that_equals_its_neighbour_instead() -> None:
    def network(second: float) -> Trace:
        r = Recorder(x=feed())
        r("one", "pool", lambda x: x * 2, "x", scope="one")
        r("two", "pool", lambda x: x * second, "x", scope="two")
        r("out", "cat", lambda a, b: np.concatenate((a, b), 1), "one", "two", scope="out")
        return r.trace()

    source, target = network(3), network(2)
    assert named(target, [diverge(source, target).target]) == ["two"]


def test_a_mask_spelled_otherwise_is_not_blamed() -> None:
    def network(constant: float, scale: float, *, apart: bool) -> Trace:
        r = Recorder(x=feed(), mask=(feed(5) > 0).astype(np.float64))
        r("hidden", "tanh", np.tanh, "x")
        r("deep", "square", np.square, "hidden")
        if apart:
            r("negated", "sub", lambda m: (1 - m) * -1e9, "mask")
        r("scores", "mul", lambda x: x * scale, "deep")
        if apart:
            r("masked", "add", np.add, "scores", "negated")
        else:
            r("masked", "where", lambda s, m: np.where(m > 0, s, -np.inf), "scores", "mask")
        r("weights", "softmax", lambda s: np.exp(s - s.max()) / np.exp(s - s.max()).sum(), "masked")
        return r.trace()

    right, source = network(0, 1.0, apart=True), network(0, 1.0, apart=False)
    assert first_divergence(source, right, by_value(source, right), [(end(source), end(right))]) is None
    assert named(right, [diverge(source, network(0, 2.0, apart=True)).target]) == ["scores"]


def test_an_output_that_is_given_too_early() -> None:
    def network(final: bool) -> Trace:
        r = Recorder(x=feed())
        r("a", "tanh", np.tanh, "x")
        if final:
            r("b", "exp", np.exp, "a")
        return r.trace()

    source, target = network(True), network(False)
    found = diverge(source, target)
    assert named(target, [found.target]) == ["a"]
    assert found.source is not None
    assert named(source, [found.source]) == ["b"]


def test_special_values_in_other_places_are_a_divergence() -> None:
    def network(lost: bool) -> Trace:
        r = Recorder(x=feed())
        with np.errstate(invalid="ignore"):
            r("log", "log", np.log, "x")
        r("clip", "clip", lambda x: np.fmax(x, -1) if lost else np.maximum(x, -1), "log")
        r("out", "mul", lambda x: x * 2, "clip")
        return r.trace()

    assert named(network(True), [diverge(network(False), network(True)).target]) == ["clip"]


@pytest.mark.parametrize("edges", [True, False])
def test_recorded_names_lead_to_the_first_that_differs(edges: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3))
    source = Recorder(x=x)
    source("conv:0", "Conv2D", lambda a: a * 2, "x")
    source("act:0", "Relu", lambda a: np.maximum(a, 0), "conv:0")
    source("out:0", "Mul", lambda a: a * 3, "act:0")
    target = Recorder(x=x.transpose(0, 3, 1, 2))

    def reads(*names: str) -> tuple[str, ...]:
        return names if edges else ()

    first = x.transpose(0, 3, 1, 2) * 2
    wrong = np.minimum(np.maximum(first, 0), 1)
    for name, array, read, origin in (
        ("conv", first, "x", "conv:0"),
        ("moved", first + 1, "conv", None),
        ("act", wrong, "conv", "act:0"),
        ("out", wrong * 3, "act", "out:0"),
    ):
        target(name, name, lambda *_, array=array: array, *reads(read), source=origin)
    ours, theirs = source.trace(), target.trace()
    permutations = dict.fromkeys(("conv", "act", "out"), (0, 3, 1, 2))
    pairings = pair_by_anchor(
        ours, theirs, permutations, Index([each.array for each in ours.values]), TOLERANCE
    )
    assert [each.status for each in pairings[1:]] == [
        Status.EQUAL,
        Status.UNKNOWN,
        Status.DIFFERENT,
        Status.DIFFERENT,
    ]
    found = first_divergence(ours, theirs, pairings, [(end(ours), end(theirs))])
    assert found is not None
    assert named(theirs, [found.target]) == ["act"]
    assert found.source is not None
    assert named(ours, [found.source]) == ["act:0"]
