"""Nodes of the domain `bridge` that stand for a target's own multi-head attention layer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import attribute, common_scope, is_trained, only_use, producer, static_shape, take_over
from bridge.hub.recipe import Array, Recipe, Source, step
from bridge.passes.attention.options import unusual_options
from bridge.passes.dims import Dim, dim_of
from bridge.passes.element_moves import follow, is_move, moved, sizes_of
from bridge.passes.fold_trained import make_initializer
from bridge.passes.match import close
from bridge.passes.unused import drop_unused

DOMAIN = "bridge"
Target = Literal["torch", "tf"]

_PACKED = ("in_proj_weight",) * 3
_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_KERAS = ("query/kernel", "key/kernel", "value/kernel")


def fuse_multihead_layers(model: ir.Model, target: Target) -> ir.Model:
    """Projections, Attention and output projection of one `nn.MultiheadAttention` or Keras layer as one node.

    `bridge::MultiHeadAttention(query, key, value, ...)` is followed by the layer's tensors: for Keras the
    kernels (features, heads, size) and biases (heads, size) of query, key, value, then kernel (heads, size,
    features) and bias of the output; for PyTorch `in_proj_weight`, or the three of the projections, with
    `in_proj_bias`, and weight and bias of `out_proj`, and where it is causal the mask of that, which
    `bridge::CausalMask` makes. Where source and target layers differ (masks other
    than the causal one, tensors that others read or that are not trained, several heads of queries for one
    of keys) the graph stays as it is. Which elements become which is found by moving numbered elements
    through the graph. Does not keep the graph valid ONNX.
    """
    for node in list(model.graph):
        if node.op_type == "Attention" and node.domain == "":
            found = _find(node, model)
            if found is not None and _is_expressible(found, target):
                _replace(found, model, target)
    return drop_unused(model)


@dataclass(frozen=True)
class _Matrix:
    """A matrix (inputs, channels) of a trained tensor: the tensor, if it is transposed, and its channels."""

    value: ir.Value
    transposed: bool
    channels: tuple[int, ...]


@dataclass(frozen=True)
class _Product:
    """`data @ matrix + bias`; the bias is a trained vector and the channels of it that are taken."""

    node: ir.Node
    data: ir.Value
    matrix: _Matrix
    bias: tuple[ir.Value, tuple[int, ...]] | None
    nodes: tuple[ir.Node, ...]

    @property
    def width(self) -> int:
        return len(self.matrix.channels)


@dataclass(frozen=True)
class _Projection:
    """A product whose channels are those of heads: `order` (heads, size) says which."""

    product: _Product
    source: ir.Value
    batch_first: bool
    order: Array


@dataclass(frozen=True)
class _Found:
    node: ir.Node
    inputs: tuple[_Projection, _Projection, _Projection]
    output: _Product
    rows: Array
    """The rows of the output projection, in the order of heads and their elements."""
    result: ir.Value
    batch_first: bool


def _find(node: ir.Node, model: ir.Model) -> _Found | None:
    if _refusal(node):
        return None
    sizes = sizes_of(model)
    read = [_projection(value, sizes) for value in node.inputs[:3]]
    q, k, v = read
    if q is None or k is None or v is None or not q.batch_first == k.batch_first == v.batch_first:
        return None
    heads, size = q.order.shape
    if k.order.shape != (heads, size) or v.order.shape[0] != heads:
        return None
    scale = attribute(node, "scale")
    if isinstance(scale, float) and not close(scale, size**-0.5, ir.DataType.FLOAT):
        return None
    output = _output(node.outputs[0], v.order.shape, sizes, batch_first=q.batch_first)
    if output is None:
        return None
    found = _Found(node, (q, k, v), *output, q.batch_first)
    return found if _module(found) is not None and _owns_its_tensors(found) else None


def _refusal(node: ir.Node) -> bool:
    """Whether attention has what the layers of both frameworks lack, or not in the same way."""
    given = [value for value in node.inputs[3:] if value is not None]
    outputs = [value for value in node.outputs[1:] if value.uses()]
    return bool(given or outputs or unusual_options(node))


def _projection(value: ir.Value | None, sizes: Mapping[str, int]) -> _Projection | None:
    """What computes one operand (batch, heads, length, size) of attention."""
    if value is None:
        return None
    moves: list[ir.Value] = []
    current: ir.Value = value
    product = _product(current)
    while product is None:
        node = current.producer()
        if node is None or not is_move(node) or (current is value and only_use(current) is None):
            return None
        moves.insert(0, current)
        assert node.inputs[0] is not None
        current = node.inputs[0]
        product = _product(current)
    ids = follow(current, moves, sizes)
    if ids is None or ids.ndim != 4:
        return None
    width = product.width
    columns, rows = ids % width, ids // width
    order, places = columns[0, :, 0, :], rows[:, 0, :, 0]
    if np.any(columns != order[None, :, None, :]) or np.any(rows != places[:, None, :, None]):
        return None
    found = _origin(product.data, places, sizes)
    return None if found is None else _Projection(product, *found, order)


def _origin(data: ir.Value, places: Array, sizes: Mapping[str, int]) -> tuple[ir.Value, bool] | None:
    """The value (batch, length, features) or (length, batch, features) with its rows at `places`."""
    batch, length = places.shape
    wanted = {
        True: np.arange(batch * length).reshape(batch, length),
        False: np.arange(batch * length).reshape(length, batch).T,
    }
    found: tuple[ir.Value, bool] | None = None
    moves: list[ir.Value] = []
    current = data
    while True:
        ids = follow(current, moves, sizes)
        features = None if current.shape is None else current.shape[-1]
        if (
            ids is not None
            and isinstance(features, int)
            and current.shape is not None
            and len(current.shape) == 3
        ):
            flat = ids.reshape(-1, ids.shape[-1])
            whole = ids.shape[-1] == features and bool(np.all(flat % features == np.arange(features)))
            if whole:
                rows = (flat[:, 0] // features)[places]
                axes = (first := follow(current, [], sizes)) is not None and first.shape[:2]
                for batch_first, order in wanted.items():
                    own = axes == ((batch, length) if batch_first else (length, batch))
                    if own and np.array_equal(rows, order) and (batch_first or found is None):
                        found = (current, batch_first)
        node = current.producer()
        if node is None or not is_move(node) or node.inputs[0] is None:
            return found
        moves.insert(0, current)
        current = node.inputs[0]


def _output(
    value: ir.Value, heads: tuple[int, int], sizes: Mapping[str, int], *, batch_first: bool
) -> tuple[_Product, Array, ir.Value] | None:
    """The output projection, the rows of its matrix in the order of heads, and the result."""
    moves: list[ir.Value] = []
    current = value
    while True:
        use = only_use(current)
        if use is None:
            return None
        product = _product(_summed(use))
        if product is not None and product.data is current:
            break
        if not is_move(use) or use.inputs[0] is not current:
            return None
        current = use.outputs[0]
        moves.append(current)
    ids = follow(value, moves, sizes)
    first = follow(value, [], sizes)
    if ids is None or first is None or first.ndim != 4:
        return None
    batch, _, length, _ = first.shape
    flat = ids.reshape(-1, ids.shape[-1])
    where = np.unravel_index(flat, first.shape)
    channel = where[1] * heads[1] + where[3]
    if np.any(channel != channel[0]) or len(channel[0]) != heads[0] * heads[1]:
        return None
    if any(np.any(axis != axis[:, :1]) for axis in (where[0], where[2])):
        return None
    places = np.empty((batch, length), np.int64)
    places[where[0][:, 0], where[2][:, 0]] = np.arange(len(flat))
    start = np.arange(ids.size // ids.shape[-1] * product.width).reshape(*ids.shape[:-1], product.width)
    result = _result(product, start, places, sizes, batch_first=batch_first)
    return None if result is None else (product, np.argsort(channel[0]), result)


def _summed(node: ir.Node) -> ir.Value:
    """The result of a product with its bias, where that is added at once."""
    use = only_use(node.outputs[0]) if node.op_type == "MatMul" else None
    return node.outputs[0] if use is None or use.op_type != "Add" else use.outputs[0]


def _result(
    product: _Product, start: Array, places: Array, sizes: Mapping[str, int], *, batch_first: bool
) -> ir.Value | None:
    """The value whose rows are (batch, length), or (length, batch), behind the output projection."""
    last = product.nodes[-1].outputs[0]
    moves: list[ir.Value] = []
    found, current = None, last
    wanted = (places if batch_first else places.T)[..., None] * product.width + np.arange(product.width)
    while True:
        ids = moved(start, moves, sizes)
        if ids is not None and ids.shape == wanted.shape and np.array_equal(ids, wanted):
            found = current
        use = only_use(current)
        if use is None or not is_move(use) or use.inputs[0] is not current:
            return found
        current = use.outputs[0]
        moves.append(current)


def _product(value: ir.Value | None) -> _Product | None:
    """A value as data times a trained matrix, plus a trained vector or nothing."""
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is None:
        return None
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
        matrix = _matrix(node.inputs[1], transposed=bool(attribute(node, "transB", 0))) if plain else None
        addend = node.inputs[2] if len(node.inputs) > 2 else None
        product = node
        if addend is not None and attribute(node, "beta", 1.0) != 1.0:
            return None
    elif node.op_type == "Add":
        pairs = itertools.permutations(node.inputs)
        found = [(made, other) for each, other in pairs if (made := producer(each, "MatMul")) is not None]
        if len(found) != 1 or found[0][1] is None or only_use(found[0][0].outputs[0]) is not node:
            return None
        product, addend = found[0]
        matrix = _matrix(product.inputs[1], transposed=False)
    else:
        product, addend = node, None
        matrix = _matrix(node.inputs[1], transposed=False)
    data = product.inputs[0]
    if matrix is None or data is None:
        return None
    bias = None
    if addend is not None:
        bias = _vector(addend)
        if bias is None or len(bias[1]) != len(matrix.channels):
            return None
    return _Product(product, data, matrix, bias, (node,) if product is node else (product, node))


def _tensor(value: ir.Value | None) -> tuple[ir.Value, Array] | None:
    """A trained tensor and which of its elements a value holds."""
    moves: list[ir.Value] = []
    while value is not None and not is_trained(value):
        node = value.producer()
        if node is None or not is_move(node):
            return None
        moves.insert(0, value)
        value = node.inputs[0]
    ids = None if value is None else follow(value, moves, {})
    return None if value is None or ids is None else (value, ids)


def _matrix(value: ir.Value | None, *, transposed: bool) -> _Matrix | None:
    found = _tensor(value)
    shape = None if found is None else static_shape(found[0])
    if found is None or shape is None or len(shape) != 2 or found[1].ndim != 2:
        return None
    ids = found[1].T if transposed else found[1]
    for turned in (False, True):
        rows, columns = shape if not turned else shape[::-1]
        grid = np.arange(rows * columns).reshape(shape)
        grid = grid.T if turned else grid
        if ids.shape[0] != rows:
            continue
        channels = [int(np.flatnonzero(grid[0] == each)[0]) for each in ids[0] if np.any(grid[0] == each)]
        if len(channels) == ids.shape[1] and np.array_equal(grid[:, channels], ids):
            return _Matrix(found[0], turned, tuple(channels))
    return None


def _vector(value: ir.Value) -> tuple[ir.Value, tuple[int, ...]] | None:
    found = _tensor(value)
    if found is None or found[1].ndim != 1 or len(static_shape(found[0]) or ()) != 1:
        return None
    return found[0], tuple(int(each) for each in found[1])


def _path(value: ir.Value) -> str | None:
    info = metadata.weight_info(value)
    return info.path if info is not None and info.trainable and info.kind == "parameter" else None


def _module(found: _Found) -> str | None:
    """The path of the module whose projections these are; None if the tensors are those of several layers."""
    products = [*(each.product for each in found.inputs), found.output]
    paths = [_path(each.matrix.value) for each in products]
    biases = [None if each.bias is None else _path(each.bias[0]) for each in products]
    used = [each.bias is not None for each in products]
    if None in paths or len(set(used)) != 1 or (used[0] and None in biases):
        return None
    for leaves, output, joint in (
        (_PACKED, "out_proj.weight", True),
        (_SEPARATE, "out_proj.weight", True),
        (_KERAS, "attention_output/kernel", False),
    ):
        names = [*leaves, output]
        modules = {
            path.removesuffix(name)
            for path, name in zip(paths, names, strict=True)
            if path is not None and path.endswith(name)
        }
        if len(modules) != 1 or not all(
            path is not None and path.endswith(name) for path, name in zip(paths, names, strict=True)
        ):
            continue
        (module,) = modules
        wanted = (
            ["in_proj_bias"] * 3 + ["out_proj.bias"]
            if joint
            else [name.removesuffix("kernel") + "bias" for name in names]
        )
        if not used[0] or biases == [module + name for name in wanted]:
            return module.rstrip("./")
    return None


def _owns_its_tensors(found: _Found) -> bool:
    """Whether nothing but the layer reads its tensors, and each element of them once."""
    products = [*(each.product for each in found.inputs), found.output]
    taken: dict[ir.Value, list[int]] = {}
    for each in products:
        taken.setdefault(each.matrix.value, []).extend(each.matrix.channels if each.matrix else ())
        if each.bias is not None:
            taken.setdefault(each.bias[0], []).extend(each.bias[1])
    packed = len({each.matrix.value for each in products}) == 2
    nodes = {node for each in products for node in each.nodes}
    for value, channels in taken.items():
        width = (static_shape(value) or (0,))[0]
        matrix = next((each.matrix for each in products if each.matrix.value is value), None)
        if matrix is not None and not matrix.transposed:
            width = (static_shape(value) or (0, 0))[1]
        chosen = _chosen(found, value) if packed or matrix is None else channels
        if sorted(chosen) != list(range(width)) or not _read_only_by(value, nodes):
            return False
    return True


def _chosen(found: _Found, value: ir.Value) -> list[int]:
    """The channels of a tensor that the heads take, or that the output projection gives."""
    chosen: list[int] = []
    for each in found.inputs:
        order = each.order.reshape(-1)
        if each.product.matrix.value is value:
            chosen.extend(each.product.matrix.channels[index] for index in order)
        if each.product.bias is not None and each.product.bias[0] is value:
            chosen.extend(each.product.bias[1][index] for index in order)
    if found.output.matrix.value is value:
        chosen.extend(found.output.matrix.channels)
    if found.output.bias is not None and found.output.bias[0] is value:
        chosen.extend(found.output.bias[1])
    return chosen


def _read_only_by(value: ir.Value, nodes: set[ir.Node]) -> bool:
    if value.is_graph_output():
        return False
    return all(
        use.node in nodes
        or (is_move(use.node) and all(_read_only_by(output, nodes) for output in use.node.outputs))
        for use in value.uses()
    )


def _features(product: _Product) -> int:
    shape = static_shape(product.matrix.value)
    assert shape is not None
    return shape[1] if product.matrix.transposed else shape[0]


def _is_expressible(found: _Found, target: Target) -> bool:
    """Whether the target's layer does the same: PyTorch has one width, and takes causal masks as squares."""
    q, k, v = found.inputs
    if target == "tf":
        return True
    width = _features(q.product)
    heads, size = q.order.shape
    square = not _is_causal(found) or _length(q) == _length(k) is not None
    return heads * size == width == found.output.width and v.order.shape == q.order.shape and square


def _is_causal(found: _Found) -> bool:
    return bool(attribute(found.node, "is_causal", 0))


def _length(each: _Projection) -> Dim:
    return None if each.source.shape is None else dim_of(each.source.shape[int(each.batch_first)])


def _replace(found: _Found, model: ir.Model, target: Target) -> None:
    node = found.node
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    q, _, v = found.inputs
    heads, size = q.order.shape
    maker = _Maker(model)
    tensors = maker.keras(found) if target == "tf" else maker.torch(found)
    last = found.result.producer()
    assert last is not None
    products = [*(each.product for each in found.inputs), found.output]
    attributes = {
        "num_heads": heads,
        "key_dim": size,
        "value_dim": v.order.shape[1],
        "features": _features(q.product),
        "width": found.output.width,
        "is_causal": int(_is_causal(found)),
        "batch_first": int(found.batch_first),
        "dropout": float(metadata.attention_dropout(node)),
        "label": "attention",
    }
    swap = target == "tf" and not found.batch_first
    sources: dict[ir.Value, ir.Value] = {}

    def swapped(value: ir.Value) -> ir.Value:
        turned = ir.node("Transpose", [value], {"perm": (1, 0, 2)})
        turned.metadata_props.update(last.metadata_props)
        graph.insert_before(last, turned)
        turned.outputs[0].type = value.type
        if value.shape is not None:
            turned.outputs[0].shape = ir.Shape([value.shape[axis] for axis in (1, 0, 2)])
        return turned.outputs[0]

    for each in found.inputs:
        if each.source not in sources:
            sources[each.source] = swapped(each.source) if swap else each.source
    inputs = [sources[each.source] for each in found.inputs]
    masks: list[ir.Value] = []
    if target == "torch" and _is_causal(found):
        axis = int(found.batch_first)
        mask = ir.Node(DOMAIN, "CausalMask", inputs[:1], [ir.AttrInt64("axis", axis)])
        metadata.set_scope(mask, metadata.scope_of(node))
        graph.insert_before(last, mask)
        length = None if inputs[0].shape is None else inputs[0].shape[axis]
        mask.outputs[0].type = inputs[0].type
        mask.outputs[0].shape = None if length is None else ir.Shape([length, length])
        masks.append(mask.outputs[0])
    made = ir.Node(
        DOMAIN,
        "MultiHeadAttention",
        [*inputs, *tensors, *masks],
        ir.convenience.convert_attributes(attributes),
    )
    metadata.set_scope(made, common_scope([node, *(each for p in products for each in p.nodes)]))
    metadata.set_location(made, metadata.location_of(node))
    made.name = node.name
    graph.insert_before(last, made)
    result = made.outputs[0]
    result.type = found.result.type
    if found.result.shape is not None:
        axes = (1, 0, 2) if swap else (0, 1, 2)
        result.shape = ir.Shape([found.result.shape[axis] for axis in axes])
    take_over(found.result, swapped(result) if swap else result)


class _Maker:
    """Makes the initializers of the target's layer."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._shapes = {path: tensor.shape for path, tensor in metadata.source_tensors(model).items()}
        self._known: dict[str, ir.Value] = {}

    def keras(self, found: _Found) -> list[ir.Value | None]:
        made: list[ir.Value | None] = []
        for each in found.inputs:
            order = [int(index) for index in each.order.reshape(-1)]
            product = each.product
            kernel = step("reshape", _columns(product, order), shape=(_features(product), *each.order.shape))
            made.append(self._make(product.matrix.value, kernel, (_features(product), *each.order.shape)))
            vector = _entries(product, order)
            made.append(
                self._bias(
                    product, None if vector is None else _shaped(vector, each.order.shape), each.order.shape
                )
            )
        heads = found.inputs[2].order.shape
        output, width = found.output, found.output.width
        kernel = step("reshape", self._rows(found), shape=(*heads, width))
        made.append(self._make(output.matrix.value, kernel, (*heads, width)))
        made.append(self._bias(output, _entries(output, range(width)), (width,)))
        return made

    def torch(self, found: _Found) -> list[ir.Value | None]:
        """in_proj_weight, or None and q_proj_weight, k_proj_weight, v_proj_weight; biases; the output's."""
        parts = [(each.product, [int(i) for i in each.order.reshape(-1)]) for each in found.inputs]
        matrices = [step("transpose", _columns(*part), perm=(1, 0)) for part in parts]
        products = [product for product, _ in parts]
        width = _features(products[0])
        made: list[ir.Value | None] = [None, None, None, None]
        if all(_features(each) == width for each in products):
            joined = _whole_matrix(parts) or step("concat", *matrices, axis=0)
            made[0] = self._make(products[0].matrix.value, joined, (3 * width, width))
        else:
            for index, (product, recipe) in enumerate(zip(products, matrices, strict=True), 1):
                made[index] = self._make(product.matrix.value, recipe, (width, _features(product)))
        vectors = [vector for part in parts if (vector := _entries(*part)) is not None]
        joined = _whole_vector(parts) or step("concat", *vectors, axis=0)
        made.append(self._bias(products[0], joined if vectors else None, (3 * width,)))
        output = found.output
        weight = step("transpose", self._rows(found), perm=(1, 0))
        made.append(self._make(output.matrix.value, weight, (output.width, width)))
        made.append(self._bias(output, _entries(output, range(output.width)), (output.width,)))
        return made

    @staticmethod
    def _rows(found: _Found) -> Recipe:
        """The output's matrix (heads * size, features)."""
        return _taken(_columns(found.output, range(found.output.width)), [int(i) for i in found.rows], 0)

    def _bias(self, product: _Product, recipe: Recipe | None, shape: Sequence[int]) -> ir.Value | None:
        return None if recipe is None or product.bias is None else self._make(product.bias[0], recipe, shape)

    def _make(self, like: ir.Value, recipe: Recipe, shape: Sequence[int]) -> ir.Value:
        wanted = ir.Value(name=like.name, type=like.type, shape=ir.Shape(shape))
        return make_initializer(self._graph, wanted, recipe, self._shapes, self._known)


_Part = tuple[_Product, list[int]]
"""A product and which of its channels are taken, in order."""


def _whole_matrix(parts: Sequence[_Part]) -> Recipe | None:
    """The tensor (channels, features) whose channels are those of all parts, one after the other."""
    matrices = [product.matrix for product, _ in parts]
    value, transposed = matrices[0].value, matrices[0].transposed
    chosen = [product.matrix.channels[index] for product, order in parts for index in order]
    if any(each.value is not value for each in matrices) or chosen != list(range(len(chosen))):
        return None
    source: Recipe = Source(str(value.name))
    return source if transposed else step("transpose", source, perm=(1, 0))


def _whole_vector(parts: Sequence[_Part]) -> Recipe | None:
    """The vector whose entries are those of all parts, one after the other."""
    first = parts[0][0].bias
    if first is None or any(each.bias is None or each.bias[0] is not first[0] for each, _ in parts):
        return None
    chosen = [each.bias[1][index] for each, order in parts if each.bias is not None for index in order]
    return Source(str(first[0].name)) if chosen == list(range(len(chosen))) else None


def _shaped(recipe: Recipe, shape: Sequence[int]) -> Recipe:
    return step("reshape", recipe, shape=tuple(shape))


def _columns(product: _Product, order: Sequence[int]) -> Recipe:
    """Columns of a product's matrix."""
    matrix = product.matrix
    shape = static_shape(matrix.value)
    assert shape is not None
    source: Recipe = Source(str(matrix.value.name))
    whole = step("transpose", source, perm=(1, 0)) if matrix.transposed else source
    chosen = [matrix.channels[index] for index in order]
    return whole if chosen == list(range(shape[0 if matrix.transposed else 1])) else _taken(whole, chosen, 1)


def _entries(product: _Product, order: Sequence[int]) -> Recipe | None:
    """Entries of a product's bias."""
    if product.bias is None:
        return None
    value, channels = product.bias
    chosen = [channels[index] for index in order]
    source: Recipe = Source(str(value.name))
    return source if chosen == list(range((static_shape(value) or (0,))[0])) else _taken(source, chosen, 0)


def _taken(recipe: Recipe, indices: Sequence[int], axis: int) -> Recipe:
    """Elements along an axis: a slice where they follow one another."""
    start, stop = indices[0], indices[0] + len(indices)
    if list(indices) == list(range(start, stop)):
        return step("slice", recipe, axis=axis, start=start, stop=stop)
    return step("take", recipe, axis=axis, indices=tuple(indices))
