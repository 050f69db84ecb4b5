"""What the bodies of control flow tell without being run."""

from __future__ import annotations

import onnx_ir as ir


def continues_always(body: ir.Graph) -> bool:
    """Whether a Loop's body always asks for another step.

    It does if the condition that it gives is a constant or the one that it gets, which is true in every
    step that runs.
    """
    value: ir.Value | None = body.outputs[0]
    while value is not None and (node := value.producer()) is not None and node.graph is body:
        if node.op_type not in ("Identity", "Cast"):
            break
        value = node.inputs[0]
    if value is None:
        return False
    if value is body.inputs[1]:
        return True
    constant = ir.convenience.get_const_tensor(value)
    return constant is not None and constant.size == 1 and bool(constant.numpy().reshape(-1)[0])
