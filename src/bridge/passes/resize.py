"""Resizing of some axes, where the target's sizes were computed for all of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, integers
from bridge.passes.dims import contents, dim_of, known_contents


def fix_resized_axes(model: ir.Model) -> ir.Model:
    """Give `Resize` the constant sizes of the axes that it changes, and leave the others out.

    An exporter joins the batch size, known at run time only, with the constant spatial sizes. An axis
    whose size is the input's own is not resized; if the rest is known, `axes` and `sizes` say it (opset
    18 and later). Needs inferred shapes.
    """
    known = known_contents(model)
    for node in model.graph:
        if node.op_type != "Resize" or node.domain != "" or len(node.inputs) < 4:
            continue
        data, roi, _, sizes = node.inputs[:4]
        if data is None or data.shape is None or sizes is None or sizes.const_value is not None:
            continue
        if roi is not None and integers(roi) != ():
            continue
        elements = contents(sizes, known)
        axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(data.shape))
        if elements is None or len(elements) != len(axes):
            continue
        targets = [(axis % len(data.shape), size) for axis, size in zip(axes, elements, strict=True)]
        changed = [(axis, size) for axis, size in targets if size is None or size != dim_of(data.shape[axis])]
        if not changed:
            changed = [(axis, size) for axis, size in targets if axis > 1]
        numbers = [size for _, size in changed if isinstance(size, int)]
        if not changed or len(numbers) != len(changed):
            continue
        constant = add_constant(model.graph, np.asarray(numbers, np.int64), f"{sizes.name}_resized")
        node.replace_input_with(3, constant)
        node.attributes["axes"] = ir.AttrInt64s("axes", [axis for axis, _ in changed])
    return model
