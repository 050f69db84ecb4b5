"""The plan of the emitted source: which nodes become native layers, which tensors belong to which module.

The plan speaks of the graph only; how it is written is a matter of `bridge.emit.body` and `module`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from bridge.emit import names, tree
from bridge.emit.layer import Layer, NodeView
from bridge.emit.lowering import LoweringTable
from bridge.hub import metadata, recipe, schemas
from bridge.hub.metadata import Scope, WeightInfo

Path = tuple[str, ...]

_SLOTS = {
    "weight": ("weight", "kernel", "gamma", "embeddings", "weights", "scale"),
    "bias": ("bias", "beta", "biases", "offset"),
    "running_mean": ("running_mean", "moving_mean", "mean"),
    "running_var": ("running_var", "moving_variance", "variance", "var"),
}
"""The names that frameworks give to the same tensor of a layer; the first is PyTorch's."""

_CANONICAL = {alias: slot for slot, aliases in _SLOTS.items() for alias in aliases}
_WEIGHT_SUFFIX = re.compile(r"[._]?(weight|kernel|w|w_0)$")
"""How the name of a layer's weight ends; Caffe2 appends a version."""

_TRIVIAL_SCOPE_NODES = 3
_ONLY_IN_TRAINING = frozenset({"Dropout"})
"""Operators that do nothing in inference: as anything but a layer they would be lost."""


@dataclass(eq=False)
class LayerSpec:
    """A native layer of the target at a path of the module tree, and the nodes that call it."""

    path: Path
    layer: Layer
    nodes: list[ir.Node] = field(default_factory=list)


@dataclass(eq=False)
class ParameterSpec:
    """A tensor that a module owns itself. `literal` constants are written into the source text."""

    path: Path
    value: ir.Value
    info: WeightInfo | None
    literal: bool = False

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter of its module rather than a buffer."""
        return self.info is not None and self.info.kind == "parameter"


@dataclass
class Plan:
    """What the emitter prints: the nested regions, the layers and the tensors with their paths."""

    root: tree.Region
    layers: dict[Path, LayerSpec]
    layer_of: dict[ir.Node, LayerSpec]
    parameters: dict[Path, ParameterSpec]
    owners: dict[ir.Value, ParameterSpec | tuple[LayerSpec, str]]
    homes: dict[ir.Node, ir.Node]
    """The node of the main graph in whose subgraphs a node lies; itself for most."""


def canonical_leaf(name: str) -> str:
    """The canonical name of a tensor of a layer: `kernel` and `gamma` are `weight`, and so on."""
    return _CANONICAL.get(name, name)


def split_path(path: str, framework: str) -> Path:
    """A source's tensor path as components: dots in PyTorch, slashes in TensorFlow, both in ONNX files."""
    separators = {"torch": r"\.", "tf": r"/"}.get(framework, r"[./]")
    return tuple(part for part in re.split(separators, path) if part) or (path,)


def origin(value: ir.Value) -> WeightInfo | None:
    """The record of the trained tensor that an initializer is, or is computed from; None for constants."""
    info = metadata.weight_info(value)
    if info is not None:
        return info
    record = metadata.recipe_record(value)
    if record is None:
        return None
    sources = list(dict.fromkeys(recipe.sources(recipe.from_json(record))))
    return WeightInfo(sources[0], "parameter", True) if sources else None


def _trained_paths(model: ir.Model, framework: str) -> dict[ir.Value, Path]:
    """The source's path of every trained initializer, and of every one that is computed from trained ones."""
    return {
        value: split_path(info.path, framework)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if (info := origin(value)) is not None
    }


def node_view(
    node: ir.Node, imports: Mapping[str, int], *, trains_as: Literal["torch", "tf"] | None = None
) -> NodeView:
    """The node with the default attributes of its operator's schema, in a graph that imports these opsets."""
    return NodeView(node, defaults=schemas.defaults(node.op_type, node.domain, imports), trains_as=trains_as)


class Planner:
    """Makes the plan of one prepared hub graph."""

    def __init__(self, model: ir.Model, table: LoweringTable) -> None:
        self._graph = model.graph
        self._table = table
        self._info = metadata.source_info(model)
        self._trains_as = metadata.trains_as(model)
        self._nodes = list(model.graph)
        self._homes = tree.home_nodes(self._nodes)
        self._scopes = self._all_scopes()
        self._trained = _trained_paths(model, self._info.framework)
        self._below = Counter(
            path[:depth] for path in self._trained.values() for depth in range(1, len(path) + 1)
        )

    def plan(self, *, dissolved: Iterable[Scope] = ()) -> Plan:
        """Decide everything; `dissolved` are scopes that turned out not to be expressible as modules."""
        layers, layer_of = self._layers()
        owners: dict[ir.Value, ParameterSpec | tuple[LayerSpec, str]] = {}
        for spec in layers.values():
            for slot, tensor in spec.layer.tensors.items():
                owners.setdefault(tensor.value, (spec, slot))
        parameters = self._parameters(layers, layer_of, owners)
        scopes = self._cut(layer_of, owners)
        unwanted = set(dissolved) | self._unwanted(scopes, layers, layer_of, parameters)
        root = tree.arrange(self._nodes, scopes, root_type=self._info.root_type, dissolved=unwanted)
        return Plan(root, layers, layer_of, parameters, owners, self._homes)

    def _all_scopes(self) -> dict[ir.Node, Scope]:
        """The scope of every node; those in subgraphs without one take that of the node that holds them."""
        scopes = tree.complete_scopes(self._nodes)
        for node, home in self._homes.items():
            if node is not home:
                scopes[node] = metadata.scope_of(node) or scopes[home]
        return scopes

    def order(self) -> dict[ir.Node, int]:
        """The position of every node in the graph's order."""
        return {node: index for index, node in enumerate(self._nodes)}

    def _layers(self) -> tuple[dict[Path, LayerSpec], dict[ir.Node, LayerSpec]]:
        population = Counter(
            scope[:depth] for scope in self._scopes.values() for depth in range(1, len(scope) + 1)
        )
        layers: dict[Path, LayerSpec] = {}
        layer_of: dict[ir.Node, LayerSpec] = {}
        owner: dict[ir.Value, Path] = {}
        taken: dict[Scope, names.Namespace] = {}
        for node in self._homes:
            view = node_view(node, self._graph.opset_imports, trains_as=self._trains_as)
            for rule in self._table.rules(node.op_type, node.domain):
                layer = rule(view)
                path = None if layer is None else self._path_of(node, layer, layers, owner, population, taken)
                if layer is None or path is None or not self._may_own(layer, path, owner):
                    continue
                known = layers.get(path)
                if known is not None and known.layer != layer:
                    continue
                spec = known or layers.setdefault(path, LayerSpec(path, layer))
                spec.nodes.append(node)
                layer_of[node] = spec
                for tensor in layer.tensors.values():
                    owner.setdefault(tensor.value, path)
                break
        self._drop_nested(layers, layer_of)
        return layers, layer_of

    def _path_of(
        self,
        node: ir.Node,
        layer: Layer,
        layers: Mapping[Path, LayerSpec],
        owner: Mapping[ir.Value, Path],
        population: Mapping[Scope, int],
        taken: dict[Scope, names.Namespace],
    ) -> Path | None:
        """The path of a node's layer: that of an equal layer with the same tensors if there is one."""
        owners = {owner.get(tensor.value) for tensor in layer.tensors.values()}
        path = owners.pop() if len(owners) == 1 else None
        if path is not None and path in layers and layers[path].layer == layer:
            return path
        return self._layer_path(node, layer, population, taken)

    def _may_own(self, layer: Layer, path: Path, owner: Mapping[ir.Value, Path]) -> bool:
        """A tensor has one owner: a second layer with the same (tied) tensor refers to the first's."""
        return all(owner.get(tensor.value, path) == path for tensor in layer.tensors.values())

    def _layer_path(
        self,
        node: ir.Node,
        layer: Layer,
        population: Mapping[Scope, int],
        taken: dict[Scope, names.Namespace],
    ) -> Path | None:
        scope = self._scopes[node]
        if not layer.tensors:
            names_ = tuple(entry.name for entry in scope)
            if scope and population[scope] == 1:
                return names_
            if node.op_type not in _ONLY_IN_TRAINING:
                return None
            return (*names_, taken.setdefault(scope, names.Namespace()).claim("dropout"))
        trained = {slot: origin(tensor.value) for slot, tensor in layer.tensors.items()}
        paths = {
            slot: split_path(info.path, self._info.framework)
            for slot, info in trained.items()
            if info is not None
        }
        prefixes = {path[:-1] for path in paths.values()}
        matching = all(canonical_leaf(path[-1]) == canonical_leaf(slot) for slot, path in paths.items())
        if layer.label is not None and paths:
            return self._module_path(node, layer, prefixes, taken)
        if paths and len(prefixes) == 1 and matching and () not in prefixes:
            return prefixes.pop()
        if self._info.framework != "onnx":
            return None
        return self._derived_path(node, paths, taken)

    def _module_path(
        self, node: ir.Node, layer: Layer, prefixes: set[Path], taken: dict[Scope, names.Namespace]
    ) -> Path:
        """The path of the module that calls a layer or that holds its tensors, if these are all it holds.

        One below it if it holds others as well.
        """
        levels = zip(*sorted(prefixes), strict=False)
        shared = tuple(level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
        own = {tensor.value for tensor in layer.tensors.values()}
        held = Counter(
            path[:depth]
            for path in (self._trained[value] for value in own if value in self._trained)
            for depth in range(1, len(path) + 1)
        )
        caller = tuple(entry.name for entry in self._scopes[node])
        for path in (caller, shared):
            if path and path == shared[: len(path)] and self._below[path] == held[path]:
                return path
        above = shared or caller
        name = names.identifier(layer.label or names.snake_case(node.op_type), default="layer")
        return (*above, taken.setdefault(self._scopes[node], names.Namespace()).claim(name))

    def _derived_path(
        self, node: ir.Node, paths: Mapping[str, Path], taken: dict[Scope, names.Namespace]
    ) -> Path:
        """A path for a layer of an ONNX file whose tensors carry no usable module path."""
        scope = tuple(entry.name for entry in self._scopes[node])
        words = "_".join(paths.get("weight", ()))
        stem = re.sub(_WEIGHT_SUFFIX, "", words)
        name = names.identifier(stem or names.snake_case(node.op_type), default="layer")
        return (*scope, taken.setdefault(self._scopes[node], names.Namespace()).claim(name))

    def _drop_nested(self, layers: dict[Path, LayerSpec], layer_of: dict[ir.Node, LayerSpec]) -> None:
        """A native layer has no children.

        A stateless layer below another (an activation inside a normalisation's module) moves beside it;
        where trained tensors of others lie at a layer's path or below it, that layer is not used.
        """
        for path, spec in list(layers.items()):
            above = [path[:depth] for depth in range(1, len(path)) if path[:depth] in layers]
            if above and not spec.layer.tensors:
                del layers[path]
                outer = above[0]
                spec.path = (*outer[:-1], "_".join(path[len(outer) - 1 :]))
                while spec.path in layers:
                    spec.path = (*spec.path[:-1], f"{spec.path[-1]}_")
                layers[spec.path] = spec
        occupied = set(layers)
        owned = {tensor.value for spec in layers.values() for tensor in spec.layer.tensors.values()}
        occupied.update(path[:-1] for value, path in self._trained.items() if value not in owned)
        inner = {path[:depth] for path in occupied for depth in range(1, len(path))}
        foreign = self._foreign_tensors(layers)
        for path in [each for each in layers if each in inner or each in foreign]:
            for node in layers.pop(path).nodes:
                del layer_of[node]

    def _foreign_tensors(self, layers: Mapping[Path, LayerSpec]) -> set[Path]:
        """The layers at whose path the source has trained tensors that are not the layer's."""
        foreign = set()
        for value, (*above, _) in self._trained.items():
            spec = layers.get(tuple(above))
            if spec is not None and all(tensor.value is not value for tensor in spec.layer.tensors.values()):
                foreign.add(tuple(above))
        return foreign

    def _parameters(
        self,
        layers: Mapping[Path, LayerSpec],
        layer_of: Mapping[ir.Node, LayerSpec],
        owners: dict[ir.Value, ParameterSpec | tuple[LayerSpec, str]],
    ) -> dict[Path, ParameterSpec]:
        """Tensors that nodes read directly, at their source's path."""
        parameters: dict[Path, ParameterSpec] = {}
        for node in self._homes:
            for value in _read(node, layer_of.get(node)):
                if value is None or value in owners or not value.is_initializer():
                    continue
                info = origin(value)
                if info is None:
                    continue
                path = split_path(info.path, self._info.framework)
                while path in parameters or path in layers:
                    path = (*path[:-1], f"{path[-1]}_{node.op_type.lower()}")
                owners[value] = parameters[path] = ParameterSpec(path, value, info)
        return parameters

    def _cut(
        self,
        layer_of: Mapping[ir.Node, LayerSpec],
        owners: Mapping[ir.Value, ParameterSpec | tuple[LayerSpec, str]],
    ) -> dict[ir.Node, Scope]:
        """Scopes shortened until the modules that a node uses lie below its own."""
        scopes: dict[ir.Node, Scope] = {}
        for node in self._nodes:
            scope = self._scopes[node]
            homes = []
            for inner in tree.with_inner([node]):
                spec = layer_of.get(inner)
                if spec is not None:
                    homes.append(spec.path[:-1])
                for value in inner.inputs:
                    owner = None if value is None else owners.get(value)
                    if owner is None or (spec is not None and isinstance(owner, tuple) and owner[0] is spec):
                        continue
                    homes.append(owner[0].path if isinstance(owner, tuple) else owner.path[:-1])
            for home in homes:
                length = 0
                while length < min(len(scope), len(home)) and scope[length].name == home[length]:
                    length += 1
                scope = scope[:length]
            scopes[node] = scope
        return scopes

    def _unwanted(
        self,
        scopes: Mapping[ir.Node, Scope],
        layers: Mapping[Path, LayerSpec],
        layer_of: Mapping[ir.Node, LayerSpec],
        parameters: Mapping[Path, ParameterSpec],
    ) -> set[Scope]:
        """Scopes that would make no good module: a single native layer, or a few nodes without tensors."""
        members: dict[Scope, list[ir.Node]] = {}
        for node, scope in scopes.items():
            for depth in range(1, len(scope) + 1):
                members.setdefault(scope[:depth], []).append(node)
        holders = {path[:depth] for path in (*layers, *parameters) for depth in range(1, len(path))}
        unwanted = set()
        for scope, nodes in members.items():
            path = tuple(entry.name for entry in scope)
            inside_layer = any(path[:depth] in layers for depth in range(1, len(path) + 1))
            inner = list(tree.with_inner(nodes))
            stateless = path not in holders and not any(node in layer_of for node in inner)
            if inside_layer or (stateless and len(inner) <= _TRIVIAL_SCOPE_NODES):
                unwanted.add(scope)
        return unwanted


def regions(root: tree.Region) -> Iterator[tree.Region]:
    """All regions, inner ones first."""
    for item in root.items:
        if isinstance(item, tree.Region):
            yield from regions(item)
    yield root


def _read(node: ir.Node, spec: LayerSpec | None) -> list[ir.Value | None]:
    """What a node reads apart from the tensors of its layer; a layer may be called with a trained tensor."""
    if spec is None:
        return list(node.inputs)
    passed = spec.layer.passed(node)
    return [each for value in passed for each in (value if isinstance(value, list) else [value])]
