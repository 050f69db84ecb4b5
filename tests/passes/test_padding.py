"""Padding split and merged as the targets' layers express it."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, number, operators

from bridge.hub import metadata
from bridge.passes.padding import merge_padding, split_padding
from bridge.passes.windows import resolve_auto_pad

Target = Literal["torch", "tf"]


def split(target: Target):  # type: ignore[no-untyped-def]
    return lambda model: split_padding(model, target=target)


def pads(model: object, op_type: str) -> tuple[int, ...] | None:
    attribute = node_of(model, op_type).attributes.get("pads")  # type: ignore[arg-type]
    return None if attribute is None else tuple(attribute.as_ints())


def conv(size: int | str, attributes: str):  # type: ignore[no-untyped-def]
    return hub(
        f"(float[N,2,{size},{size}] x) => (float y) {{ y = Conv <{attributes}> (x, w) }}",
        trained={"w": floats(3, 2, 3, 3)},
    )


@pytest.mark.parametrize(
    ("target", "size", "attributes", "expected"),
    [
        ("tf", 8, "pads=[1,1,1,1]", ["Conv"]),
        ("tf", 8, "pads=[1,1,1,1], strides=[2,2]", ["Pad", "Conv"]),
        ("tf", 7, "pads=[1,1,1,1], strides=[2,2]", ["Conv"]),
        ("tf", 8, "pads=[0,0,1,1], strides=[2,2]", ["Conv"]),
        ("tf", "H", "pads=[1,1,1,1]", ["Conv"]),
        ("tf", "H", "pads=[1,1,1,1], strides=[2,2]", ["Pad", "Conv"]),
        ("tf", 8, "pads=[2,2,2,2], dilations=[2,2]", ["Conv"]),
        ("tf", 8, "strides=[2,2]", ["Conv"]),
        ("torch", 8, "pads=[1,1,1,1], strides=[2,2]", ["Conv"]),
        ("torch", 8, "pads=[0,0,1,1], strides=[2,2]", ["Pad", "Conv"]),
        ("torch", 8, "pads=[1,0,2,0]", ["Pad", "Conv"]),
        ("torch", "H", 'auto_pad="SAME_UPPER", strides=[2,2]', ["Conv"]),
    ],
)
def test_convolution(target: Target, size: int | str, attributes: str, expected: list[str]) -> None:
    model = conv(size, attributes)
    if isinstance(size, str):
        found = apply(model, resolve_auto_pad, split(target))
        assert operators(found) == expected
        return
    found = apply(model, split(target))
    assert operators(found) == expected
    assert_equivalent(model, found)
    if expected == ["Pad", "Conv"] and target == "tf":
        assert pads(found, "Conv") is None
    if "pads=[1,0,2,0]" in attributes:
        assert pads(found, "Conv") == (1, 0, 1, 0)
        assert pads(found, "Pad") is None
    for node in found.graph:
        assert metadata.scope_of(node) == metadata.scope_of(model.graph[0])
    assert found.graph.outputs[0].name == "y"


def test_maximum_pads_with_what_it_never_chooses() -> None:
    model = hub(
        "(float[N,2,8,8] x) => (float y)"
        " { y = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x) }"
    )
    found = apply(model, split("tf"))
    assert operators(found) == ["Pad", "MaxPool"]
    assert node_of(found, "Pad").inputs[2] is not None
    assert_equivalent(model, found)
    after = hub(
        "(float[N,2,8,8] x) => (float y) { a = Relu(x)"
        " y = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (a) }"
    )
    found = apply(after, split("tf"))
    assert operators(found) == ["Relu", "Pad", "MaxPool"]
    assert len(node_of(found, "Pad").inputs) == 2
    assert_equivalent(after, found)


def test_rounding_up_is_padding_where_sizes_are_known() -> None:
    window = "kernel_shape=[3,3], strides=[2,2], ceil_mode=1"
    text = f"(float[N,2,{{0}},{{0}}] x) => (float y) {{{{ y = MaxPool <{window}> (x) }}}}"
    even, odd, free = (hub(text.format(size)) for size in (8, 9, "H"))
    found = apply(even, split("tf"))
    assert "ceil_mode" not in node_of(found, "MaxPool").attributes
    assert_equivalent(even, found)
    found = apply(odd, split("tf"))
    assert operators(found) == ["MaxPool"]
    assert pads(found, "MaxPool") is None
    assert_equivalent(odd, found)
    found = apply(free, split("tf"))
    assert node_of(found, "MaxPool").attributes.get_int("ceil_mode") == 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("pads=[1,1,1,1]", ["AveragePool"]),
        ("pads=[1,1,1,1], count_include_pad=1", ["Pad", "AveragePool"]),
        ("pads=[0,0,1,1], count_include_pad=1", ["Pad", "AveragePool"]),
    ],
)
def test_average(attributes: str, expected: list[str]) -> None:
    model = hub(
        f"(float[N,2,8,8] x) => (float y) {{ y = AveragePool <kernel_shape=[3,3], {attributes}> (x) }}"
    )
    found = apply(model, split("tf"))
    assert operators(found) == expected
    assert_equivalent(model, found)


@settings(max_examples=40, deadline=None)
@given(
    target=st.sampled_from(["torch", "tf"]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    begin=st.integers(0, 2),
    end=st.integers(0, 2),
    extra=st.integers(0, 2),
)
def test_transposed_convolution(
    target: Target, kernel: int, stride: int, begin: int, end: int, extra: int
) -> None:
    assume(extra < stride)
    assume(4 * stride + kernel + extra - begin - end > 0)
    model = hub(
        "(float[N,2,5] x) => (float y) { y = ConvTranspose"
        f" <strides=[{stride}], pads=[{begin},{end}], output_padding=[{extra}]> (x, w, b) }}",
        trained={"w": floats(2, 3, kernel), "b": floats(3)},
    )
    found = apply(model, split(target))
    assert_equivalent(model, found)
    again = apply(found, split(target))
    assert operators(again) == operators(found)
    layer = pads(found, "ConvTranspose")
    if target == "torch" and layer is not None and "Slice" in operators(found):
        assert layer[0] == layer[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p = Pad(x, one) y = Conv <strides=[2,2]> (p, w)", ["Conv"]),
        ("p = Pad(x, one) y = Conv <pads=[1,1,1,1]> (p, w)", ["Conv"]),
        ("p = Pad(x, one, zero) y = Conv(p, w)", ["Conv"]),
        ("p = Pad(x, spatial, , axes) y = Conv(p, w)", ["Conv"]),
        ("p = Pad(x, uneven) y = Conv <pads=[1,1,0,0]> (p, w)", ["Conv"]),
        ("p = Pad(x, uneven) y = Conv(p, w)", ["Pad", "Conv"]),
        ("p = Pad(x, one, five) y = Conv(p, w)", ["Pad", "Conv"]),
        ('p = Pad <mode="reflect"> (x, one) y = Conv(p, w)', ["Pad", "Conv"]),
        ("p = Pad(x, batch) y = Conv(p, w)", ["Pad", "Conv"]),
        (
            "p = Pad(x, one) c = Conv(p, w) n = ReduceMean(p) y = Add(c, n)",
            ["Pad", "Conv", "ReduceMean", "Add"],
        ),
        ("r = Relu(x) p = Pad(r, one) y = MaxPool <kernel_shape=[3,3]> (p)", ["Relu", "MaxPool"]),
        ("p = Pad(x, one, least) y = MaxPool <kernel_shape=[3,3]> (p)", ["MaxPool"]),
        ("p = Pad(x, one) y = MaxPool <kernel_shape=[3,3]> (p)", ["Pad", "MaxPool"]),
        ("p = Pad(x, two, least) y = MaxPool <kernel_shape=[3,3]> (p)", ["Pad", "MaxPool"]),
        ("p = Pad(x, one) y = AveragePool <kernel_shape=[3,3]> (p)", ["AveragePool"]),
        ("p = Pad(x, one) y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (p)", ["Pad", "AveragePool"]),
    ],
)
def test_merging(text: str, expected: list[str]) -> None:
    model = hub(
        f"(float[N,2,8,8] x) => (float y) {{ {text} }}",
        trained={"w": floats(3, 2, 3, 3)},
        constants={
            "one": ints(0, 0, 1, 1, 0, 0, 1, 1),
            "two": ints(0, 0, 2, 2, 0, 0, 2, 2),
            "uneven": ints(0, 0, 0, 0, 0, 0, 1, 1),
            "batch": ints(1, 0, 1, 1, 1, 0, 1, 1),
            "spatial": ints(1, 1, 1, 1),
            "axes": ints(2, -1),
            "zero": number(0.0),
            "five": number(5.0),
            "least": number(float("-inf")),
        },
    )
    found = apply(model, merge_padding)
    assert operators(found) == expected
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("signature", "text", "expected"),
    [
        ("(float[N,2,8,8] x)", 'y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)', (0, 0, 1, 1)),
        ("(float[N,2,8,8] x)", 'y = Conv <auto_pad="SAME_LOWER", strides=[2,2]> (x, w)', (1, 1, 0, 0)),
        ("(float[N,2,H,W] x)", 'y = Conv <auto_pad="SAME_UPPER"> (x, w)', (1, 1, 1, 1)),
        ("(float[N,2,8,8] x)", 'y = Conv <auto_pad="VALID"> (x, w)', None),
        ("(float[N,2,8,8] x)", "y = Conv <pads=[0,0,0,0]> (x, w)", None),
        ("(float[N,2,8,8] x)", 'y = MaxPool <kernel_shape=[2,2], auto_pad="SAME_UPPER"> (x)', (0, 0, 1, 1)),
        (
            "(float[N,3,8,8] x)",
            'y = ConvTranspose <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)',
            (0, 0, 1, 1),
        ),
        (
            "(float[N,3,8,8] x)",
            'y = ConvTranspose <auto_pad="SAME_LOWER", strides=[2,2]> (x, w)',
            (1, 1, 0, 0),
        ),
    ],
)
def test_automatic_padding(signature: str, text: str, expected: tuple[int, ...] | None) -> None:
    model = hub(f"{signature} => (float y) {{ {text} }}", trained={"w": floats(3, 2, 3, 3)})
    found = apply(model, resolve_auto_pad)
    assert "auto_pad" not in found.graph[0].attributes
    assert pads(found, found.graph[0].op_type) == expected
    if "H" not in signature:
        assert_equivalent(model, found)


def test_same_over_unknown_sizes_stays() -> None:
    model = hub(
        '(float[N,2,H,W] x) => (float y) { y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w) }',
        trained={"w": floats(3, 2, 3, 3)},
    )
    assert "auto_pad" in apply(model, resolve_auto_pad).graph[0].attributes


def test_a_crop_of_two_axes_is_two_slices_of_one() -> None:
    model = hub(
        "(float[N,2,5,6] x) => (float y)"
        " { a = ConvTranspose <strides=[2,2], pads=[0,0,1,1]> (x, w) y = Relu(a) }",
        trained={"w": floats(2, 3, 3, 3)},
    )
    found = apply(model, split("torch"))
    assert operators(found) == ["ConvTranspose", "Slice", "Slice", "Relu"]
    assert [node.outputs[0].name for node in found.graph] == ["a.full", "a.crop", "a", "y"]
    assert metadata.source_value(found.graph[2].outputs[0]) == "source of a"
    assert_equivalent(model, found)
