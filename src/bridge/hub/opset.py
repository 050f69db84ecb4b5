"""The opset of hub graphs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

HUB_OPSET = 23
"""The opset of hub graphs, and the oldest: a graph that uses what is newer keeps its own, newer one."""

_IR_VERSION = 11

_STANDARD = ("", "ai.onnx")


def operator_version(domain: str, imports: Mapping[str, int]) -> int:
    """The version of a domain's operators in a graph that imports these opsets; 1 for unknown domains."""
    if domain in _STANDARD:
        return max(imports.get("", HUB_OPSET), HUB_OPSET)
    return imports.get(domain, 1)


def hub_ir_version(imports: Mapping[str, int]) -> int:
    """The IR version of a hub graph: 11, or the newer one that its opsets came with."""
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    return max(_IR_VERSION, onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True))
