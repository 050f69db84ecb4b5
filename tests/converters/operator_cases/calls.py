"""Calling a lowering as the emitter's code does, and comparing what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bridge.emit.lowering import Lowering, LoweringTable
from bridge.hub.carriers import carry
from bridge.hub.schemas import CONTRIB, default_value
from bridge.hub.schemas import schema as find_schema
from operator_cases.case import OPSET, Array, Case, onnx_type

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 2e-6, "float64": 1e-12}


OF_THE_NODE = ("input_types", "output_types", "input_shapes", "output_shapes")
"""What a lowering may ask about its node besides the schema's attributes and the number of outputs."""


@dataclass
class Call:
    """A lowering with its arguments; `positional` holds tensors, Python values and None."""

    function: Callable[..., Any]
    positional: list[Any]
    is_tensor: list[bool]
    attributes: dict[str, Any]

    def tensors(self) -> list[Any]:
        return [each for each, tensor in zip(self.positional, self.is_tensor, strict=True) if tensor]

    def run(self, tensors: Sequence[Any] | None = None) -> list[Any]:
        """The outputs, with other tensors in place of the case's if given."""
        left = iter(self.tensors() if tensors is None else tensors)
        positional = [
            next(left) if tensor else each
            for each, tensor in zip(self.positional, self.is_tensor, strict=True)
        ]
        result = self.function(*positional, **self.attributes)
        return list(result) if isinstance(result, list | tuple) else [result]


def call(lowering: Lowering, case: Case, convert: Callable[[Array], Any]) -> Call:
    """Bind a case to a lowering: known `const` inputs as Python values, attributes under their names."""
    parameters = inspect.signature(lowering.function).parameters
    names = [name for name, each in parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    positional: list[Any] = []
    is_tensor = []
    for i, value in enumerate(case.inputs):
        name = names[min(i, len(names) - 1)]
        known = name in lowering.static or (name in lowering.const and not case.computed)
        if value is None:
            positional.append(None)
        elif known and value.ndim <= 1:
            plain = carry(value).tolist()
            positional.append(tuple(plain) if isinstance(plain, list) else plain)
        else:
            positional.append(convert(carry(value)))
        is_tensor.append(value is not None and not (known and value.ndim <= 1))
    attributes = {}
    for attribute in case.node().attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = convert(carry(numpy_helper.to_array(value)).reshape(()))
        elif isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list):
            value = tuple(each.decode() if isinstance(each, bytes) else each for each in value)
        attributes[attribute.name] = value
    known_of_node = {
        "outputs": case.outputs,
        "input_types": tuple("" if each is None else type_name(onnx_type(each)) for each in case.inputs),
        "input_shapes": tuple(None if each is None else each.shape for each in case.inputs),
        "output_types": tuple(type_name(each.type.tensor_type.elem_type) for each in inferred_outputs(case)),
    }
    for name, value in known_of_node.items():
        if name in parameters and parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
            attributes[name] = value
    return Call(lowering.function, positional, is_tensor, attributes)


def assert_same(actual: Sequence[Array], expected: Sequence[Array], relative: float | None = None) -> None:
    """Equal dtypes and shapes; equal values, floats within a few roundings of their dtype at their scale.

    What is expected is compared as its carriers.
    """
    assert len(actual) == len(expected)
    for mine, right in zip(actual, map(carry, expected), strict=True):
        right = right.astype(object) if right.dtype.kind == "U" else right
        assert mine.dtype == right.dtype
        assert mine.shape == right.shape
        tolerance = relative or TOLERANCE.get(str(right.dtype), 0.0)
        if tolerance == 0.0:
            np.testing.assert_array_equal(mine, right)
            continue
        wide = right.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(
            mine.astype(np.float64), wide, rtol=4 * tolerance, atol=2 * tolerance * scale
        )


def type_name(element_type: int) -> str:
    """The ONNX name of an element type; empty for 0, which is none."""
    return onnx.TensorProto.DataType.Name(element_type) if element_type else ""


def inferred_outputs(case: Case) -> list[onnx.ValueInfoProto]:
    return list(case.model(frozenset()).graph.output)


def schemas_of(table: LoweringTable, lowering: Lowering) -> list[Any]:
    """The schemas of an operator that a lowering is for, the newest first.

    Those from its `since` (for the standard's domain from the hub's opset, as older graphs are brought
    there) up to the next lowering of the operator.
    """
    later = [
        each.since
        for each in table
        if (each.op_type, each.domain) == (lowering.op_type, lowering.domain) and each.since > lowering.since
    ]
    newest = min(later, default=10**6) - 1
    oldest = max(lowering.since, OPSET) if lowering.domain == "" else lowering.since
    if lowering.domain == CONTRIB:
        return [find_schema(lowering.op_type, lowering.domain, 1)]
    newest = min(newest, onnx.defs.onnx_opset_version())
    found = [find_schema(lowering.op_type, lowering.domain, version) for version in range(oldest, newest + 1)]
    known = {each.since_version: each for each in found if each is not None}
    return [known[version] for version in sorted(known, reverse=True)]


def signature_faults(table: LoweringTable, lowering: Lowering) -> list[str]:
    """How a lowering's signature departs from the operator's schemas; empty if it does not.

    It is that of the newest schema; what older ones have must be there with the same defaults.
    """
    newest, *older = schemas_of(table, lowering)
    faults = departures(lowering, newest)
    parameters = inspect.signature(lowering.function).parameters
    for schema in older:
        for name, attribute in schema.attributes.items():
            if name not in parameters or not _same_default(parameters[name].default, attribute):
                faults.append(f"{name}: not as in version {schema.since_version}")
        if len(schema.inputs) > len(newest.inputs):
            faults.append(f"version {schema.since_version} has more inputs")
    return faults


def departures(lowering: Lowering, schema: Any) -> list[str]:
    """How a lowering's signature departs from one schema."""
    parameters = inspect.signature(lowering.function).parameters
    positional = [each for each in parameters.values() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    keywords = {name: each for name, each in parameters.items() if each not in positional}
    faults = []
    if len(positional) != len(schema.inputs):
        faults.append(f"{len(positional)} inputs instead of {len(schema.inputs)}")
    for mine, formal in zip(positional, schema.inputs, strict=False):
        if (mine.kind is inspect.Parameter.VAR_POSITIONAL) != (formal.option.name == "Variadic"):
            faults.append(f"{mine.name}: variadic or not")
        # an optional input before a required one has no default
        may_be_none = mine.default is None or "None" in str(mine.annotation)
        if may_be_none != (formal.option.name == "Optional"):
            faults.append(f"{mine.name}: optional or not")
    keywords = {name: each for name, each in keywords.items() if name not in OF_THE_NODE}
    several = any(each.option.name != "Single" for each in schema.outputs)
    if (keywords.pop("outputs", None) is not None) != several:
        faults.append("outputs: there where, and only where, the number of outputs may vary")
    if set(keywords) != set(schema.attributes):
        faults.append(f"attributes {sorted(keywords)} instead of {sorted(schema.attributes)}")
    for name, attribute in schema.attributes.items():
        if name in keywords and not _same_default(keywords[name].default, attribute):
            faults.append(f"{name}: default {keywords[name].default!r}")
    known = {each.name for each in positional}
    faults += [f"{name} is no input" for name in {*lowering.const, *lowering.static} - known]
    faults += [f"{name} is static but not const" for name in set(lowering.static) - set(lowering.const)]
    return faults


def _same_default(mine: Any, attribute: Any) -> bool:
    if attribute.required:
        return mine is inspect.Parameter.empty
    default = default_value(attribute)
    if not default.name:
        return mine is None
    right = helper.get_attribute_value(default)
    if isinstance(right, bytes):
        return bool(mine == right.decode())
    if isinstance(right, list):
        return bool(mine == tuple(each.decode() if isinstance(each, bytes) else each for each in right))
    return bool(np.float32(mine) == np.float32(right)) if isinstance(right, float) else bool(mine == right)
