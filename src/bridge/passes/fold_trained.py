"""Folding with provenance: what is computed from trained tensors alone becomes one tensor with a recipe.

Newer weights follow the recipe. Two rules keep the model trainable: a tensor stays one tensor (if two
results would come out of it, as with tied weights, the nodes stay), and computations on parameters stay
in the graph (a weight that is normalised before use is trained through its normalisation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import free_name, is_trained, replace_by_initializer, static_shape
from bridge.hub.metadata import WeightInfo
from bridge.hub.recipe import Recipe, Source, Step, from_json, is_move, run, sources, step, to_json
from bridge.passes.recipe_moves import simplify
from bridge.passes.recipe_steps import literal, translation


def fold_moves(model: ir.Model) -> ir.Model:
    """Fold transposes, reshapes, splits and the like of trained tensors."""
    return _fold_trained(model, compute_buffers=False)


def fold_buffers(model: ir.Model) -> ir.Model:
    """Fold moves of trained tensors, and what is computed from buffers."""
    return _fold_trained(model, compute_buffers=True)


@dataclass(frozen=True)
class _Folded:
    """A value that could be an initializer.

    `recipe` is over the graph's present initializers. `computable` says that computations on it may be
    folded.
    """

    recipe: Recipe
    computable: bool


def _fold_trained(model: ir.Model, *, compute_buffers: bool) -> ir.Model:
    """Fold in the main graph.

    First all foldable values are found without a change to the graph, then those that are read by
    nodes which stay are made, where each of their tensors ends up in one result only.
    """
    graph = model.graph
    folded: dict[ir.Value, _Folded] = {}
    shapes = {name: static_shape(value) for name, value in graph.initializers.items()}
    for value in graph.initializers.values():
        if is_trained(value):
            info = metadata.weight_info(value)
            is_parameter = info is None or info.kind == "parameter"
            folded[value] = _Folded(Source(str(value.name)), compute_buffers and not is_parameter)
    foldable: set[ir.Node] = set()
    for node in graph:
        results = _recipes(node, folded, shapes)
        if results is not None:
            foldable.add(node)
            folded.update(zip(node.outputs, results, strict=True))

    results_of: dict[str, dict[Recipe, list[ir.Value]]] = {}
    frontier: list[ir.Value] = []
    for value, item in folded.items():
        stays = any(use.node not in foldable for use in value.uses()) or value.is_graph_output()
        if stays:
            frontier.append(value)
            for name in sources(item.recipe):
                results_of.setdefault(name, {}).setdefault(item.recipe, []).append(value)

    made: dict[Recipe, ir.Value] = {}
    trained = [value for value in graph.initializers.values() if is_trained(value)]
    known = {str(metadata.recipe_record(value)): value for value in trained}
    source_shapes = {path: tensor.shape for path, tensor in metadata.source_tensors(model).items()}
    for value in frontier:
        recipe = folded[value].recipe
        if isinstance(recipe, Source) and value.producer() is None:
            made.setdefault(recipe, value)
            continue
        if all(len(results_of[name]) == 1 for name in sources(recipe)):
            if recipe not in made:
                made[recipe] = make_initializer(graph, value, recipe, source_shapes, known)
            replace_by_initializer(value, made[recipe])
    return model


def make_initializer(
    graph: ir.Graph,
    value: ir.Value,
    recipe: Recipe,
    shapes: Mapping[str, tuple[int, ...]],
    known: dict[str, ir.Value],
) -> ir.Value:
    """The initializer for a folded value; one that has the same recipe already serves too."""
    if isinstance(recipe, Source):
        return graph.initializers[recipe.name]
    origins = {name: graph.initializers[name] for name in dict.fromkeys(sources(recipe))}
    records = {name: from_json(metadata.recipe_record(origin)) for name, origin in origins.items()}
    record = to_json(simplify(substitute(recipe, records), shapes))
    if str(record) in known:
        return known[str(record)]
    tensors = {name: origin.const_value for name, origin in origins.items()}
    assert value.dtype is not None
    assert value.shape is not None
    tensor = ir.LazyTensor(
        partial(_compute, recipe, tensors, value.dtype), dtype=value.dtype, shape=value.shape, cache=True
    )
    made = ir.Value(
        name=free_name(graph, f"{value.name}_folded"), const_value=tensor, type=value.type, shape=value.shape
    )
    metadata.set_recipe_record(made, record)
    metadata.set_weight_info(made, joint_info([metadata.weight_info(each) for each in origins.values()]))
    graph.register_initializer(made)
    known[str(record)] = made
    return made


def _compute(
    recipe: Recipe, tensors: Mapping[str, ir.TensorProtocol | None], dtype: ir.DataType
) -> ir.TensorProtocol:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    return ir.Tensor(run(recipe, arrays), dtype=dtype)


def substitute(recipe: Recipe, replacements: Mapping[str, Recipe]) -> Recipe:
    """The recipe with each source replaced by the recipe of that name."""
    match recipe:
        case Source(name):
            return replacements[name]
        case Step(op, inputs, attributes):
            return step(op, *(substitute(each, replacements) for each in inputs), **dict(attributes))
    return recipe


def joint_info(infos: Sequence[WeightInfo | None]) -> WeightInfo | None:
    """The record of a tensor made from others: one source keeps its record, several share a path."""
    known = [info for info in infos if info is not None]
    distinct = {info.path: info for info in known}
    if len(distinct) < 2:
        return next(iter(distinct.values()), None)
    paths = list(distinct)
    separator = "/" if all("/" in path for path in paths) else "."
    parts = [path.split(separator) for path in paths]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    leaf = parts[0][-1]
    kinds = [info.kind for info in known]
    return WeightInfo(
        path=separator.join([*shared, leaf]),
        kind="parameter" if "parameter" in kinds else "buffer" if "buffer" in kinds else "constant",
        trainable=any(info.trainable for info in known),
    )


def _recipes(
    node: ir.Node, folded: Mapping[ir.Value, _Folded], shapes: Mapping[str, tuple[int, ...] | None]
) -> list[_Folded] | None:
    """The recipes of a node's outputs over the present initializers; None if the node is not foldable."""
    translate = translation(node)
    trained = [folded[value] for value in node.inputs if value is not None and value in folded]
    if translate is None or not trained or any(static_shape(output) is None for output in node.outputs):
        return None
    operands = [folded[value].recipe if value in folded else literal(value) for value in node.inputs if value]
    results = translate(node, operands)
    if results is None:
        return None
    recipes = [
        _without_idle_reshape(recipe, static_shape(output), shapes)
        for recipe, output in zip(results, node.outputs, strict=True)
    ]
    computable = all(each.computable for each in trained)
    if not computable and not all(_only_places(recipe) for recipe in recipes):
        return None
    return [_Folded(recipe, computable) for recipe in recipes]


def _only_places(recipe: Recipe) -> bool:
    """Whether every element of a trained tensor arrives unchanged, possibly among constants."""
    if isinstance(recipe, Step):
        constant_only = next(sources(recipe), None) is None
        return constant_only or (is_move(recipe.op) and all(_only_places(each) for each in recipe.inputs))
    return True


def _without_idle_reshape(
    recipe: Recipe, shape: tuple[int, ...] | None, shapes: Mapping[str, tuple[int, ...] | None]
) -> Recipe:
    """Drop a reshape that gives a tensor the shape it has."""
    if isinstance(recipe, Step) and recipe.op == "reshape":
        (inner,) = recipe.inputs
        if isinstance(inner, Source) and shapes[inner.name] == shape:
            return inner
    return recipe
