"""From a prepared hub graph to the text of model.py, its tensors, the weight map and the anchors."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import onnx_ir as ir

from bridge.emit import helpers, plan, tree
from bridge.emit.body import Body, BodyWriter
from bridge.emit.classes import ClassWriter, EmittedClass
from bridge.emit.dialect import Dialect, Signature
from bridge.emit.docstrings import module_text, shape_text
from bridge.emit.formatting import Formatter
from bridge.emit.layer import Tensor
from bridge.emit.lowering import LoweringTable
from bridge.emit.modules import Module, ModuleTree
from bridge.emit.syntax import names, unparse
from bridge.emit.training import COMPUTED
from bridge.emit.types import kind_of
from bridge.errors import BridgeError
from bridge.hub import metadata, recipe
from bridge.hub.anchors import Anchor, Anchors
from bridge.hub.carriers import carry
from bridge.hub.metadata import Scope
from bridge.hub.recipe import Array, Recipe
from bridge.hub.weights import TensorMap, WeightMap

FILE_NAME = "model.py"


@dataclass(frozen=True)
class Emitted:
    """The emitted model: its source text, its tensors by target path, and what ties it to the source."""

    source: str
    root_class: str
    tensors: Mapping[str, Array]
    weights: WeightMap
    anchors: Anchors
    inputs: Signature
    outputs: Signature


def emit(model: ir.Model, table: LoweringTable, dialect: Dialect, formatter: Formatter) -> Emitted:
    """Print a prepared graph (see `bridge.passes.pipeline.prepare`) as source of the target framework."""
    planner = plan.Planner(model, table)
    dissolved: set[Scope] = set()
    while True:
        plan_ = planner.plan(dissolved=dissolved)
        modules = ModuleTree(plan_, dialect)
        writer = BodyWriter(plan_, modules, table, dialect, graph=model.graph)
        bodies, clashes = _write_bodies(modules, writer)
        if not clashes:
            break
        if clashes <= dissolved:
            raise BridgeError(
                "the calls of a module differ, and it cannot be dissolved into its parent",
                where=", ".join(sorted(metadata.scope_path(scope) for scope in clashes)),
                hint="this is a fault of bridge, not of the model; please report it",
            )
        dissolved |= clashes
    copied = helpers.class_definitions(_copied_classes(modules))
    class_writer = ClassWriter(
        modules.root,
        {each: bodies[each][0] for each in bodies},
        dialect,
        taken=copied,
    )
    classes = class_writer.classes()
    inputs, outputs = signature_of(model.graph.inputs), signature_of(model.graph.outputs)
    text = formatter.format(_print(classes, class_writer, bodies, copied.values(), dialect, inputs, outputs))
    tensors, weights = _tensors(model, plan_, modules, dialect)
    anchors = _anchors(text, classes, bodies, modules, dialect, planner)
    return Emitted(text, classes[-1].name, tensors, weights, anchors, inputs, outputs)


def _write_bodies(modules: ModuleTree, writer: BodyWriter) -> tuple[dict[Module, list[Body]], set[Scope]]:
    """The forward method of every module that has one; and the scopes whose calls differ from one another."""
    bodies: dict[Module, list[Body]] = {}
    clashes: set[Scope] = set()
    for module in modules.root.modules():
        if module.kind != "class" or not module.regions:
            continue
        written = [writer.write(region, is_root=module is modules.root) for region in module.regions]
        texts = {(tuple(each.parameters), *(ast.dump(line) for line in each.statements)) for each in written}
        if len(texts) > 1:
            clashes.update(scope for region in module.regions for scope in region_scopes(region))
        bodies[module] = written
    return bodies, clashes


def region_scopes(region: tree.Region) -> set[Scope]:
    """The scopes that a region stands for, as its nodes name them."""
    depth = len(region.path)
    found = set()
    for node in region.nodes():
        scope = metadata.scope_of(node) or ()
        if tuple(entry.name for entry in scope[:depth]) == region.path:
            found.add(scope[:depth])
    return found


def signature_of(values: Sequence[ir.Value]) -> Signature:
    """The interface that a graph's inputs, or outputs, make."""
    return Signature(
        names=tuple(each.name or "" for each in values),
        dtypes=tuple("float32" if each.dtype is None else each.dtype.numpy().name for each in values),
        shapes=tuple(
            None
            if each.shape is None
            else tuple(dim if isinstance(dim, int) else str(dim) for dim in each.shape)
            for each in values
        ),
        kinds=tuple(map(kind_of, values)),
    )


def _print(
    classes: list[EmittedClass],
    writer: ClassWriter,
    bodies: Mapping[Module, list[Body]],
    copied: Iterable[helpers.Definition],
    dialect: Dialect,
    inputs: Signature,
    outputs: Signature,
) -> str:
    functions = {
        name: each for written in bodies.values() for body in written for name, each in body.helpers.items()
    }
    definitions = [*helpers.definitions(functions.values()), *copied]
    root = classes[-1].name
    statements = [writer.definition(each, _class_docstring(each)) for each in classes]
    loader, loader_names = _loader(dialect, root)
    docstring = ast.Expr(ast.Constant(dialect.module_docstring(root, inputs, outputs)))
    used = names(*statements).union(loader_names, *(each.names for each in definitions))
    parts = [
        ast.unparse(ast.Module([docstring], [])),
        helpers.import_statements(dialect.imports, used),
        *(each.text for each in definitions),
        *(unparse([each]) for each in statements),
        loader,
    ]
    return "\n\n\n".join(parts) + "\n"


@cache
def _loader(dialect: Dialect, root: str) -> tuple[str, frozenset[str]]:
    """The text of the functions that load the model, and the names in it."""
    statements = dialect.loader(root)
    return unparse(statements), frozenset(names(*statements))


def _copied_classes(modules: ModuleTree) -> set[type]:
    """The layers of the model that the target does not have."""
    return {
        child.layer.source
        for module in modules.root.modules()
        for child in module.children.values()
        if isinstance(child, plan.LayerSpec) and child.layer.source is not None
    }


def _class_docstring(emitted: EmittedClass) -> str:
    path = module_text(emitted.members[0].path)
    if not emitted.bodies:
        return f"Holds the tensors of {path}."
    body = emitted.bodies[0]
    taken = ", ".join(shape_text(value.shape) for value in body.inputs)
    given = ", ".join(shape_text(value.shape) for value in body.outputs)
    subject = path if len(emitted.members) == 1 else f"{path} and {len(emitted.members) - 1} more"
    return f"{subject}: {taken} to {given}."


def _tensors(
    model: ir.Model, plan_: plan.Plan, modules: ModuleTree, dialect: Dialect
) -> tuple[dict[str, Array], WeightMap]:
    info = metadata.source_info(model)
    tensors: dict[str, Array] = {}
    maps: list[TensorMap] = []
    aliases: dict[str, tuple[str, ...]] = {}

    def add(target: str, tensor: Tensor, *, buffer: bool) -> None:
        value = tensor.value
        if value.const_value is None:
            raise ValueError(f"{value.name} is not an initializer")
        array = carry(value.const_value.numpy())
        record = metadata.recipe_record(value)
        chain: Recipe | None = None if record is None else recipe.from_json(record)
        for op, attributes in tensor.moves:
            array = recipe.run(recipe.step(op, recipe.Source("it"), **attributes), {"it": array})
            chain = None if chain is None else recipe.step(op, chain, **attributes)
        origin = plan.origin(value)
        if origin is not None and origin.aliases:
            aliases[origin.path] = origin.aliases
        moves_only = chain is None or recipe.only_moves(chain)
        between_frameworks = {info.framework, dialect.name} == {"torch", "tf"}
        note = tensor.note if chain is not None and between_frameworks else None
        if not moves_only:
            note = tensor.note or COMPUTED
        tensors[target] = array
        maps.append(
            TensorMap(
                target=target,
                shape=tuple(array.shape),
                dtype=array.dtype.name,
                kind="constant" if origin is None else "buffer" if buffer else origin.kind,
                trainable=origin is not None and origin.trainable and not buffer,
                recipe=chain,
                recipe_kind="bijective" if moves_only and note is None else "lossy",
                note=note,
            )
        )

    for module in modules.root.modules():
        for child in module.children.values():
            if isinstance(child, plan.LayerSpec):
                path = modules.target_path(child.path)
                for slot, tensor in child.layer.tensors.items():
                    state = plan.canonical_leaf(slot) in ("running_mean", "running_var")
                    name = dialect.tensor_path(child.layer, slot)
                    add(f"{path}{dialect.separator}{name}", tensor, buffer=state)
                for slot, array in dialect.extra_state(child.layer).items():
                    target = f"{path}{dialect.separator}{slot}"
                    tensors[target] = array
                    maps.append(TensorMap(target, array.shape, array.dtype.name, "buffer", False, None))
            elif isinstance(child, plan.ParameterSpec) and not child.literal:
                add(modules.target_path(child.path), Tensor(child.value), buffer=False)
    maps.sort(key=lambda each: each.target)
    ordered = {each.target: tensors[each.target] for each in maps}
    weights = WeightMap(info.framework, dialect.name, tuple(maps), aliases, info.unused_weights)
    return ordered, weights


def _anchors(
    text: str,
    classes: list[EmittedClass],
    bodies: Mapping[Module, list[Body]],
    modules: ModuleTree,
    dialect: Dialect,
    planner: plan.Planner,
) -> Anchors:
    lines = _statement_lines(text, classes, dialect.forward)
    order = planner.order()
    anchored: dict[ir.Value, tuple[int, Anchor]] = {}

    def record(
        region: tree.Region, item: ir.Node | tree.Region, line: int, variables: Mapping[ir.Value, str]
    ) -> None:
        if isinstance(item, ir.Node):
            for value in item.outputs:
                if value in variables or not variables:
                    path = ".".join(modules.target_parts(region.path))
                    anchor = _anchor(value, item, path, region.call, line, variables.get(value, ""))
                    anchored[value] = (order[item], anchor)
        elif modules[item.path].kind == "sequential":
            for inner in item.items:
                record(item, inner, line, {})

    for emitted in classes:
        for module in emitted.members:
            for region, body in zip(module.regions, bodies.get(module, ()), strict=False):
                for item, made, place in zip(region.items, body.made, body.places, strict=True):
                    record(region, item, lines[emitted.name][place], dict(made))
    in_order = sorted(anchored.items(), key=lambda each: each[1][0])
    return Anchors(
        FILE_NAME,
        tuple(replace(anchor, inputs=_made_from(value, anchored)) for value, (_, anchor) in in_order),
    )


def _made_from(value: ir.Value, anchored: Collection[ir.Value]) -> tuple[str, ...]:
    """The nearest values with an anchor, and inputs of the model, that lead to a value."""
    found: dict[str, None] = {}
    node = value.producer()
    waiting = [] if node is None else list(node.inputs)
    seen: set[ir.Value] = set()
    while waiting:
        each = waiting.pop(0)
        if each is None or each in seen:
            continue
        seen.add(each)
        producer = each.producer()
        if each in anchored or each.is_graph_input():
            found[each.name or ""] = None
        elif producer is not None:
            waiting += producer.inputs
    return tuple(found)


def _anchor(
    value: ir.Value, node: ir.Node, module: str, call: tuple[int, ...], line: int, variable: str
) -> Anchor:
    return Anchor(
        hub=value.name or "",
        source=metadata.source_value(value),
        scope=metadata.scope_path(metadata.scope_of(node) or ()),
        location=metadata.location_of(node),
        operator=node.op_type,
        module=module,
        call=call,
        line=line,
        variable=variable,
        permutation=metadata.permutation_of(value),
        source_permutation=metadata.source_permutation(value),
    )


def _statement_lines(text: str, classes: Sequence[EmittedClass], forward: str) -> dict[str, list[int]]:
    """The line numbers of the statements of each class's forward method in the formatted text.

    Only the classes are parsed: helper functions can be the larger part of a small model.
    """
    lines = text.split("\n")
    tops = [number for number, line in enumerate(lines) if line[:1] not in ("", " ", "#", ")", "]", "}")]
    blocks = {
        lines[start].partition("(")[0]: (start, end) for start, end in itertools.pairwise([*tops, len(lines)])
    }
    result: dict[str, list[int]] = {}
    for each in classes:
        start, end = blocks[f"class {each.name}"]
        (definition,) = ast.parse("\n".join(lines[start:end])).body
        assert isinstance(definition, ast.ClassDef)
        for method in definition.body:
            if isinstance(method, ast.FunctionDef) and method.name == forward:
                result[each.name] = [start + statement.lineno for statement in method.body]
    return result
