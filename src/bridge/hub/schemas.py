"""The schemas of operators: the standard's, and those of onnxruntime's own domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from bridge.hub.opset import operator_version

CONTRIB = "com.microsoft"
"""onnxruntime's domain, whose operators many exporters and optimizers emit."""


def defaults(op_type: str, domain: str, imports: Mapping[str, int]) -> dict[str, object]:
    """The default values of an operator's attributes in a graph that imports these opsets.

    Attributes without a default, and operators without a schema, have none.
    """
    return _defaults(op_type, domain, operator_version(domain, imports))


@cache
def _defaults(op_type: str, domain: str, version: int) -> dict[str, object]:
    found = schema(op_type, domain, version)
    if found is None:
        return {}
    return {
        name: onnx.helper.get_attribute_value(default_value(attribute))
        for name, attribute in found.attributes.items()
        if default_value(attribute).name
    }


def schema(op_type: str, domain: str, version: int) -> Any:
    """The schema of an operator (an `OpSchema` of onnx or, for its own domain, of onnxruntime) or None."""
    if domain == CONTRIB:
        return _contrib().get(op_type)
    return onnx.defs.get_schema(op_type, version, domain) if onnx.defs.has(op_type, version, domain) else None


@cache
def _contrib() -> dict[str, Any]:
    newest: dict[str, Any] = {}
    for each in runtime.get_all_operator_schema():
        if each.domain == CONTRIB:
            known = newest.get(each.name)
            if known is None or each.since_version > known.since_version:
                newest[each.name] = each
    return newest


def default_value(attribute: Any) -> onnx.AttributeProto:
    """The default of a schema's attribute; onnxruntime hands it over as bytes."""
    default: onnx.AttributeProto | None = getattr(attribute, "default_value", None)
    return onnx.AttributeProto.FromString(attribute._default_value) if default is None else default
