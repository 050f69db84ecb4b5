"""Python values as syntax trees."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from bridge.emit.layer import Inner
from bridge.hub.recipe import Array

MAX_LITERAL_ELEMENTS = 64
"""Constants with more elements go to the weights file instead of the source text."""
_ELEMENT_TYPES = frozenset({("torch", "dtype"), ("tensorflow", "DType")})


def literal(value: Any) -> ast.expr:
    """The expression whose value is `value`: numbers, strings, None, tuples, lists and dicts of them, layers.

    An element type of a framework becomes `torch.int32`, `tf.int32`. Infinities and NaN become `math.inf` and
    `math.nan`. Raises TypeError for anything else.
    """
    if isinstance(value, ast.expr):
        return value
    if isinstance(value, Inner):
        return call(value.constructor, *value.args, **dict(value.kwargs))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return dotted("math.nan")
        infinity = dotted("math.inf")
        return infinity if value > 0 else ast.UnaryOp(ast.USub(), infinity)
    if isinstance(value, bool | str | bytes | None.__class__ | type(...)):
        return ast.Constant(value)
    if isinstance(value, int | float):
        if value < 0 or (isinstance(value, float) and math.copysign(1.0, value) < 0):
            return ast.UnaryOp(ast.USub(), ast.Constant(-value))
        return ast.Constant(value)
    if isinstance(value, tuple):
        return ast.Tuple([literal(each) for each in value], ast.Load())
    if isinstance(value, list):
        return ast.List([literal(each) for each in value], ast.Load())
    if isinstance(value, dict):
        return ast.Dict([literal(key) for key in value], [literal(each) for each in value.values()])
    if (type(value).__module__.split(".")[0], type(value).__name__) in _ELEMENT_TYPES:
        return dotted(repr(value))
    raise TypeError(f"{type(value).__name__} has no literal form")


def dotted(name: str) -> ast.expr:
    """`a.b.c` as an attribute expression."""
    first, *rest = name.split(".")
    expression: ast.expr = ast.Name(first, ast.Load())
    for part in rest:
        expression = ast.Attribute(expression, part, ast.Load())
    return expression


def call(function: str | ast.expr, *args: Any, **kwargs: Any) -> ast.Call:
    """A call; arguments are expressions or Python values."""
    callee = dotted(function) if isinstance(function, str) else function
    return ast.Call(
        callee,
        [literal(each) for each in args],
        [ast.keyword(name, literal(value)) for name, value in kwargs.items()],
    )


def assign(target: str | ast.expr | Iterable[str], value: ast.expr) -> ast.Assign:
    """`target = value`, for a dotted name, an expression, or several names."""
    if isinstance(target, str):
        expression = dotted(target)
    elif isinstance(target, ast.expr):
        expression = target
    else:
        expression = ast.Tuple([ast.Name(name, ast.Store()) for name in target], ast.Store())
    return ast.Assign([expression], value, lineno=0)


def nested(array: Array) -> Any:
    """An array as nested lists of Python numbers with the shortest digits that give the same values.

    float32 values print as `0.1`, not as the digits of the nearest double.
    """
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        if array.dtype == np.float32:
            return _map(array.tolist(), lambda number: float(str(np.float32(number))))
        return array.astype(np.float64).tolist()
    if array.dtype == object:
        return _map(array.tolist(), lambda text: text.decode() if isinstance(text, bytes) else text)
    return array.tolist()


def _map(value: Any, function: Any) -> Any:
    return [_map(each, function) for each in value] if isinstance(value, list) else function(value)
