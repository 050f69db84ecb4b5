"""A transposed convolution whose result is cropped: padding says the same."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import attribute, fuse, integers, only_use, producer, rank


def fuse_crop(model: ir.Model) -> ir.Model:
    """`ConvTranspose`, then `Slice` of spatial axes with step 1: the cropped elements are padding."""
    for node in list(model.graph):
        if node.op_type == "Slice" and node.domain == "":
            _fuse(node)
    return model


def _fuse(crop: ir.Node) -> None:
    conv = producer(crop.inputs[0], "ConvTranspose")
    if conv is None or only_use(conv.outputs[0]) is not crop:
        return
    if attribute(conv, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in conv.attributes:
        return
    count = rank(conv.outputs[0])
    removed = None if count is None else _removed(crop, conv.outputs[0], count)
    if count is None or removed is None:
        return
    spatial = count - 2
    pads = attribute(conv, "pads", (0,) * (2 * spatial))
    assert isinstance(pads, tuple)
    begins = [pads[axis] + removed[axis][0] for axis in range(spatial)]
    ends = [pads[axis + spatial] + removed[axis][1] for axis in range(spatial)]
    attributes = {name: each.value for name, each in conv.attributes.items()}
    attributes["pads"] = [*begins, *ends]
    fuse([conv, crop], "ConvTranspose", conv.inputs, attributes)


def _removed(crop: ir.Node, value: ir.Value, count: int) -> list[tuple[int, int]] | None:
    """How many elements a Slice takes off the begin and end of each spatial axis; None if it does else."""
    starts, ends = integers(crop.inputs[1]), integers(crop.inputs[2])
    axes = integers(crop.inputs[3]) if len(crop.inputs) > 3 and crop.inputs[3] is not None else None
    steps = integers(crop.inputs[4]) if len(crop.inputs) > 4 and crop.inputs[4] is not None else None
    if starts is None or ends is None:
        return None
    axes = tuple(range(len(starts))) if axes is None else axes
    if steps is not None and any(step != 1 for step in steps):
        return None
    removed = [(0, 0)] * (count - 2)
    shape = value.shape
    for axis, start, end in zip(axes, starts, ends, strict=True):
        size = None if shape is None else shape[axis % count]
        if not isinstance(size, int):
            return None
        kept = range(*slice(start, end).indices(size))
        if axis % count < 2:
            if len(kept) != size:
                return None
            continue
        if len(kept) == 0:
            return None
        removed[axis % count - 2] = (kept.start, size - kept.stop)
    return removed
