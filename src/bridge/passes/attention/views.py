"""Operands of matrix products, as permutations of the axes of what the graph computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bridge.hub.graph import attribute, producer, rank
from bridge.passes.match import with_scalar
from bridge.passes.moves import permutation

_DEPTH = 16


@dataclass(frozen=True)
class View:
    """`number * Transpose(value, perm)`; `nodes` lie between the value and where it was found."""

    value: ir.Value
    perm: tuple[int, ...]
    number: float = 1.0
    nodes: tuple[ir.Node, ...] = ()

    @property
    def shape(self) -> tuple[int | ir.SymbolicDim, ...]:
        """The axes of the view."""
        assert self.value.shape is not None
        return tuple(self.value.shape[axis] for axis in self.perm)

    def turned(self, perm: Sequence[int]) -> View:
        """The view with its axes in another order."""
        return View(self.value, tuple(self.perm[axis] for axis in perm), self.number, self.nodes)


@dataclass(frozen=True)
class Product:
    """`left @ right` over (batch axes, rows, columns), and how the node's output orders its axes.

    `output` is the permutation that gives the node's output from (batch axes, rows, columns). `right` has
    the axes (batch axes, columns, contracted): it is what a transposed operand was before.
    """

    node: ir.Node
    left: View
    right: View
    output: tuple[int, ...]


def view(value: ir.Value | None, *, scaled: bool) -> View | None:
    """A value, with what only exchanges its axes, or where `scaled` also scales it by numbers, taken off."""
    count = rank(value)
    if value is None or count is None:
        return None
    found = View(value, tuple(range(count)))
    for _ in range(_DEPTH):
        inner = _inside(found, scaled=scaled)
        if inner is None:
            return found
        found = inner
    return found


def _inside(found: View, *, scaled: bool) -> View | None:
    node = producer(found.value, "Transpose", "Mul", "Div", "Identity")
    if node is None or node.inputs[0] is None:
        return None
    source, number, perm = node.inputs[0], found.number, found.perm
    if node.op_type == "Transpose":
        order = permutation(node)
        if order is None:
            return None
        perm = tuple(order[axis] for axis in perm)
    elif node.op_type != "Identity":
        factor = with_scalar(node) if scaled else None
        if factor is None or (node.op_type == "Div" and (factor[0] is not source or factor[1] == 0)):
            return None
        source = factor[0]
        number = number / factor[1] if node.op_type == "Div" else number * factor[1]
    if rank(source) != len(perm):
        return None
    return View(source, perm, number, (*found.nodes, node))


def product(node: ir.Node | None, *, scaled: bool) -> Product | None:
    """A MatMul, or an Einsum of two operands that is one, over one contracted axis.

    `scaled` says whether factors of the operands are taken off them.
    """
    if node is None or node.domain != "":
        return None
    if node.op_type == "MatMul":
        left, right = (view(each, scaled=scaled) for each in node.inputs)
        if left is None or right is None or len(left.perm) != len(right.perm) or len(left.perm) not in (3, 4):
            return None
        count = len(left.perm)
        swapped = (*range(count - 2), count - 1, count - 2)
        return Product(node, left, right.turned(swapped), tuple(range(count)))
    return _einsum(node, scaled=scaled) if node.op_type == "Einsum" and len(node.inputs) == 2 else None


def _einsum(node: ir.Node, *, scaled: bool) -> Product | None:
    """Einsum whose output has the batch axes, one axis of one operand and one of the other.

    The operand whose own axis comes first in the output is the left one, of rows.
    """
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    terms, arrow, output = equation.partition("->")
    operands = terms.split(",")
    if not arrow or len(operands) != 2 or "." in equation or any(len(set(t)) != len(t) for t in operands):
        return None
    if len(set(output)) != len(output) or len({len(output), *map(len, operands)}) != 1:
        return None
    first, second = operands
    batch = [letter for letter in output if letter in first and letter in second]
    summed = [letter for letter in first if letter in second and letter not in output]
    free = [letter for letter in output if letter not in batch]
    if len(summed) != 1 or len(free) != 2 or len(output) != len(batch) + 2:
        return None
    order = (0, 1) if free[0] in first else (1, 0)
    views = [view(node.inputs[index], scaled=scaled) for index in order]
    letters = [operands[index] for index in order]
    if any(found is None or len(found.perm) != len(output) for found in views):
        return None
    if free[0] not in letters[0] or free[1] not in letters[1]:
        return None
    left, right = (
        found.turned([term.index(letter) for letter in (*batch, own, summed[0])])
        for found, term, own in zip(views, letters, free, strict=True)
        if found is not None
    )
    rows = (*batch, *free)
    return Product(node, left, right, tuple(rows.index(letter) for letter in output))
