"""The tensors of a target's recurrent layer, made from those of an ONNX node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import free_name
from bridge.hub.recipe import (
    Array,
    Literal,
    Recipe,
    Source,
    Step,
    from_json,
    is_move,
    run,
    sources,
    step,
    to_json,
)
from bridge.passes.fold_trained import joint_info, substitute

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FROM_ONNX = {
    ("LSTM", "tf"): (0, 2, 3, 1),
    ("LSTM", "torch"): (0, 2, 3, 1),
    ("GRU", "tf"): (0, 1, 2),
    ("GRU", "torch"): (1, 0, 2),
    ("RNN", "tf"): (0,),
    ("RNN", "torch"): (0,),
}
"""The order in which a target holds the gates of ONNX: i f g o of i o f c; GRU z r h, in PyTorch r z n."""


class LayerWeights:
    """Makes the initializers of one graph's recurrent layers; equal ones are made once."""

    def __init__(self, model: ir.Model, target: str) -> None:
        self._graph = model.graph
        self._target = target
        self._tensors = metadata.source_tensors(model)
        self._shapes = {path: tensor.shape for path, tensor in self._tensors.items()}
        self._made: dict[str, ir.Value] = {}

    def matrix(self, node: ir.Node, index: int, direction: int, name: str) -> ir.Value:
        """The projection of the inputs (1) or of the state (2): (gates, features), transposed for Keras."""
        value = node.inputs[index]
        assert value is not None
        gates = self._gates(self._slice(value, direction), node, value, columns=_size(value, 2))
        if self._target == "tf":
            gates = step("transpose", gates, perm=(1, 0))
        return self._make(value, gates, name)

    def bias(self, node: ir.Node, direction: int, half: int, name: str) -> ir.Value:
        """The bias of the inputs' projection (0) or of the state's (1)."""
        value = node.inputs[3]
        assert value is not None
        return self._make(value, self._half(node, value, direction, half), name)

    def summed_bias(self, node: ir.Node, direction: int, name: str) -> ir.Value:
        """Both biases in one, for a layer that has one only."""
        value = node.inputs[3]
        assert value is not None
        single = self._single_bias(node, value, direction)
        if single is not None:
            return self._make(value, single, name)
        halves = (self._half(node, value, direction, half) for half in (0, 1))
        return self._make(value, step("add", *halves), name)

    def has_two_biases(self, node: ir.Node) -> bool:
        """Whether both biases are trained: their sum would train as one."""
        value = node.inputs[3]
        assert value is not None
        return any(self._single_bias(node, value, direction) is None for direction in range(_size(value, 0)))

    def _single_bias(self, node: ir.Node, value: ir.Value, direction: int) -> Recipe | None:
        """The half of a bias that is trained, where the other is zero and not trained."""
        halves = [self._half(node, value, direction, half) for half in (0, 1)]
        original = {str(value.name): from_json(metadata.recipe_record(value))}
        trained = [half for half in halves if shortest(substitute(half, original), self._shapes) is not None]
        if len(trained) == 1 and self._is_zero(value, next(each for each in halves if each not in trained)):
            return trained[0]
        return None

    @staticmethod
    def _is_zero(value: ir.Value, recipe: Recipe) -> bool:
        assert value.const_value is not None
        return not np.any(run(recipe, {str(value.name): value.const_value.numpy()}))

    def both_biases(self, node: ir.Node, direction: int, name: str) -> ir.Value:
        """Both biases as the rows of a matrix."""
        value = node.inputs[3]
        assert value is not None
        width = _size(value, 1) // 2
        halves = [
            step("reshape", self._half(node, value, direction, half), shape=(1, width)) for half in (0, 1)
        ]
        return self._make(value, step("concat", *halves, axis=0), name)

    def _half(self, node: ir.Node, value: ir.Value, direction: int, half: int) -> Recipe:
        width = _size(value, 1) // 2
        part = step(
            "slice", self._slice(value, direction), axis=1, start=half * width, stop=half * width + width
        )
        return self._gates(part, node, value, columns=1, flat=True)

    @staticmethod
    def _slice(value: ir.Value, direction: int) -> Recipe:
        source = Source(str(value.name))
        if _size(value, 0) == 1:
            return source
        return step("slice", source, axis=0, start=direction, stop=direction + 1)

    def _gates(
        self, recipe: Recipe, node: ir.Node, value: ir.Value, *, columns: int, flat: bool = False
    ) -> Recipe:
        """One direction's (1, gates * size, ...) with the gates in the target's order."""
        count = GATES[node.op_type]
        size = _size(value, 1) // (2 * count if flat else count)
        shaped = step("reshape", recipe, shape=(count, size, columns))
        order = _FROM_ONNX[node.op_type, self._target]
        if order != tuple(range(count)):
            shaped = step("take", shaped, axis=0, indices=order)
        return step("reshape", shaped, shape=(count * size,) if flat else (count * size, columns))

    def _make(self, value: ir.Value, recipe: Recipe, name: str) -> ir.Value:
        """An initializer computed from another one."""
        assert value.const_value is not None
        original = from_json(metadata.recipe_record(value))
        whole = substitute(recipe, {str(value.name): original})
        found = shortest(whole, self._shapes)
        record = None if found is None else to_json(found)
        key = str(record) if record is not None else f"{value.name} {name}"
        if key in self._made:
            return self._made[key]
        shape = run(recipe, {str(value.name): np.empty(value.const_value.shape.numpy(), np.bool_)}).shape
        tensor = ir.LazyTensor(
            partial(_compute, recipe, str(value.name), value.const_value),
            dtype=value.const_value.dtype,
            shape=ir.Shape(shape),
            cache=True,
        )
        made = ir.Value(
            name=free_name(self._graph, f"{value.name}_{name}"),
            const_value=tensor,
            type=ir.TensorType(value.const_value.dtype),
            shape=ir.Shape(shape),
        )
        if found is not None:
            metadata.set_recipe_record(made, record)
            metadata.set_weight_info(made, self._info(value, found))
        self._graph.register_initializer(made)
        self._made[key] = made
        return made

    def _info(self, value: ir.Value, recipe: Recipe) -> metadata.WeightInfo | None:
        """The record of the source's tensors that are in fact read."""
        read = [self._tensors[name] for name in dict.fromkeys(sources(recipe)) if name in self._tensors]
        return joint_info([tensor.info for tensor in read]) or metadata.weight_info(value)


def _compute(recipe: Recipe, name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.Tensor(run(recipe, {name: tensor.numpy()}), dtype=tensor.dtype)


def _size(value: ir.Value, axis: int) -> int:
    assert value.const_value is not None
    return value.const_value.shape.numpy()[axis]


def shortest(recipe: Recipe, shapes: Mapping[str, Sequence[int]]) -> Recipe | None:
    """Moves that in the end give one source as it is, or a matrix transposed, as just that.

    Reordering the gates for ONNX and again for the target often leaves nothing to do. None if no trained
    tensor enters: what is left is a constant.
    """
    names = list(dict.fromkeys(sources(recipe)))
    if not _places_only(recipe) or not all(name in shapes for name in names):
        if isinstance(recipe, Step):
            inner = [shortest(each, shapes) or each for each in recipe.inputs]
            return Step(recipe.op, tuple(inner), recipe.attributes)
        return recipe
    numbered: dict[str, Array] = {}
    start = 0
    for name in names:
        size = int(np.prod(shapes[name], dtype=np.int64))
        numbered[name] = np.arange(start, start + size).reshape(tuple(shapes[name]))
        start += size
    result = run(_blank(recipe), numbered)
    if np.all(result < 0):
        return None
    for name, numbers in numbered.items():
        if result.size != numbers.size:
            continue
        source: Recipe = Source(name)
        if np.array_equal(result.reshape(-1), numbers.reshape(-1)):
            return source if result.shape == numbers.shape else step("reshape", source, shape=result.shape)
        if numbers.ndim == 2 and np.array_equal(result, numbers.T):
            return step("transpose", source, perm=(1, 0))
    if isinstance(recipe, Step) and recipe.op == "concat":
        parts = [shortest(each, shapes) or each for each in recipe.inputs]
        return Step(recipe.op, tuple(parts), recipe.attributes)
    return recipe


def _places_only(recipe: Recipe) -> bool:
    """Whether elements of trained tensors arrive unchanged, possibly among constants."""
    if not isinstance(recipe, Step):
        return True
    return (is_move(recipe.op) or next(sources(recipe), None) is None) and all(
        map(_places_only, recipe.inputs)
    )


def _blank(recipe: Recipe) -> Recipe:
    """The recipe with -1 in place of every constant."""
    if isinstance(recipe, Step) and next(sources(recipe), None) is not None:
        return Step(recipe.op, tuple(map(_blank, recipe.inputs)), recipe.attributes)
    if isinstance(recipe, Source):
        return recipe
    return Literal(np.full(np.shape(run(recipe, {})), -1).tolist(), "int64")
