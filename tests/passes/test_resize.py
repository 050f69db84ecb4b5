"""Resize says which axes it changes, where an exporter computed the sizes of all of them."""

from __future__ import annotations

from pass_graphs import apply, assert_equivalent, hub, ints

from bridge.hub.graph import integers
from bridge.passes.resize import fix_resized_axes
from bridge.passes.static import fold_static

_TEXT = (
    "(float[N,2,4,5] x) => (float y) {{ s = Shape<start = 0, end = 2>(x) t = Concat<axis = 0>(s, {sizes})"
    ' y = Resize<mode = "nearest">(x, , , t) }}'
)


def test_only_the_resized_axes_are_left() -> None:
    model = hub(_TEXT.format(sizes="sizes"), constants={"sizes": ints(8, 7)})
    found = apply(model, fold_static, fix_resized_axes)
    (node,) = [each for each in found.graph if each.op_type == "Resize"]
    assert node.attributes["axes"].as_ints() == (2, 3)
    assert integers(node.inputs[3]) == (8, 7)
    assert_equivalent(model, found)


def test_sizes_that_depend_on_data_stay() -> None:
    model = hub('(float[N,2,4,5] x, int64[4] t) => (float y) { y = Resize<mode = "nearest">(x, , , t) }')
    found = apply(model, fold_static, fix_resized_axes)
    (node,) = [each for each in found.graph if each.op_type == "Resize"]
    assert "axes" not in node.attributes
