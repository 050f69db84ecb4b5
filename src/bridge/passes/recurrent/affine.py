"""Affine maps of the rows of matrices: what the gates of a cell are, however their weights are held."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, integers, is_trained, producer, rank, static_shape
from bridge.hub.recipe import Literal, Recipe, Source, only_moves, step
from bridge.passes.recipe_steps import literal, translation

_LITERAL = 256
"""Elements that a constant may have which becomes part of a recipe."""


@dataclass(frozen=True)
class Product:
    """`data @ matrix.T`; the recipe over the graph's initializers gives (size, features)."""

    data: ir.Value
    matrix: Recipe
    size: int
    features: int


@dataclass(frozen=True)
class Bias:
    """A vector (size,) that is added; `beside` is the data of the product that it belongs to, if any."""

    vector: Recipe
    beside: ir.Value | None = None


@dataclass(frozen=True)
class Affine:
    """A sum of products with trained matrices and of biases."""

    products: tuple[Product, ...] = ()
    biases: tuple[Bias, ...] = ()

    def product(self, data: ir.Value) -> Product | None:
        """The only product of some data."""
        found = [each for each in self.products if each.data is data]
        return found[0] if len(found) == 1 else None


@dataclass
class Reading:
    """Takes values apart, and notes which nodes are then no longer needed."""

    nodes: set[ir.Node] = field(default_factory=set)

    def affine(self, value: ir.Value | None, columns: tuple[int, int] | None = None) -> Affine | None:
        """A value (batch, size), or a range of its columns, as an affine map; None if it is none."""
        if value is None:
            return None
        if columns is None:
            size = _width(value)
            if size is None:
                return None
            columns = (0, size)
        bias = self._vector(value, columns)
        if bias is not None:
            return Affine((), (Bias(bias),))
        node = producer(value, "Add", "Gemm", "Identity", "MatMul", "Slice", "Split")
        if node is None:
            return None
        found = getattr(self, f"_{node.op_type.lower()}")(node, value, columns)
        if found is not None:
            self.nodes.add(node)
        return found  # type: ignore[no-any-return]

    def _identity(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        return self.affine(node.inputs[0], columns)

    def _add(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        left, right = (self.affine(each, columns) for each in node.inputs)
        if left is None or right is None or not (left.products or right.products):
            return None
        return Affine(left.products + right.products, left.biases + right.biases)

    def _split(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        if rank(node.inputs[0]) != 2 or attribute(node, "axis", 0) not in (1, -1):
            return None
        widths = [_width(output) for output in node.outputs]
        before = widths[: list(node.outputs).index(value)]
        if any(width is None for width in before):
            return None
        offset = sum(width for width in before if width is not None)
        return self.affine(node.inputs[0], (columns[0] + offset, columns[1] + offset))

    def _slice(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        bounds = [integers(each) for each in node.inputs[1:]]
        width = _width(node.inputs[0])
        if width is None or len(bounds) < 3 or any(each is None or len(each) != 1 for each in bounds):
            return None
        numbers = [each[0] for each in bounds if each is not None]
        if rank(node.inputs[0]) != 2 or numbers[2] not in (1, -1) or numbers[3:] not in ([], [1]):
            return None
        offset = range(width)[slice(numbers[0], numbers[1])].start
        return self.affine(node.inputs[0], (columns[0] + offset, columns[1] + offset))

    def _matmul(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        return self._product(node.inputs[0], node.inputs[1], columns, transposed=False)

    def _gemm(self, node: ir.Node, value: ir.Value, columns: tuple[int, int]) -> Affine | None:
        plain = attribute(node, "alpha", 1.0) == 1 and attribute(node, "beta", 1.0) == 1
        if not plain or attribute(node, "transA", 0):
            return None
        data = node.inputs[0]
        product = self._product(data, node.inputs[1], columns, transposed=bool(attribute(node, "transB", 0)))
        if len(node.inputs) < 3 or node.inputs[2] is None or product is None:
            return product
        bias = self._vector(node.inputs[2], columns)
        return None if bias is None else Affine(product.products, (Bias(bias, data),))

    def _product(
        self, data: ir.Value | None, weight: ir.Value | None, columns: tuple[int, int], *, transposed: bool
    ) -> Affine | None:
        if data is None or weight is None or rank(data) != 2 or not is_trained(weight):
            return None
        shape = static_shape(weight)
        if shape is None or len(shape) != 2:
            return None
        source: Recipe = Source(str(weight.name))
        rows = source if transposed else step("transpose", source, perm=(1, 0))
        size, features = shape if transposed else shape[::-1]
        matrix = _cut(rows, 0, columns, size)
        parts = self._parts(data, features)
        products, start = [], 0
        for part, width in parts:
            cut = _cut(matrix, 1, (start, start + width), features)
            products.append(Product(part, cut, columns[1] - columns[0], width))
            start += width
        return Affine(tuple(products))

    def _vector(self, value: ir.Value | None, columns: tuple[int, int]) -> Recipe | None:
        """A part of a trained vector, or of one that is moved out of a trained tensor, or of a constant."""
        found = _vector(value, columns)
        moved = None if found is not None or value is None else _moved(value)
        if moved is None:
            return found
        recipe, nodes = moved
        self.nodes |= nodes
        return _cut(recipe, 0, columns, _width(value) or 0)

    def _parts(self, data: ir.Value, features: int) -> list[tuple[ir.Value, int]]:
        """What is joined side by side to the data of a product."""
        joined = producer(data, "Concat")
        if joined is None or attribute(joined, "axis") not in (1, -1):
            return [(data, features)]
        widths = [_width(part) for part in joined.inputs]
        left = features - sum(width for width in widths if width is not None)
        if widths.count(None) == 1 and left > 0:
            widths[widths.index(None)] = left
        known = [(part, width) for part, width in zip(joined.inputs, widths, strict=True) if part and width]
        if len(known) < len(widths) or sum(width for _, width in known) != features:
            return [(data, features)]
        self.nodes.add(joined)
        return known


def _cut(recipe: Recipe, axis: int, part: tuple[int, int], size: int) -> Recipe:
    start, stop = part
    return recipe if (start, stop) == (0, size) else step("slice", recipe, axis=axis, start=start, stop=stop)


def _vector(value: ir.Value | None, columns: tuple[int, int]) -> Recipe | None:
    """A part of a trained vector, or of a constant that is added to every row."""
    if value is None or value.const_value is None:
        return None
    shape = tuple(int(size) for size in value.const_value.shape.numpy())
    if len(shape) > 2 or any(size != 1 for size in shape[:-1]):
        return None
    start, stop = columns
    if is_trained(value):
        if not shape or shape[-1] < stop:
            return None
        vector: Recipe = Source(str(value.name))
        if len(shape) > 1:
            vector = step("reshape", vector, shape=shape[-1:])
        return _cut(vector, 0, columns, shape[-1])
    array = constant(value)
    if array is None or array.dtype.kind != "f":
        return None
    if array.size == 1:
        number = Literal((float(array.reshape(-1)[0]),), array.dtype.name)
        return step("expand", number, shape=(stop - start,))
    part = array.reshape(-1)[start:stop]
    if len(part) != stop - start or len(part) > _LITERAL or not np.all(np.isfinite(part)):
        return None
    return Literal(tuple(float(each) for each in part), array.dtype.name)


def _moved(value: ir.Value) -> tuple[Recipe, set[ir.Node]] | None:
    """A vector whose elements are moved out of one trained tensor, and the nodes that move them."""
    shape = static_shape(value)
    node = value.producer()
    if shape is None or node is None or any(size != 1 for size in shape[:-1]) or not shape:
        return None
    chain = []
    while node is not None and node.inputs and node.inputs[0] is not None:
        chain.append(node)
        if is_trained(node.inputs[0]):
            break
        node = node.inputs[0].producer()
    else:
        return None
    recipes: dict[ir.Value, Recipe] = {node.inputs[0]: Source(str(node.inputs[0].name))}
    for each in reversed(chain):
        translate = translation(each)
        if translate is None or any(static_shape(output) is None for output in each.outputs):
            return None
        operands = [recipes.get(operand, literal(operand)) for operand in each.inputs if operand is not None]
        results = translate(each, operands)
        if results is None or not all(map(only_moves, results)):
            return None
        recipes.update(zip(each.outputs, results, strict=True))
    recipe = recipes[value]
    return (recipe if len(shape) == 1 else step("reshape", recipe, shape=shape[-1:])), set(chain)


def _width(value: ir.Value | None) -> int | None:
    """The size of the last axis."""
    if value is None or value.shape is None or len(value.shape) == 0:
        return None
    size = value.shape[-1]
    return size if isinstance(size, int) else None
