"""The opset of hub graphs."""

from __future__ import annotations

from collections.abc import Mapping

HUB_OPSET = 23
"""The opset of hub graphs, and the oldest: a graph that uses what is newer keeps its own, newer one."""

_STANDARD = ("", "ai.onnx")


def operator_version(domain: str, imports: Mapping[str, int]) -> int:
    """The version of a domain's operators in a graph that imports these opsets; 1 for unknown domains."""
    if domain in _STANDARD:
        return max(imports.get("", HUB_OPSET), HUB_OPSET)
    return imports.get(domain, 1)
