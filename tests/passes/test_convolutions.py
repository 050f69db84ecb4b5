"""Convolutions as converters write them: biases added after, one axis too many, cropped results."""

from __future__ import annotations

import pytest
from pass_graphs import (
    apply,
    assert_equivalent,
    assert_recipes_follow,
    floats,
    hub,
    ints,
    node_of,
    number,
    operators,
    recipes_of,
)

from bridge.hub.recipe import Source
from bridge.passes.conv1d import lower_rank_of_windows
from bridge.passes.conv_bias import fuse_conv_bias
from bridge.passes.conv_transpose_crop import fuse_crop
from bridge.passes.fold_trained import fold_moves
from bridge.passes.moves import simplify_moves
from bridge.passes.zero_bias import drop_zero_bias


def test_bias_on_the_channels_joins() -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float[N,3,3,3] y) { b4 = Reshape(b, wide) c = Conv(x, w) y = Add(b4, c) }",
        trained={"w": floats(3, 2, 3, 3), "b": floats(3)},
        constants={"wide": ints(1, 3, 1, 1)},
    )
    found = apply(model, fold_moves, fuse_conv_bias, fold_moves)
    assert operators(found) == ["Conv"]
    assert recipes_of(found) == {
        name: Source(path) for name, path in zip(recipes_of(found), "wb", strict=True)
    }
    assert_equivalent(model, found)


def test_bias_behind_a_transpose_joins() -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float[N,3,3,3] y)"
        " { c = Conv(x, w) t = Transpose <perm=[0,2,3,1]> (c) y = Add(t, b) }",
        trained={"w": floats(3, 2, 3, 3), "b": floats(3)},
    )
    found = apply(model, fuse_conv_bias)
    assert operators(found) == ["Conv", "Transpose"]
    assert len(node_of(found, "Conv").inputs) == 3
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("text", "bias"),
    [
        ("c = Conv(x, w) y = Add(c, b)", floats(3)),
        ("c = Conv(x, w) y = Add(c, b)", floats(1, 3, 3, 1)),
        ("c = Conv(x, w, b0) y = Add(c, b)", floats(3, 1, 1)),
        ("c = Conv(x, w) d = Add(c, b) y = Mul(d, c)", floats(3, 1, 1)),
        ("c = Conv(x, w) y = Sub(c, b)", floats(3, 1, 1)),
        ("c = Conv(x, w) t = Transpose <perm=[0,2,3,1]> (c) y = Add(t, b)", floats(3, 1, 1)),
    ],
)
def test_what_is_no_bias_stays(text: str, bias: object) -> None:
    model = hub(
        f"(float[N,2,5,5] x) => (float[N,3,3,3] y) {{ {text} }}",
        trained={"w": floats(3, 2, 3, 3), "b0": floats(3), "b": bias},  # type: ignore[dict-item]
    )
    found = apply(model, fuse_conv_bias)
    assert operators(found) == operators(model)


def test_zero_bias_goes_unless_it_is_trained() -> None:
    text = "(float[N,2,5,5] x) => (float[N,3,3,3] y) { y = Conv(x, w, b) }"
    weight = {"w": floats(3, 2, 3, 3)}
    constant = hub(text, trained=weight, constants={"b": number(0.0, 3)})
    found = apply(constant, drop_zero_bias)
    assert len(found.graph[0].inputs) == 2
    assert_equivalent(constant, found)
    for kept in (
        hub(text, trained={**weight, "b": number(0.0, 3)}),
        hub(text, trained=weight, constants={"b": floats(3)}),
    ):
        assert len(apply(kept, drop_zero_bias).graph[0].inputs) == 3


def test_gemm_without_bias_after_zeros() -> None:
    model = hub(
        "(float[N,2] x) => (float[N,3] y) { y = Gemm(x, w, b) }",
        trained={"w": floats(2, 3)},
        constants={"b": number(0.0, 3)},
    )
    found = apply(model, drop_zero_bias)
    assert len(found.graph[0].inputs) == 2
    assert_equivalent(model, found)


def test_keras_conv1d_becomes_one_dimensional() -> None:
    model = hub(
        "(float[N,9,2] x) => (float[N,7,3] y) {"
        " e = Unsqueeze(x, minus3) t = Transpose <perm=[0,3,1,2]> (e) k1 = Unsqueeze(k, first)"
        " w = Transpose <perm=[3,2,0,1]> (k1) c = Conv <kernel_shape=[1,3], dilations=[1,1]> (t, w)"
        " s = Squeeze(c, two) u = Transpose <perm=[0,2,1]> (s) y = Add(u, b) }",
        trained={"k": floats(3, 2, 3), "b": floats(3)},
        constants={"minus3": ints(-3), "first": ints(0), "two": ints(2)},
    )
    found = apply(model, fold_moves, lower_rank_of_windows, simplify_moves, fuse_conv_bias, fold_moves)
    assert operators(found) == ["Transpose", "Conv", "Transpose"]
    conv = node_of(found, "Conv")
    assert conv.attributes["kernel_shape"].as_ints() == (3,)
    assert len(conv.inputs) == 3
    (kernel,) = [each for name, each in recipes_of(found).items() if name != "b"]
    assert kernel.op == "transpose"  # type: ignore[union-attr]
    assert dict(kernel.attributes) == {"perm": (2, 1, 0)}  # type: ignore[union-attr]
    assert_equivalent(model, found)
    assert_recipes_follow(model, found)


def test_separable_convolution_is_lowered_from_the_last_to_the_first() -> None:
    model = hub(
        "(float[N,4,9] x) => (float[N,3,9] y) { e = Unsqueeze(x, two)"
        " d = Conv <group=4, pads=[0,1,0,1], kernel_shape=[1,3]> (e, dw)"
        " p = Conv(d, pw) y = Squeeze(p, two) }",
        trained={"dw": floats(4, 1, 1, 3), "pw": floats(3, 4, 1, 1)},
        constants={"two": ints(2)},
    )
    found = apply(model, lower_rank_of_windows, simplify_moves, fold_moves)
    assert [each for each in operators(found) if each != "Transpose"] == ["Conv", "Conv"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "window",
    [
        "MaxPool <kernel_shape=[1,2], strides=[1,2]> (e)",
        "AveragePool <kernel_shape=[1,3], strides=[1,2], pads=[0,1,0,1], count_include_pad=1> (e)",
        "ConvTranspose <strides=[1,2], output_padding=[0,1]> (e, w)",
    ],
)
def test_other_windows(window: str) -> None:
    model = hub(
        f"(float[N,4,9] x) => (float y) {{ e = Unsqueeze(x, two) c = {window} y = Squeeze(c, two) }}",
        trained={"w": floats(4, 3, 1, 3)},
        constants={"two": ints(2)},
    )
    found = apply(model, lower_rank_of_windows, simplify_moves, fold_moves)
    assert "Unsqueeze" not in operators(found)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "text",
    [
        "e = Unsqueeze(x, two) c = Conv <pads=[1,0,0,0]> (e, w2) y = Squeeze(c, two)",
        "e = Unsqueeze(x, two) c = Conv(e, w) s = Squeeze(c, two) t = Squeeze(c, two) y = Add(s, t)",
        "e = Unsqueeze(x, two) y = Conv(e, w)",
    ],
)
def test_windows_that_use_the_axis_stay(text: str) -> None:
    model = hub(
        f"(float[N,4,9] x) => (float y) {{ {text} }}",
        trained={"w": floats(3, 4, 1, 3), "w2": floats(3, 4, 2, 3)},
        constants={"two": ints(2)},
    )
    found = apply(model, lower_rank_of_windows)
    assert all(len(node.inputs[1].shape) == 4 for node in found.graph if node.op_type == "Conv")  # type: ignore[union-attr,arg-type]
    assert_equivalent(model, found)


def test_crop_is_padding() -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float y)"
        " { c = ConvTranspose <strides=[2,2]> (x, w) y = Slice(c, starts, ends, axes) }",
        trained={"w": floats(2, 3, 3, 3)},
        constants={"starts": ints(0, 1), "ends": ints(10, 2**40), "axes": ints(2, -1)},
    )
    found = apply(model, fuse_crop)
    assert operators(found) == ["ConvTranspose"]
    assert found.graph[0].attributes["pads"].as_ints() == (0, 1, 1, 0)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        (ints(0), ints(2), ints(1), ints(1)),
        (ints(0), ints(9), ints(2), ints(2)),
        (ints(4), ints(4), ints(2), ints(1)),
    ],
)
def test_slice_that_is_no_crop_stays(starts: object, ends: object, axes: object, steps: object) -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float y)"
        " { c = ConvTranspose <strides=[2,2]> (x, w) y = Slice(c, starts, ends, axes, steps) }",
        trained={"w": floats(2, 3, 3, 3)},
        constants={"starts": starts, "ends": ends, "axes": axes, "steps": steps},  # type: ignore[dict-item]
    )
    assert operators(apply(model, fuse_crop)) == ["ConvTranspose", "Slice"]
