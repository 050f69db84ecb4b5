"""The operators of TorchScript graphs, run on tensors, symbolic sizes and Python values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch


def evaluate(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """The results of a node that is neither control flow nor a call.

    Operators on tensors are PyTorch's own. Those on numbers, strings and lists are Python's, because
    sizes are symbolic while torch.export traces.

    Raises NotImplementedError naming an operator that has no counterpart.
    """
    kind: str = node.kind()
    structural = _STRUCTURAL.get(kind)
    if structural is not None:
        return structural(node, inputs)
    namespace, _, name = kind.partition("::")
    if namespace in ("aten", "prim"):
        reader = _TENSOR_QUERIES.get(name)
        if reader is not None and inputs and isinstance(inputs[0], torch.Tensor):
            return [reader(*inputs)]
        function = _PYTHON.get(name)
        if function is not None and not any(map(_holds_tensor, inputs)):
            return [function(*inputs)]
        on_lists = _CONTAINERS.get(name)
        if on_lists is not None and inputs and isinstance(inputs[0], list | tuple | dict | str):
            return [on_lists(*inputs)]
    return _call_overload(node, inputs)


def _call_overload(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    text = node.schema()
    if text == "(no schema)":
        raise NotImplementedError(f"the TorchScript instruction {node.kind()}")
    overload, keyword_only = _overload(text)
    positional = list(inputs[: len(inputs) - len(keyword_only)])
    keywords = dict(zip(keyword_only, inputs[len(positional) :], strict=True))
    result = overload(*positional, **keywords)
    count = node.outputsSize()
    if count == 0:
        return []
    return [result] if count == 1 else list(result)


@cache
def _overload(text: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The operator of a schema and the names of its keyword-only arguments."""
    schema = torch._C.parse_schema(text)
    namespace, _, name = schema.name.partition("::")
    try:
        packet = getattr(getattr(torch.ops, namespace), name)
        overload = getattr(packet, schema.overload_name or "default")
    except AttributeError as error:
        raise NotImplementedError(f"the TorchScript operator {schema.name}.{schema.overload_name}") from error
    return overload, tuple(argument.name for argument in schema.arguments if argument.kwarg_only)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)


def _integer(value: Any) -> Any:
    if isinstance(value, torch.SymInt):
        return value
    return torch.sym_int(value) if isinstance(value, torch.SymFloat) else int(value)  # type: ignore[no-untyped-call]


def _real(value: Any) -> Any:
    if isinstance(value, torch.SymInt | torch.SymFloat):
        return torch.sym_float(value)  # type: ignore[no-untyped-call]
    return float(value)


def _divide(a: Any, b: Any, rounding: str | None = None) -> Any:
    match rounding:
        case "floor":
            return a // b
        case "trunc":
            return math.trunc(a / b)
    return a / b


def _slice(values: Any, start: int | None, stop: int | None, step: int = 1) -> Any:
    return values[start:stop:step]


def _set_item(values: Any, key: Any, value: Any) -> Any:
    values[key] = value
    return values


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _extend(values: list[Any], more: Sequence[Any]) -> list[Any]:
    values.extend(more)
    return values


def _insert(values: list[Any], index: int, value: Any) -> list[Any]:
    values.insert(index, value)
    return values


def _reverse(values: list[Any]) -> list[Any]:
    values.reverse()
    return values


_PYTHON: Mapping[str, Callable[..., Any]] = {
    "Bool": bool,
    "Float": _real,
    "FloatImplicit": _real,
    "Int": _integer,
    "IntImplicit": _integer,
    "NumToTensor": lambda number: number,
    "ScalarImplicit": lambda number: number,
    "__and__": operator.and_,
    "__derive_index": lambda index, start, step: start + index * step,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "__not__": operator.not_,
    "__or__": operator.or_,
    "__range_length": lambda start, stop, step: len(range(start, stop, step)),
    "__xor__": operator.xor,
    "abs": abs,
    "add": lambda a, b, alpha=1: a + b if alpha == 1 else a + alpha * b,
    "ceil": math.ceil,
    "div": _divide,
    "eq": operator.eq,
    "floor": math.floor,
    "floor_divide": operator.floordiv,
    "floordiv": operator.floordiv,
    "format": lambda text, *values: text.format(*values),
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
    "max": max,
    "min": min,
    "mul": operator.mul,
    "ne": operator.ne,
    "neg": operator.neg,
    "pow": operator.pow,
    "remainder": operator.mod,
    "rsub": lambda a, b, alpha=1: b - alpha * a,
    "sqrt": math.sqrt,
    "sub": lambda a, b, alpha=1: a - b if alpha == 1 else a - alpha * b,
    "unchecked_cast": lambda value: value,
}
"""Operators that have a tensor form as well, or none: used where no argument holds a tensor."""

_CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "__contains__": operator.contains,
    "__getitem__": operator.getitem,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "_set_item": _set_item,
    "add": operator.add,
    "add_": _extend,
    "append": _append,
    "copy": lambda values: values.copy(),
    "extend": _extend,
    "get": lambda values, key, default=None: values.get(key, default),
    "insert": _insert,
    "items": lambda values: list(values.items()),
    "keys": lambda values: list(values.keys()),
    "len": len,
    "list": list,
    "mul": operator.mul,
    "pop": lambda values, *where: values.pop(*where),
    "reverse": _reverse,
    "slice": _slice,
    "unchecked_cast": lambda values: values,
    "values": lambda values: list(values.values()),
}
"""Operators on lists, tuples, dicts and strings, whatever these hold."""

_TENSOR_QUERIES: Mapping[str, Callable[..., Any]] = {
    "Bool": lambda tensor: bool(tensor),
    "Float": lambda tensor: tensor.item(),
    "FloatImplicit": lambda tensor: tensor.item(),
    "Int": lambda tensor: tensor.item(),
    "IntImplicit": lambda tensor: tensor.item(),
    "NumToTensor": lambda tensor: tensor,
    "ScalarImplicit": lambda tensor: tensor.item(),
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "device": lambda tensor: tensor.device,
    "dim": lambda tensor: tensor.dim(),
    "dtype": lambda tensor: tensor.dtype,
    "is_cuda": lambda tensor: False,
    "layout": lambda tensor: tensor.layout,
    "len": lambda tensor: tensor.shape[0],
    "numel": lambda tensor: tensor.numel(),
    "requires_grad": lambda tensor: tensor.requires_grad,
    "shape": lambda tensor: list(tensor.shape),
    "size": lambda tensor, *axis: tensor.shape[axis[0]] if axis else list(tensor.shape),
    "unchecked_cast": lambda tensor: tensor,
}
"""What TorchScript asks of a tensor as its first argument that is not a tensor itself."""


def _unpack(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    return list(inputs[0])


def _dictionary(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    return [dict(zip(inputs[::2], inputs[1::2], strict=True))]


def _convolution(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """The form in which tracing records convolutions: aten.convolution and flags for cuDNN."""
    return [torch.ops.aten.convolution.default(*inputs[:9])]


def _raise(node: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    raise RuntimeError(inputs[0])


_STRUCTURAL: Mapping[str, Callable[[Any, Sequence[Any]], Sequence[Any]]] = {
    "prim::DictConstruct": _dictionary,
    "prim::ListConstruct": lambda node, inputs: [list(inputs)],
    "prim::ListUnpack": _unpack,
    "prim::TupleConstruct": lambda node, inputs: [tuple(inputs)],
    "prim::TupleIndex": lambda node, inputs: [inputs[0][inputs[1]]],
    "prim::TupleUnpack": _unpack,
    "prim::Uninitialized": lambda node, inputs: [None] * node.outputsSize(),
    "aten::_convolution": _convolution,
    "aten::warn": lambda node, inputs: [],
    "prim::RaiseException": _raise,
}
