"""Padding as the target's native layers express it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import (
    add_constant,
    attribute,
    fuse,
    integers,
    only_use,
    producer,
    rank,
    scalar,
    take_over,
)
from bridge.passes.windows import Window, same_padding, set_pads, window_of

Target = Literal["torch", "tf"]

_NOT_NEGATIVE = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt"})


def split_padding(model: ir.Model, *, target: Target) -> ir.Model:
    """Move padding that the target's layer cannot express into a node of its own.

    TensorFlow's layers know no padding and `SAME`, PyTorch's as much before as after each axis. What is
    beyond becomes a Pad before a convolution or pooling (with the lowest number before a maximum), and
    a Slice after a transposed convolution. An average that does not count its padding, and whatever
    depends on sizes that are unknown, is left to the lowering.
    """
    for node in list(model.graph):
        if node.domain != "" or attribute(node, "auto_pad", "NOTSET") != "NOTSET" or len(node.outputs) != 1:
            continue
        window = (
            window_of(node) if node.op_type in ("Conv", "ConvTranspose", "AveragePool", "MaxPool") else None
        )
        if window is None:
            continue
        if node.op_type == "ConvTranspose":
            _split_transposed(node, window, target, model.graph)
            continue
        if node.op_type == "MaxPool" and target == "tf":
            window = _without_ceiling(node, window)
        if window.is_padded:
            _split(node, window, target, model.graph)
    return model


def _without_ceiling(node: ir.Node, window: Window) -> Window:
    """Padding at the end instead of rounding up, where the sizes are known: the windows are the same."""
    output = node.outputs[0]
    if not node.attributes.get_int("ceil_mode", 0) or output.shape is None:
        return window
    ends = []
    for axis, size in enumerate(window.sizes):
        count = output.shape[axis + 2]
        if size is None or not isinstance(count, int):
            return window
        reach = (count - 1) * window.strides[axis] + window.extents[axis]
        ends.append(max(reach - size - window.begins[axis], 0))
    node.attributes.pop("ceil_mode")
    set_pads(node, window.begins, tuple(ends))
    return Window(window.kernel, window.strides, window.dilations, window.begins, tuple(ends), window.sizes)


def _split(node: ir.Node, window: Window, target: Target, graph: ir.Graph) -> None:
    counts_padding = node.attributes.get_int("count_include_pad", 0) == 1
    if node.op_type == "AveragePool" and not counts_padding:
        return
    if node.attributes.get_int("ceil_mode", 0):
        return
    kept_begins, kept_ends = _expressible(node, window, target)
    begins = tuple(pad - kept for pad, kept in zip(window.begins, kept_begins, strict=True))
    ends = tuple(pad - kept for pad, kept in zip(window.ends, kept_ends, strict=True))
    if not any(begins) and not any(ends):
        return
    data = node.inputs[0]
    assert data is not None
    lowest = node.op_type == "MaxPool" and not _is_not_negative(data)
    node.replace_input_with(0, _pad(node, data, begins, ends, lowest, graph))
    set_pads(node, kept_begins, kept_ends)


def _expressible(node: ir.Node, window: Window, target: Target) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The part of the padding that the target's layer takes."""
    none = (0,) * window.rank
    if target == "tf":
        is_same = (window.begins, window.ends) == same_padding(window, upper=True)
        native = is_same and node.op_type in ("Conv", "MaxPool")
        return (window.begins, window.ends) if native else (none, none)
    if node.op_type == "Conv":
        common = tuple(min(pair) for pair in zip(window.begins, window.ends, strict=True))
        return common, common
    fits = all(pad <= size // 2 for pad, size in zip(window.begins, window.kernel, strict=True))
    return (window.begins, window.ends) if window.begins == window.ends and fits else (none, none)


def _is_not_negative(value: ir.Value) -> bool:
    """Whether a value is at least zero: then zeros do not change a maximum over a window with an element."""
    node = value.producer()
    if node is not None and node.op_type in ("Transpose", "MaxPool", "Dropout"):
        source = node.inputs[0]
        return source is not None and _is_not_negative(source)
    if node is not None and node.op_type == "Clip":
        low = scalar(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low >= 0
    return node is not None and node.domain == "" and node.op_type in _NOT_NEGATIVE


def _pad(
    node: ir.Node,
    data: ir.Value,
    begins: tuple[int, ...],
    ends: tuple[int, ...],
    lowest: bool,
    graph: ir.Graph,
) -> ir.Value:
    assert data.dtype is not None
    assert data.shape is not None
    name = node.outputs[0].name
    pads = np.asarray([0, 0, *begins, 0, 0, *ends], np.int64)
    inputs = [data, add_constant(graph, pads, f"{name}.pads")]
    if lowest:
        inputs.append(add_constant(graph, _lowest(data.dtype), f"{name}.lowest"))
    pad = ir.node("Pad", inputs)
    metadata.set_scope(pad, metadata.scope_of(node))
    metadata.set_location(pad, metadata.location_of(node))
    graph.insert_before(node, pad)
    padded = pad.outputs[0]
    pad.name = padded.name = _free_value_name(graph, f"{name}.pad")
    padded.type = data.type
    padded.shape = _grown(data.shape, dict(enumerate(zip(begins, ends, strict=True))))
    return padded


def _lowest(dtype: ir.DataType) -> np.ndarray[tuple[()], np.dtype[np.generic]]:
    """What a maximum never chooses: minus infinity, or the smallest integer."""
    kind = dtype.numpy()
    return np.asarray(-np.inf if dtype.is_floating_point() else np.iinfo(kind).min, kind)


def _free_value_name(graph: ir.Graph, base: str) -> str:
    taken = {output.name for node in graph for output in node.outputs}
    taken.update(graph.initializers, (value.name for value in graph.inputs))
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _split_transposed(node: ir.Node, window: Window, target: Target, graph: ir.Graph) -> None:
    """Padding of a transposed convolution crops its result; what the layer cannot crop, a Slice does."""
    if "output_shape" in node.attributes or node.attributes.get_int("group", 1) != 1 or not window.is_padded:
        return
    found = attribute(node, "output_padding")
    extra = tuple(int(each) for each in found) if isinstance(found, tuple) else (0,) * window.rank
    ends = tuple(end - more for end, more in zip(window.ends, extra, strict=True))
    if target == "tf":
        if _is_same_transposed(window, extra):
            return
        kept = (0,) * window.rank
    else:
        kept = window.begins
    added = tuple(max(keep - end, 0) for keep, end in zip(kept, ends, strict=True))
    limits = (max(pair) for pair in zip(window.strides, window.dilations, strict=True))
    if any(more >= limit for more, limit in zip(added, limits, strict=True)):
        return
    cut_begins = tuple(begin - keep for begin, keep in zip(window.begins, kept, strict=True))
    cut_ends = tuple(max(end - keep, 0) for end, keep in zip(ends, kept, strict=True))
    set_pads(node, kept, kept)
    node.attributes.pop("output_padding", None)
    if any(added):
        node.attributes.add(ir.AttrInt64s("output_padding", added))
    if any(cut_begins) or any(cut_ends):
        _crop(node, cut_begins, cut_ends, graph)


def _is_same_transposed(window: Window, extra: tuple[int, ...]) -> bool:
    """Whether TensorFlow's SAME gives this crop: an extent of size * stride, the smaller half cut first."""
    return all(
        extent + more - begin - end == stride and begin == max(extent - stride, 0) // 2
        for extent, more, begin, end, stride in zip(
            window.extents, extra, window.begins, window.ends, window.strides, strict=True
        )
    )


def _crop(node: ir.Node, begins: tuple[int, ...], ends: tuple[int, ...], graph: ir.Graph) -> None:
    """Let Slices, one an axis, take the node's place; the node's own result is wider."""
    output = node.outputs[0]
    name = str(output.name)
    cuts = [(axis, cut) for axis, cut in enumerate(zip(begins, ends, strict=True)) if any(cut)]
    wide = ir.Value(name=_free_value_name(graph, f"{name}.full"), type=output.type)
    wide.shape = _grown(output.shape, dict(cuts))
    wider = ir.node(node.op_type, node.inputs, dict(node.attributes.items()), outputs=[wide])
    wider.name = node.name
    wider.metadata_props.update(node.metadata_props)
    graph.insert_before(node, wider)
    value = wide
    for position, (axis, (begin, end)) in enumerate(cuts):
        constants = {"starts": begin, "ends": -end if end else np.iinfo(np.int64).max, "axes": axis + 2}
        inputs = [
            add_constant(graph, np.asarray([number], np.int64), f"{name}.crop.{role}")
            for role, number in constants.items()
        ]
        crop = ir.node("Slice", [value, *inputs])
        metadata.set_scope(crop, metadata.scope_of(node))
        metadata.set_location(crop, metadata.location_of(node))
        graph.insert_before(node, crop)
        value = crop.outputs[0]
        crop.name = value.name = _free_value_name(graph, f"{name}.crop")
        value.type = output.type
        value.shape = _grown(output.shape, dict(cuts[position + 1 :]))
    take_over(output, value)
    graph.remove(node, safe=True)


def _grown(shape: ir.Shape | None, cuts: dict[int, tuple[int, int]]) -> ir.Shape | None:
    """A shape before spatial axes were cut."""
    if shape is None:
        return None
    axes: list[int | ir.SymbolicDim | None] = []
    for position, axis in enumerate(shape):
        more = sum(cuts.get(position - 2, ()))
        axes.append(axis + more if isinstance(axis, int) else axis if more == 0 else None)
    return ir.Shape(axes)


def merge_padding(model: ir.Model) -> ir.Model:
    """Take a Pad into the convolution or pooling that alone reads it, where the layer pads alike.

    For channels-first graphs: zeros before a convolution or an average that counts them, and what a
    maximum never chooses before a maximum; as much before as after each spatial axis.
    """
    for node in list(model.graph):
        if node.domain == "" and node.op_type in ("Conv", "AveragePool", "MaxPool"):
            pad = producer(node.inputs[0], "Pad")
            if pad is not None and only_use(pad.outputs[0]) is node:
                _merge(node, pad)
    return model


def _merge(node: ir.Node, pad: ir.Node) -> None:
    window = window_of(node)
    data = pad.inputs[0]
    count = rank(data)
    if window is None or data is None or count is None or len(node.outputs) != 1:
        return
    if attribute(pad, "mode", "constant") != "constant" or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return
    if node.attributes.get_int("ceil_mode", 0):
        return
    pads = _full_pads(pad, count)
    if pads is None or any(pads[:2]) or any(pads[count : count + 2]) or not _pads_alike(node, pad, window):
        return
    begins = tuple(own + more for own, more in zip(window.begins, pads[2:count], strict=True))
    ends = tuple(own + more for own, more in zip(window.ends, pads[count + 2 :], strict=True))
    if begins != ends or min(begins) < 0:
        return
    if node.op_type != "Conv" and any(p > k // 2 for p, k in zip(begins, window.kernel, strict=True)):
        return
    attributes = dict(node.attributes.items())
    attributes["pads"] = ir.AttrInt64s("pads", [*begins, *ends])
    if node.op_type == "AveragePool":
        attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    fused = fuse([pad, node], node.op_type, [data, *node.inputs[1:]], attributes)
    fused.metadata_props.update(node.metadata_props)


def _full_pads(pad: ir.Node, count: int) -> tuple[int, ...] | None:
    """The pads of all axes, begins and ends."""
    pads = integers(pad.inputs[1])
    if pads is None or len(pad.inputs) < 4 or pad.inputs[3] is None:
        return pads
    axes = integers(pad.inputs[3])
    if axes is None:
        return None
    full = [0] * (2 * count)
    for position, axis in enumerate(axes):
        full[axis % count] = pads[position]
        full[axis % count + count] = pads[position + len(axes)]
    return tuple(full)


def _pads_alike(node: ir.Node, pad: ir.Node, window: Window) -> bool:
    """Whether the node's own padding would put the same number where the Pad does."""
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    number = 0.0 if value is None else scalar(value)
    if node.op_type == "Conv":
        return number == 0
    if node.op_type == "AveragePool":
        return number == 0 and (not window.is_padded or node.attributes.get_int("count_include_pad", 0) == 1)
    data = pad.inputs[0]
    if data is None or data.dtype is None or number is None:
        return False
    return number == _lowest(data.dtype) or (number == 0 and _is_not_negative(data))
