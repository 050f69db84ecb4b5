"""Group normalisations in the form in which PyTorch computes them exactly."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import constant, rank
from bridge.passes.linear import DOMAIN

_OPERATORS = ("GroupNormalization", "InstanceNormalization")


def prepare_group_norms(model: ir.Model) -> ir.Model:
    """Leave out a scale of ones beside a shift and zeros beside a scale, and copy images to another layout.

    An operator without one of them is in the domain `bridge`.

    PyTorch's kernel for images whose channels lie innermost in memory, as a model of TensorFlow feeds them,
    takes the variance as the difference of two means, which cancels: where the mean is ten deviations its
    result is a hundred times as far from the exact one as the other kernel's. `bridge::Contiguous(x)` has
    the axes in memory in their order. Does not keep the graph valid ONNX.
    """
    copies = metadata.source_info(model).framework == "tf"
    for node in list(model.graph):
        if node.op_type not in _OPERATORS or node.domain != "":
            continue
        neutral = [index for index, number in ((1, 1), (2, 0)) if _is_all(node.inputs[index], number)]
        if len(neutral) == 1:
            node.replace_input_with(neutral[0], None)
            node.domain = DOMAIN
        x = node.inputs[0]
        if copies and x is not None and rank(x) in (4, 5):
            copy = ir.Node(DOMAIN, "Contiguous", [x])
            copy.metadata_props.update(node.metadata_props)
            copy.outputs[0].type, copy.outputs[0].shape = x.type, x.shape
            model.graph.insert_before(node, copy)
            node.replace_input_with(0, copy.outputs[0])
    return model


def _is_all(value: ir.Value | None, number: int) -> bool:
    array = constant(value)
    return array is not None and bool(np.all(array == number))
