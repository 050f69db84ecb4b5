"""A few nodes of a graph as lines of Python that call TensorFlow's operators one by one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bridge_converters.tf_to_onnx.evaluate import Result
from bridge_converters.tf_to_onnx.program import registered

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


def operator_calls(
    results: Mapping[str, Result], wanted: str, given: Collection[str]
) -> tuple[list[str], dict[str, Array]]:
    """Lines that compute the tensor `wanted` into the dict `t`, and the arrays that `t` must hold before.

    `results` are what a walk computed. The lines begin after the tensors `given`, constants and weights, and
    after operators that are called with functions. Raises NotImplementedError where `wanted` is such.
    """
    lines: list[str] = []
    arrays: dict[str, Array] = {}
    written: set[str] = set()

    def need(name: str) -> str:
        if name in written:
            return f"t[{name!r}]"
        written.add(name)
        found = results.get(name)
        if found is None:
            raise NotImplementedError(f"the value of {name} is not known")
        if found.operator in _LEAVES or name in given or not _is_plain(found):
            if name == wanted:
                raise NotImplementedError(f"{found.operator} is not computed by one call of an operator")
            arrays[name] = np.asarray(found.value)
            return f"t[{name!r}]"
        definition = registered(found.operator)
        operands = [need(each) for each in found.operands]
        arguments = []
        for port in definition.input_arg:
            if port.number_attr or port.type_list_attr:
                attr = found.attributes[port.number_attr or port.type_list_attr]
                count = attr if isinstance(attr, int) else len(attr)
                arguments.append(f"{port.name}=[{', '.join(operands[:count])}]")
            else:
                count = 1
                arguments.append(f"{port.name}={operands[0]}")
            operands = operands[count:]
        types = {each.name for each in definition.attr if each.type in ("type", "list(type)")}
        for parameter in _parameters(found.operator) - {port.name for port in definition.input_arg}:
            if parameter in found.attributes:
                arguments.append(f"{parameter}={_literal(found.attributes[parameter], parameter in types)}")
        index = name.rpartition(":")[2] if len(definition.output_arg) > 1 else ""
        chosen = f"[{index}]" if index else ""
        lines.append(f"t[{name!r}] = tf.raw_ops.{found.operator}({', '.join(sorted(arguments))}){chosen}")
        return f"t[{name!r}]"

    need(wanted)
    return lines, arrays


_LEAVES = frozenset({"Const", "Placeholder", "ReadVariableOp", "Variable", "VariableV2"})


def _is_plain(result: Result) -> bool:
    """Whether one operator computes a result from tensors alone."""
    definition = registered(result.operator)
    if definition is None or not hasattr(tf.raw_ops, result.operator):
        return False
    return not any(each.type in ("func", "list(func)") for each in definition.attr)


def _parameters(name: str) -> set[str]:
    return set(inspect.signature(getattr(tf.raw_ops, name)).parameters) - {"name"}


def _literal(value: Any, is_type: bool) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_literal(each, is_type) for each in value)}]"
    if isinstance(value, tf.TensorShape):
        return repr(None if value.rank is None else value.as_list())
    if isinstance(value, bytes):
        return repr(value.decode())
    if is_type:
        return f"tf.{tf.as_dtype(value).name}"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return repr(value)
    raise NotImplementedError(f"an attribute of the type {type(value).__name__} cannot be written down")
