"""Normalisations taken apart in the ways exporters and authors write them, and near misses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, number, operators

from bridge.hub.recipe import Array
from bridge.passes.fold_trained import fold_buffers
from bridge.passes.group_norm import recognise_group_norm
from bridge.passes.layer_norm import recognise_layer_norm

_NORMS = frozenset({"GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"})


class _Writer:
    """Lines of a graph's text; operands of sums and products come in a drawn order."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.constants: dict[str, Array] = {}

    def emit(self, expression: str, result: str = "") -> str:
        result = result or f"v{len(self.lines)}"
        self.lines.append(f"{result} = {expression}")
        return result

    def either(self, operator: str, left: str, right: str, result: str = "") -> str:
        pair = (left, right) if self.draw(st.booleans()) else (right, left)
        return self.emit(f"{operator}({pair[0]}, {pair[1]})", result)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def number(self, value: float) -> str:
        shape = self.draw(st.sampled_from([(), (1,), (1, 1)]))
        return self.constant(number(value, *shape))

    def axes(self, axes: tuple[int, ...], rank: int) -> str:
        sign = self.draw(st.sampled_from([0, rank]))
        return self.constant(ints(*(axis - sign for axis in self.draw(st.permutations(axes)))))

    def mean(self, value: str, axes: tuple[int, ...], rank: int, count: int) -> str:
        kind = self.draw(st.sampled_from(["mean", "mean", "squeezed", "sum", "scaled"]))
        if kind == "mean":
            return self.emit(f"ReduceMean <keepdims=1> ({value}, {self.axes(axes, rank)})")
        if kind == "squeezed":
            flat = self.emit(f"ReduceMean <keepdims=0> ({value}, {self.axes(axes, rank)})")
            return self.emit(f"Unsqueeze({flat}, {self.axes(axes, rank)})")
        total = self.emit(f"ReduceSum <keepdims=1> ({value}, {self.axes(axes, rank)})")
        if kind == "sum":
            return self.emit(f"Div({total}, {self.number(count)})")
        return self.either("Mul", total, self.number(float(np.float32(1 / count))))

    def square(self, value: str) -> str:
        if self.draw(st.booleans()):
            return self.emit(f"Mul({value}, {value})")
        return self.emit(f"Pow({value}, {self.number(2.0)})")

    def root(self, value: str) -> str:
        if self.draw(st.booleans()):
            return self.emit(f"Sqrt({value})")
        return self.emit(f"Pow({value}, {self.number(0.5)})")

    def inverse_root(self, value: str) -> str:
        kind = self.draw(st.sampled_from(["reciprocal", "one over", "power", "root of inverse"]))
        if kind == "power":
            return self.emit(f"Pow({value}, {self.number(-0.5)})")
        if kind == "root of inverse":
            return self.emit(f"Sqrt({self.emit(f'Reciprocal({value})')})")
        root = self.root(value)
        if kind == "reciprocal":
            return self.emit(f"Reciprocal({root})")
        return self.emit(f"Div({self.number(1.0)}, {root})")

    def over_deviation(self, centred: str, variance: str, gamma: str | None) -> str:
        """The centred data over the root of a variance, times gamma at a drawn place."""
        kind = self.draw(st.sampled_from(["divide", "scale first", "scale inverse", "multiply"]))
        if gamma is None and kind.startswith("scale"):
            kind = "multiply"
        if kind == "divide":
            normal = self.emit(f"Div({centred}, {self.root(variance)})")
        elif kind == "scale first":
            assert gamma is not None
            return self.emit(f"Div({self.either('Mul', centred, gamma)}, {self.root(variance)})")
        elif kind == "scale inverse":
            assert gamma is not None
            return self.either("Mul", centred, self.either("Mul", self.inverse_root(variance), gamma))
        else:
            normal = self.either("Mul", centred, self.inverse_root(variance))
        return normal if gamma is None else self.either("Mul", normal, gamma)


@st.composite
def layer_norms(draw: st.DrawFn) -> tuple[str, dict[str, Array], dict[str, Array], float, int]:
    """The text of a layer or RMS normalisation, its weights, constants, epsilon and axes."""
    write = _Writer(draw)
    count = draw(st.sampled_from([1, 2]))
    axes = (1, 2)[2 - count :]
    sizes = (5, 8)[2 - count :]
    centred = draw(st.booleans())
    epsilon = draw(st.sampled_from([1e-12, 1e-6, 1e-5, 3e-5, 1e-3, 0.1]))
    elements = int(np.prod(sizes))
    trained = {}
    shape = draw(st.sampled_from([sizes, (1,) * (3 - count) + sizes]))
    if draw(st.booleans()):
        trained["gamma"] = floats(*shape)
    size = "x"
    if centred:
        size = write.emit(f"Sub(x, {write.mean('x', axes, 3, elements)})")
    again = size
    if centred and draw(st.booleans()):
        again = write.emit(f"Sub(x, {write.emit(f'ReduceMean <keepdims=1> (x, {write.axes(axes, 3)})')})")
        size = write.emit(f"Sub(x, {write.emit(f'ReduceMean <keepdims=1> (x, {write.axes(axes, 3)})')})")
    mean = write.mean(write.square(size), axes, 3, elements)
    variance = write.either("Add", mean, write.number(epsilon))
    result = write.over_deviation(again, variance, "gamma" if trained else None)
    if centred and draw(st.booleans()):
        trained["beta"] = floats(*shape, seed=1)
        result = write.either("Add", result, "beta")
    write.lines[-1] = write.lines[-1].replace(f"{result} =", "y =")
    return "\n".join(write.lines), trained, write.constants, epsilon, count if centred else -count


@settings(max_examples=80, deadline=None)
@given(case=layer_norms())
def test_layer_and_rms_norms_arrive_whole(
    case: tuple[str, dict[str, Array], dict[str, Array], float, int],
) -> None:
    text, trained, constants, epsilon, axes = case
    model = hub(f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}", trained=trained, constants=constants)
    found = apply(model, recognise_layer_norm, fold_buffers)
    operator = "LayerNormalization" if axes > 0 else "RMSNormalization"
    assert operators(found) == [operator]
    node = node_of(found, operator)
    assert node.attributes.get_float("epsilon") == pytest.approx(epsilon, rel=1e-6)
    assert node.attributes.get_int("axis") == -abs(axes)
    assert len(node.inputs) == 2 + ("beta" in trained)
    assert_equivalent(model, found)


@st.composite
def group_norms(draw: st.DrawFn) -> tuple[str, dict[str, Array], dict[str, Array], bool]:
    """The text of a group normalisation of 8 channels, and whether they are the last axis."""
    write = _Writer(draw)
    last = draw(st.booleans())
    groups = draw(st.sampled_from([1, 2, 4, 8]))
    within = 8 // groups
    trained: dict[str, Array] = {}
    joined = not last and draw(st.booleans())
    if last:
        inner, axes, place = (-1, 6, 7, groups, within), (1, 2, 4), (1, 1, 1, groups, within)
    elif joined:
        inner, axes, place = (-1, groups, within * 42), (2,), ()
    else:
        inner, axes, place = (-1, groups, within, 6, 7), (2, 3, 4), (1, groups, within, 1, 1)
    inside = not joined and draw(st.booleans())
    outside_shape = (8,) if last else (8, 1, 1)
    has_gamma, has_beta = draw(st.booleans()), draw(st.booleans())
    if has_gamma:
        trained["gamma"] = floats(*(place if inside else outside_shape))
    if has_beta:
        trained["beta"] = floats(*(place if inside else outside_shape), seed=1)
    x = write.emit(f"Reshape(x, {write.constant(ints(*inner))})")
    if joined and draw(st.booleans()):
        one, zero = write.constant(np.ones(groups, np.float32)), write.constant(np.zeros(groups, np.float32))
        normal = write.emit(f"InstanceNormalization <epsilon=0.001> ({x}, {one}, {zero})")
    else:
        elements = 42 * within
        centred = write.emit(f"Sub({x}, {write.mean(x, axes, len(inner), elements)})")
        mean = write.mean(write.square(centred), axes, len(inner), elements)
        variance = write.either("Add", mean, write.number(0.001))
        gamma = "gamma" if inside and has_gamma else None
        normal = write.over_deviation(centred, variance, gamma)
    if inside and has_beta:
        normal = write.either("Add", normal, "beta")
    outer = (-1, 6, 7, 8) if last else (-1, 8, 6, 7)
    result = write.emit(f"Reshape({normal}, {write.constant(ints(*outer))})")
    if not inside and has_gamma:
        result = write.either("Mul", result, "gamma")
    if not inside and has_beta:
        result = write.either("Add", result, "beta")
    write.lines[-1] = write.lines[-1].replace(f"{result} =", "y =")
    return "\n".join(write.lines), trained, write.constants, last


@settings(max_examples=60, deadline=None)
@given(case=group_norms())
def test_group_norms_arrive_whole(case: tuple[str, dict[str, Array], dict[str, Array], bool]) -> None:
    text, trained, constants, last = case
    shape = "N,6,7,8" if last else "N,8,6,7"
    model = hub(
        f"(float[{shape}] x) => (float[{shape}] y) {{ {text} }}", trained=trained, constants=constants
    )
    found = apply(model, recognise_group_norm, recognise_layer_norm, fold_buffers)
    expected = {"GroupNormalization": 1} | ({"Transpose": 2} if last else {})
    assert Counter(operators(found)) == expected
    assert_equivalent(model, found)


def test_folded_form_of_two_axes_of_an_image() -> None:
    """Keras' LayerNormalization over the sides of an image in channels-last."""
    text = """
        m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)
        w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) i = Reciprocal(r)
        s = Mul(i, gamma) p = Mul(x, s) n = Neg(m) u = Mul(n, s) b = Add(u, beta) y = Add(p, b)
    """
    model = hub(
        f"(float[N,6,7,8] x) => (float[N,6,7,8] y) {{ {text} }}",
        trained={"gamma": floats(1, 6, 7, 1), "beta": floats(1, 6, 7, 1, seed=1)},
        constants={"eps": number(1e-3), "axes": ints(1, 2)},
    )
    found = apply(model, recognise_layer_norm, fold_buffers)
    assert operators(found) == ["Transpose", "LayerNormalization", "Transpose"]
    assert_equivalent(model, found)


def test_channels_of_an_image() -> None:
    """The LayerNorm2d of ConvNeXt."""
    text = """
        m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Pow(d, two)
        w = ReduceMean <keepdims=1> (q, axes) e = Sub(x, m) v = Add(w, eps) r = Sqrt(v)
        n = Div(e, r) k = Mul(gamma, n) y = Add(k, beta)
    """
    model = hub(
        f"(float[N,8,6,7] x) => (float[N,8,6,7] y) {{ {text} }}",
        trained={"gamma": floats(8, 1, 1), "beta": floats(8, 1, 1, seed=1)},
        constants={"eps": number(1e-6), "axes": ints(1), "two": number(2.0)},
    )
    found = apply(model, recognise_layer_norm, fold_buffers)
    assert operators(found) == ["Transpose", "LayerNormalization", "Transpose"]
    assert_equivalent(model, found)


def test_instance_norm_with_weights_of_channels() -> None:
    text = """
        m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)
        w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)
        n = Div(d, r) k = Mul(n, gamma) y = Add(k, beta)
    """
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}",
        trained={"gamma": floats(5, 1), "beta": floats(5, 1, seed=1)},
        constants={"eps": number(1e-5), "axes": ints(-1)},
    )
    found = apply(model, recognise_layer_norm, fold_buffers)
    assert operators(found) == ["InstanceNormalization"]
    assert_equivalent(model, found)


@pytest.mark.parametrize("widened", ["scaled narrow", "scaled wide"])
def test_rms_norm_of_half_precision(widened: str) -> None:
    """Llama narrows before the weight, Gemma (with `1 + w`) after it."""
    head = """
        f = Cast <to=1> (x) q = Pow(f, two) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps)
        r = Sqrt(v) i = Reciprocal(r) n = Mul(f, i)
    """
    tail = {
        "scaled narrow": "h = Cast <to=10> (n) y = Mul(gamma, h)",
        "scaled wide": "g = Cast <to=1> (gamma) o = Add(g, one) z = Mul(n, o) y = Cast <to=10> (z)",
    }[widened]
    model = hub(
        f"(float16[N,5,8] x) => (float16[N,5,8] y) {{ {head} {tail} }}",
        trained={"gamma": floats(8).astype(np.float16)},
        constants={"eps": number(1e-6), "axes": ints(-1), "two": number(2.0), "one": number(1.0)},
    )
    found = apply(model, recognise_layer_norm)
    narrow = ["RMSNormalization"]
    wide = ["Cast", "Cast", "Add", "RMSNormalization", "Cast"]
    assert sorted(operators(found)) == sorted(narrow if widened == "scaled narrow" else wide)


_MISSES = {
    "epsilon outside the root": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) r = Sqrt(w) v = Add(r, eps) y = Div(d, v)",
    "unbiased variance": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceSum <keepdims=1> (q, axes) u = Div(w, seven) v = Add(u, eps) r = Sqrt(v) y = Div(d, r)",
    "variance of another axis": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, other) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "mean of another axis": "m = ReduceMean <keepdims=1> (x, other) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "mean of another tensor": "m = ReduceMean <keepdims=1> (z, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "variance of another tensor": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m)"
    " a = ReduceMean <keepdims=1> (z, axes) b = Sub(z, a) q = Mul(b, b)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "mean square of another tensor": "q = Mul(z, z) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps)"
    " r = Sqrt(v) y = Div(x, r)",
    "epsilon outside the root of the mean square": "q = Mul(x, x) w = ReduceMean <keepdims=1> (q, axes)"
    " r = Sqrt(w) v = Add(r, eps) y = Div(x, r)",
    "sum of squares": "q = Mul(x, x) w = ReduceSum <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"
    " y = Div(x, r)",
    "no root": "q = Mul(x, x) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) y = Div(x, v)",
    "raw data over the deviation": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(x, r)",
    "difference of means": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(x, x)"
    " u = ReduceMean <keepdims=1> (q, axes) n = Mul(m, m) w = Sub(u, n) v = Add(w, eps) r = Sqrt(v)"
    " y = Div(d, r)",
    "epsilon that is computed": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) e = ReduceMax <keepdims=1> (q, axes) v = Add(w, e) r = Sqrt(v)"
    " y = Div(d, r)",
    "batch": "m = ReduceMean <keepdims=1> (x, zero) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, zero) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "epsilon that widens": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, wide) r = Sqrt(v) t = Div(d, r)"
    " y = ReduceSum <keepdims=0> (t, zero)",
    "cube": "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Pow(d, three)"
    " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
    "almost a square": "q = Pow(x, almost) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"
    " y = Div(x, r)",
}


@pytest.mark.parametrize("text", _MISSES.values(), ids=_MISSES)
def test_near_misses_stay(text: str) -> None:
    model = hub(
        f"(float[N,5,8] x, float[N,5,8] z) => (float[N,5,8] y) {{ {text} }}",
        constants={
            "eps": number(1e-5),
            "wide": number(1e-5, 1, 1, 1, 1),
            "seven": number(7.0),
            "three": number(3.0),
            "almost": number(2.0001),
            "axes": ints(-1),
            "other": ints(1),
            "zero": ints(0),
        },
    )
    found = apply(model, recognise_group_norm, recognise_layer_norm)
    assert _NORMS.isdisjoint(operators(found))


def test_what_others_read_stays() -> None:
    """Normalised data that is read before gamma as well keeps gamma outside."""
    text = """
        m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m) q = Mul(d, d)
        w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) n = Div(d, r)
        y = Mul(n, gamma) z = Add(n, m)
    """
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y, float[N,5,8] z) {{ {text} }}",
        trained={"gamma": floats(8)},
        constants={"eps": number(1e-5), "axes": ints(-1)},
    )
    found = apply(model, recognise_layer_norm)
    assert sorted(operators(found)) == ["Add", "LayerNormalization", "Mul", "ReduceMean"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("inner", "axes", "outer"),
    [
        ((-1, 3, 112), (2,), (-1, 8, 6, 7)),
        ((-1, 8, 2, 21), (2, 3), (-1, 8, 7, 6)),
        ((-1, 2, 4, 42), (3,), (-1, 8, 6, 7)),
        ((-1, 2, 4, 42), (1, 3), (-1, 8, 6, 7)),
    ],
)
def test_groups_of_another_kind_stay(
    inner: tuple[int, ...], axes: tuple[int, ...], outer: tuple[int, ...]
) -> None:
    """Groups across channels, another shape after them, other axes."""
    text = """
        g = Reshape(x, inner) m = ReduceMean <keepdims=1> (g, axes) d = Sub(g, m) q = Mul(d, d)
        w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) n = Div(d, r) y = Reshape(n, outer)
    """
    model = hub(
        f"(float[N,8,6,7] x) => (float y) {{ {text} }}",
        constants={"eps": number(1e-5), "axes": ints(*axes), "inner": ints(*inner), "outer": ints(*outer)},
    )
    found = apply(model, recognise_group_norm)
    assert "GroupNormalization" not in operators(found)
