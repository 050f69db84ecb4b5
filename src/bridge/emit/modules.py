"""The modules of the emitted source as a tree, how each is written, and how one refers to another."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from bridge.emit import names, tree
from bridge.emit.dialect import Dialect
from bridge.emit.literals import call, literal
from bridge.emit.plan import LayerSpec, ParameterSpec, Path, Plan

Kind = Literal["class", "sequential", "list", "dict"]
"""How a module is written: a class of its own, or one of the target's containers."""


@dataclass(eq=False)
class Module:
    """A module that is not a native layer. `base` says which container a class derives from, if any."""

    path: Path
    type: str
    regions: list[tree.Region] = field(default_factory=list)
    children: dict[str, Module | LayerSpec | ParameterSpec] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    kind: Kind = "class"
    indexed: Literal["", "list", "dict"] = ""
    registered: set[str] = field(default_factory=set)
    """Children whose names cannot be written after a dot; they are registered under them as strings."""

    def modules(self) -> Iterator[Module]:
        """This module and all below it, inner ones first."""
        for child in self.children.values():
            if isinstance(child, Module):
                yield from child.modules()
        yield self


class ModuleTree:
    """All modules of a plan."""

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        self._dialect = dialect
        self._homes = plan.homes
        self.root = Module((), plan.root.type)
        self._index: dict[Path, Module] = {(): self.root}
        self._add_regions(plan.root)
        for path, spec in plan.layers.items():
            self._at(path[:-1]).children[path[-1]] = spec
        for path, parameter in plan.parameters.items():
            self._at(path[:-1]).children[path[-1]] = parameter
        first_use = _first_uses(plan)
        for module in self._index.values():
            in_order = sorted(
                module.children, key=lambda name: first_use.get((*module.path, name), len(first_use))
            )
            module.children = {name: module.children[name] for name in in_order}
            self._decide_kind(module, plan)
            self._name_children(module)

    def _add_regions(self, region: tree.Region) -> None:
        module = self._at(region.path)
        module.type = region.type
        module.regions.append(region)
        for item in region.items:
            if isinstance(item, tree.Region):
                self._add_regions(item)

    def _at(self, path: Path) -> Module:
        module = self._index.get(path)
        if module is None:
            module = self._index[path] = Module(path, path[-1])
            self._at(path[:-1]).children[path[-1]] = module
        return module

    def __getitem__(self, path: Path) -> Module:
        return self._index[path]

    def _decide_kind(self, module: Module, plan: Plan) -> None:
        numbered = all(names.is_index(name) for name in module.children) and bool(module.children)
        if numbered:
            module.children = dict(sorted(module.children.items(), key=lambda item: int(item[0])))
        modules_only = not any(isinstance(each, ParameterSpec) for each in module.children.values())
        contiguous = [int(name) for name in module.children if names.is_index(name)] == list(
            range(len(module.children))
        )
        if module is not self.root and modules_only and self._is_chain(module, plan):
            gaps_allowed = self._dialect.uses_containers and numbered
            if not self._dialect.uses_containers or contiguous or gaps_allowed:
                module.kind = "sequential"
        elif self._dialect.uses_containers and numbered and modules_only:
            module.indexed = "list" if contiguous else "dict"
            if not module.regions and module is not self.root:
                module.kind = "list" if module.indexed == "list" else "dict"

    def _is_chain(self, module: Module, plan: Plan) -> bool:
        """Whether a module only calls its children one after the other, each once, on one tensor."""
        if len(module.regions) != 1 or not module.children:
            return False
        (region,) = module.regions
        called: list[str] = []
        previous: ir.Value | None = None
        for item in region.items:
            inputs, outputs = values_read(item), values_made(item, self._homes)
            spec = plan.layer_of.get(item) if isinstance(item, ir.Node) else None
            if isinstance(item, ir.Node):
                if spec is None or len(item.outputs) != 1 or spec.layer.keywords or spec.layer.call_options:
                    return False
                taken = spec.layer.passed(item)
                inputs = [value for value in taken if isinstance(value, ir.Value)]
                if len(inputs) != len(taken):
                    return False
                path = spec.path
            else:
                path = item.path
            if path[:-1] != module.path or len(inputs) != 1 or len(outputs) != 1:
                return False
            if previous is not None and not self._flows_only_into(previous, item, inputs[0]):
                return False
            if inputs[0].is_initializer():
                return False
            called.append(path[-1])
            previous = outputs[0]
        return called == list(module.children)

    def _flows_only_into(self, value: ir.Value, item: ir.Node | tree.Region, taken: ir.Value) -> bool:
        members = set(item.nodes()) if isinstance(item, tree.Region) else {item}
        inside = all(self._homes[user] in members for user, _ in value.uses())
        return taken is value and inside and not value.is_graph_output()

    def _name_children(self, module: Module) -> None:
        if self._dialect.uses_containers and (module.kind != "class" or module.indexed):
            module.attributes = {name: name for name in module.children}
            return
        namespace = names.Namespace()
        for name, child in module.children.items():
            prefix = "weight" if isinstance(child, ParameterSpec) else "layer"
            attribute = names.attribute(name, default=prefix, reserved=self._dialect.reserved)
            if attribute != name and self._dialect.uses_containers and self._may_register(name):
                module.registered.add(name)
                attribute = name
            module.attributes[name] = namespace.claim(attribute)

    def _may_register(self, name: str) -> bool:
        return "." not in name and name not in self._dialect.reserved

    def add_constant(self, path: Path, value: ir.Value, *, literal_: bool) -> ParameterSpec:
        """Give the module at `path` a constant tensor, named for its value."""
        module = self._index[path]
        name = names.identifier(value.name or "constant", default="constant", reserved=self._dialect.reserved)
        name = names.Namespace({*module.children, *module.attributes.values()}).claim(name)
        spec = ParameterSpec((*path, name), value, None, literal=literal_)
        module.children[name] = spec
        module.attributes[name] = name
        return spec

    def reference(self, source: Path, target: Path) -> ast.expr:
        """How the class at `source` writes the module, layer or tensor at `target` below it."""
        expression: ast.expr = ast.Name("self", ast.Load())
        for depth in range(len(source), len(target)):
            module = self._index[target[:depth]]
            component = target[depth]
            expression = self._step(expression, module, component)
        return expression

    def _step(self, expression: ast.expr, module: Module, component: str) -> ast.expr:
        if not self._dialect.uses_containers and module.kind == "sequential":
            return call(ast.Attribute(expression, "get_layer", ast.Load()), scope_name(component))
        return member(expression, module, component)

    def target_path(self, path: Path) -> str:
        """The path of a tensor or module in the target's own naming."""
        return self._dialect.separator.join(self.target_parts(path))

    def target_parts(self, path: Path) -> list[str]:
        """The components of a path as the target names them."""
        parts = []
        for depth, component in enumerate(path):
            module = self._index[path[:depth]]
            parts.append(
                module.attributes[component] if self._dialect.uses_containers else scope_name(component)
            )
        return parts


def _first_uses(plan: Plan) -> dict[Path, int]:
    """For every path that a node uses, and those above it, the position of the first such node."""
    first: dict[Path, int] = {}
    for index, node in enumerate(tree.with_inner(plan.root.nodes())):
        spec = plan.layer_of.get(node)
        used = [] if spec is None else [spec.path]
        for value in node.inputs:
            owner = None if value is None else plan.owners.get(value)
            if owner is not None:
                used.append(owner.path if isinstance(owner, ParameterSpec) else owner[0].path)
        for path in used:
            for depth in range(1, len(path) + 1):
                first.setdefault(path[:depth], index)
    return first


def member(owner: ast.expr, module: Module, name: str) -> ast.expr:
    """How a child of a module is written, given the expression of the module."""
    child = module.children[name]
    if name in module.registered:
        getter = "get_submodule"
        if isinstance(child, ParameterSpec):
            getter = "get_parameter" if child.is_parameter else "get_buffer"
        return call(ast.Attribute(owner, getter, ast.Load()), name)
    attribute = module.attributes[name]
    if module.kind == "dict" or module.indexed == "dict":
        return ast.Subscript(owner, literal(name), ast.Load())
    if names.is_index(attribute):
        return ast.Subscript(owner, literal(int(attribute)), ast.Load())
    return ast.Attribute(owner, attribute, ast.Load())


def scope_name(component: str) -> str:
    """A component of a path as a Keras layer or variable name: no slash, only what name scopes allow."""
    return "".join(
        each if each.isascii() and (each.isalnum() or each in "_.-") else "_" for each in component
    )


def values_read(item: ir.Node | tree.Region) -> list[ir.Value]:
    """The computed values that an item reads from outside itself, in order of their first use."""
    nodes = list(item.nodes()) if isinstance(item, tree.Region) else [item]
    members = set(nodes)
    return list(
        dict.fromkeys(
            value
            for node in nodes
            for value in tree.read_values(node)
            if value.producer() not in members and not value.is_initializer()
        )
    )


def values_made(item: ir.Node | tree.Region, homes: Mapping[ir.Node, ir.Node]) -> list[ir.Value]:
    """The values that an item makes and something outside it uses, in order."""
    nodes = list(item.nodes()) if isinstance(item, tree.Region) else [item]
    members = set(nodes)
    return [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(homes[user] not in members for user, _ in value.uses())
    ]
