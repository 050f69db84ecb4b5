"""What the values of a graph are in the emitted source: tensors, lists of tensors, or perhaps None."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import onnx_ir as ir

from bridge.emit.dialect import Dialect, Kind
from bridge.emit.literals import dotted


def kind_of(value: ir.Value) -> Kind:
    """What a value is; one of unknown type is a tensor."""
    type_ = value.type
    optional = isinstance(type_, ir.OptionalType)
    inner = type_.elem_type if isinstance(type_, ir.OptionalType) else type_
    if isinstance(inner, ir.SequenceType):
        return "optional sequence" if optional else "sequence"
    return "optional tensor" if optional else "tensor"


def may_be_none(value: ir.Value) -> bool:
    """Whether a value may be an empty optional."""
    return isinstance(value.type, ir.OptionalType)


def annotation(value: ir.Value, dialect: Dialect) -> ast.expr:
    """`Tensor`, `list[Tensor]`, or one of them `| None`."""
    kind = kind_of(value)
    expression = dotted(dialect.tensor_type)
    if kind.endswith("sequence"):
        expression = ast.Subscript(dotted("list"), expression, ast.Load())
    if kind.startswith("optional"):
        expression = ast.BinOp(expression, ast.BitOr(), ast.Constant(None))
    return expression


def returned(annotations: Sequence[ast.expr]) -> ast.expr:
    """The annotation of a function's result: that of its only value, or a tuple of them."""
    if len(annotations) == 1:
        return annotations[0]
    return ast.Subscript(dotted("tuple"), ast.Tuple(list(annotations), ast.Load()), ast.Load())
