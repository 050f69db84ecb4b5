"""Classes of the emitted source: equal blocks share one, what differs becomes a constructor parameter.

Two modules share a class if they have the same type name, the same children and the same forward
method; the numbers in their constructors may differ. Numbers that always vary together are one parameter.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from bridge.emit import names
from bridge.emit.body import Body
from bridge.emit.dialect import Dialect
from bridge.emit.layer import Inner, Layer
from bridge.emit.literals import assign, call, dotted, literal
from bridge.emit.modules import Module, member, scope_name, values_read
from bridge.emit.plan import LayerSpec, ParameterSpec, canonical_leaf, origin
from bridge.emit.syntax import clone
from bridge.emit.types import annotation, returned
from bridge.hub.carriers import carrier, carry

GENERIC_TYPES = frozenset(
    {"Sequential", "ModuleList", "ModuleDict", "Functional", "Model", "Module", "Layer"}
)
"""Types that say nothing about what a module is; its own name says more."""

Slot = tuple[str, ...]
"""Where a number stands in a constructor: the child's attribute, then the argument."""


@dataclass(eq=False)
class EmittedClass:
    """A class of the output, the modules that are instances of it, and its parameters."""

    name: str
    members: list[Module]
    bodies: list[Body]
    parameters: dict[str, list[Slot]] = field(default_factory=dict)

    def arguments(self, slots: Mapping[Slot, Any]) -> dict[str, Any]:
        """The constructor's arguments for one instance."""
        return {name: slots[places[0]] for name, places in self.parameters.items()}


class ClassWriter:
    """Groups the modules of a tree into classes and prints them."""

    def __init__(
        self,
        root: Module,
        bodies: Mapping[Module, Body],
        dialect: Dialect,
        *,
        taken: Collection[str] = (),
    ) -> None:
        """`taken` are the names of other classes of the emitted module."""
        self._root = root
        self._taken = taken
        self._bodies = bodies
        self._dialect = dialect
        self._keys: dict[Module, Hashable] = {}
        self._class_of: dict[Module, EmittedClass] = {}
        self._slots: dict[Module, dict[Slot, Any]] = {}

    def classes(self) -> list[EmittedClass]:
        """All classes, those that others use first, the root last."""
        groups: dict[Hashable, list[Module]] = {}
        modules = [module for module in self._root.modules() if module.kind == "class"]
        for module in modules:
            groups.setdefault(self._key(module), []).append(module)
        namespace = names.Namespace((*self._dialect.imports, *self._taken))
        root_name = namespace.claim(self._base_name(self._root))
        first_of_name: dict[str, Module] = {}
        result = []
        for members in groups.values():
            first = members[0]
            if first is self._root:
                name = root_name
            else:
                base = self._base_name(first)
                name = namespace.claim(self._variant_name(base, first, first_of_name))
                first_of_name.setdefault(base, first)
            emitted = EmittedClass(
                name, members, [self._bodies[each] for each in members if each in self._bodies]
            )
            for each in members:
                self._class_of[each] = emitted
                self._slots[each] = dict(self._module_slots(each))
            self._find_parameters(emitted)
            result.append(emitted)
        return result

    def definition(self, emitted: EmittedClass, docstring: str) -> ast.ClassDef:
        """The class statement."""
        module = emitted.members[0]
        is_root = module is self._root
        names_of: dict[Slot, str] = {
            slot: name for name, slots in emitted.parameters.items() for slot in slots
        }
        init, build = self._statements(module, names_of, is_root=is_root)
        body: list[ast.stmt] = [ast.Expr(ast.Constant(docstring))]
        body.append(self._init_method(emitted, module, init, is_root=is_root))
        if build:
            shape = dotted("Any")
            body.append(
                _method("build", ["input_shape"], build, annotations=[shape], defaults=[ast.Constant(None)])
            )
        if module in self._bodies:
            body.append(self._forward_method(self._bodies[module]))
        base = self._dialect.root_class if is_root else self._dialect.module_class
        if module.indexed:
            base = "nn.ModuleList" if module.indexed == "list" else "nn.ModuleDict"
        return ast.ClassDef(
            name=emitted.name, bases=[dotted(base)], keywords=[], body=body, decorator_list=[]
        )

    def _base_name(self, module: Module) -> str:
        taken = self._dialect.imports
        if module.type not in GENERIC_TYPES:
            return names.class_name(module.type, reserved=taken)
        if not module.path:
            return "Net"
        name = module.path[-1]
        if names.is_index(name):
            parent = next((each for each in reversed(module.path) if not names.is_index(each)), "block")
            name = f"{parent}_block"
        return names.class_name(name, reserved=taken)

    @staticmethod
    def _variant_name(base: str, module: Module, first_of_name: Mapping[str, Module]) -> str:
        """`BasicBlockWithDownsample` where a further child is what tells a class from its namesake."""
        namesake = first_of_name.get(base)
        if namesake is None:
            return base
        extra = [name for name in module.children if name not in namesake.children]
        if len(extra) == 1 and not names.is_index(extra[0]):
            return f"{base}With{names.class_name(extra[0])}"
        return base

    def _key(self, module: Module) -> Hashable:
        key = self._keys.get(module)
        if key is None:
            children = tuple(
                (module.attributes[name], self._child_key(child)) for name, child in _ordered(module)
            )
            body = self._bodies.get(module)
            forward = () if body is None else tuple(ast.dump(each) for each in body.statements)
            parameters = () if body is None else tuple(body.parameters)
            type_ = module.path[-1:] if module.type in GENERIC_TYPES else module.type
            is_root = module is self._root
            floats = self._takes_other_floats(module)
            key = (is_root, type_, module.kind, module.indexed, children, parameters, forward, floats)
            self._keys[module] = key
        return key

    def _child_key(self, child: Module | LayerSpec | ParameterSpec) -> Hashable:
        if isinstance(child, Module):
            return self._key(child)
        if isinstance(child, LayerSpec):
            layer = child.layer
            dtype = self._dtype(child)
            inner = tuple(each for each in layer.args if isinstance(each, Inner))
            return (layer.constructor, inner, tuple(layer.tensors), _frozen(layer), dtype, len(layer.args))
        shape = child.value.shape
        rank = 0 if shape is None else len(shape)
        literal_value = None
        if child.literal and child.value.const_value is not None:
            literal_value = carry(child.value.const_value.numpy()).tobytes()
        return (
            child.info and (child.info.kind, child.info.trainable),
            child.value.dtype,
            rank,
            literal_value,
        )

    def _module_slots(self, module: Module) -> Iterator[tuple[Slot, Any]]:
        for name, child in _ordered(module):
            attribute = module.attributes[name]
            for slot, value in self._child_slots(child):
                yield (attribute, *slot), value

    def _child_slots(self, child: Module | LayerSpec | ParameterSpec) -> Iterator[tuple[Slot, Any]]:
        if isinstance(child, LayerSpec):
            yield from self._arguments(child.layer).items()
            yield from _build_slots(child)
        elif isinstance(child, ParameterSpec):
            if not child.literal and child.value.shape is not None:
                for axis, size in enumerate(child.value.shape):
                    yield (f"size{axis}",), int(size)  # type: ignore[arg-type]
        elif child.kind == "class":
            emitted = self._class_of[child]
            for name, value in emitted.arguments(self._slots[child]).items():
                yield (name,), value
        else:
            for slot, value in self._module_slots(child):
                if "build" not in slot:
                    yield slot, value
            yield from _build_slots(child)

    def _arguments(self, layer: Layer) -> dict[tuple[str], Any]:
        """The constructor's arguments by name, the constructor's defaults included."""
        parameter_names = self._parameter_names(layer)
        given = dict(zip(parameter_names, layer.args, strict=False)) | dict(layer.kwargs)
        slots: dict[tuple[str], Any] = {(name,): value for name, value in given.items()}
        for name, value in self._parameter_defaults(layer).items():
            slots.setdefault((name,), value)
        return slots

    def _parameter_names(self, layer: Layer) -> tuple[str, ...]:
        if layer.source is None:
            return self._dialect.parameter_names(layer.constructor)
        return tuple(_own_parameters(layer.source))

    def _parameter_defaults(self, layer: Layer) -> Mapping[str, Any]:
        if layer.source is None:
            return self._dialect.parameter_defaults(layer.constructor)
        own = _own_parameters(layer.source)
        return {
            name: each.default for name, each in own.items() if isinstance(each.default, int | float | str)
        }

    def _find_parameters(self, emitted: EmittedClass) -> None:
        if len(emitted.members) < 2:
            return
        tables = [self._slots[member] for member in emitted.members]
        vectors: dict[tuple[Hashable, ...], list[Slot]] = {}
        for slot in tables[0]:
            values = tuple(_hashable(table.get(slot)) for table in tables)
            if len(set(values)) > 1:
                vectors.setdefault(values, []).append(slot)
        namespace = names.Namespace({"self", "input_shape"})
        for slots in vectors.values():
            candidates = [names.identifier(_slot_name(slot)) for slot in slots]
            free = [each for each in candidates if each not in namespace]
            if free:
                name = namespace.claim(free[0])
            else:
                name = namespace.claim(names.identifier("_".join([slots[0][0], candidates[0]])))
            emitted.parameters[name] = slots

    def _statements(
        self, module: Module, names_of: Mapping[Slot, str], *, is_root: bool
    ) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """The statements of `__init__` and of `build` (empty for a target that has none)."""
        init: list[ast.stmt] = []
        build: list[ast.stmt] = []
        late = build if self._dialect.name == "tf" and not is_root else init
        used: set[str] = set()

        def value_at(slot: Slot, value: Any, *, stored: bool = False) -> ast.expr:
            name = names_of.get(slot)
            if name is None:
                return literal(value)
            if stored and late is build:
                used.add(name)
                return dotted(f"self.{name}")
            return ast.Name(name, ast.Load())

        creations: list[tuple[str, ast.expr]] = []
        afterwards: list[ast.stmt] = []
        for name, child in _ordered(module):
            attribute = module.attributes[name]
            if isinstance(child, ParameterSpec):
                statement = self._declare(attribute, child, value_at, registered=name in module.registered)
                (late if not child.literal else init).append(statement)
                continue
            creations.append((name, self._create(child, (attribute,), value_at)))
            afterwards.extend(
                self._finish(child, member(dotted("self"), module, name), (attribute,), value_at)
            )
        if module.indexed == "list":
            init.insert(0, _super_call(ast.List([value for _, value in creations], ast.Load())))
        elif module.indexed == "dict":
            keys = [literal(name) for name, _ in creations]
            init.insert(0, _super_call(ast.Dict(keys, [value for _, value in creations])))  # type: ignore[arg-type]
        else:
            assignments: list[ast.stmt] = [
                ast.Expr(call("self.add_module", name, value))
                if name in module.registered
                else assign(f"self.{module.attributes[name]}", value)
                for name, value in creations
            ]
            init[0:0] = assignments
        late.extend(afterwards)
        for name in sorted(used):
            init.insert(0, assign(f"self.{name}", ast.Name(name, ast.Load())))
        if is_root and self._dialect.name == "tf":
            init.append(assign("self.built", ast.Constant(True)))
        return init, build

    def _declare(
        self, attribute: str, child: ParameterSpec, value_at: Callable[..., ast.expr], *, registered: bool
    ) -> ast.stmt:
        value = child.value
        if value.const_value is None or value.dtype is None or value.shape is None:
            raise ValueError(f"{value.name} is not an initializer")
        if child.literal:
            return self._dialect.constant(attribute, carry(value.const_value.numpy()))
        shape = [
            value_at((attribute, f"size{axis}"), size, stored=True) for axis, size in enumerate(value.shape)
        ]
        info = child.info
        return self._dialect.parameter(
            attribute,
            shape,
            carrier(value.dtype.numpy().name),
            trainable=info is not None and info.trainable,
            buffer=not child.is_parameter,
            label=scope_name(child.path[-1]),
            registered=registered,
        )

    def _create(self, child: Module | LayerSpec, slot: Slot, value_at: Callable[..., ast.expr]) -> ast.expr:
        """The expression that makes a child."""
        if isinstance(child, LayerSpec):
            expression = self._create_layer(child, slot, value_at)
        elif child.kind == "class":
            emitted = self._class_of[child]
            values = emitted.arguments(self._slots[child])
            expression = ast.Call(
                ast.Name(emitted.name, ast.Load()),
                [],
                [ast.keyword(name, value_at((*slot, name), value)) for name, value in values.items()],
            )
        else:
            return self._create_container(child, slot, value_at)
        return self._named(expression, child)

    def _named(self, expression: ast.Call, child: Module | LayerSpec) -> ast.expr:
        if self._dialect.name == "tf":
            expression.keywords.append(ast.keyword("name", literal(scope_name(child.path[-1]))))
        return expression

    def _create_layer(self, child: LayerSpec, slot: Slot, value_at: Callable[..., ast.expr]) -> ast.Call:
        layer = child.layer
        slots = self._arguments(layer)
        parameter_names = self._parameter_names(layer)
        positional = parameter_names[: len(layer.args)]
        args = [value_at((*slot, name), slots[name,]) for name in positional]
        keywords = []
        defaults = self._parameter_defaults(layer)
        for (name,), value in slots.items():
            if name in positional:
                continue
            expression = value_at((*slot, name), value)
            varies = isinstance(expression, ast.Name)
            if name in layer.kwargs or varies or (name not in defaults):
                keywords.append(ast.keyword(name, expression))
        for name, expression in self._dialect.dtype_argument(self._dtype(child)).items():
            keywords.append(ast.keyword(name, expression))
        return ast.Call(dotted(layer.constructor), args, keywords)

    def _dtype(self, spec: LayerSpec) -> str:
        """The dtype of a layer's tensors; for one without any, of the floats that a Keras layer takes."""
        dtypes = [tensor.value.dtype for tensor in spec.layer.tensors.values()]
        if not dtypes and self._dialect.name == "tf":
            taken = spec.layer.passed(spec.nodes[0])
            dtypes = [value.dtype for value in taken if isinstance(value, ir.Value)]
        floats = [each for each in dtypes if each is not None and each.is_floating_point()]
        return floats[0].numpy().name if floats else "float32"

    def _create_container(self, child: Module, slot: Slot, value_at: Callable[..., ast.expr]) -> ast.expr:
        """A container of the target: `nn.Sequential(...)`, `nn.ModuleList([...])`."""
        made = {
            name: self._create(each, (*slot, child.attributes[name]), value_at)
            for name, each in _ordered(child)
            if not isinstance(each, ParameterSpec)
        }
        if self._dialect.name == "tf":
            sequential = call("keras.Sequential", ast.List(list(made.values()), ast.Load()))
            return self._named(sequential, child)
        if child.kind == "list":
            return call("nn.ModuleList", ast.List(list(made.values()), ast.Load()))
        mapping = ast.Dict([literal(name) for name in made], list(made.values()))
        if child.kind == "dict":
            return call("nn.ModuleDict", mapping)
        if not all(names.is_index(name) for name in made):
            return call("nn.Sequential", call("OrderedDict", mapping))
        count = max(int(name) for name in made) + 1
        members = [made.get(str(index)) or call("nn.Identity") for index in range(count)]
        return ast.Call(dotted("nn.Sequential"), members, [])

    def _finish(
        self,
        child: Module | LayerSpec,
        reference: ast.expr,
        slot: Slot,
        value_at: Callable[..., ast.expr],
    ) -> Iterator[ast.stmt]:
        """What follows once a child exists: building it, and freezing what the source does not train."""
        keras = self._dialect.name == "tf"
        if keras and (has_tensors(child) if isinstance(child, Module) else child.layer.tensors):
            arguments: list[ast.expr] = [
                ast.Tuple([value_at((*slot, *place), size, stored=True) for place, size in shape], ast.Load())
                for shape in _build_shapes(child)
            ]
            yield ast.Expr(call(ast.Attribute(reference, "build", ast.Load()), *arguments))
        if isinstance(child, LayerSpec):
            for name in _frozen(child.layer):
                yield self._dialect.freeze(ast.Attribute(clone(reference), name, ast.Load()))
        elif child.kind != "class":
            for name, each in _ordered(child):
                if isinstance(each, ParameterSpec) or (keras and isinstance(each, Module)):
                    continue
                if keras:
                    getter = ast.Attribute(clone(reference), "get_layer", ast.Load())
                    for tensor in _frozen(each.layer) if isinstance(each, LayerSpec) else ():
                        layer = call(getter, scope_name(name))
                        yield self._dialect.freeze(ast.Attribute(layer, tensor, ast.Load()))
                else:
                    inner = member(clone(reference), child, name)
                    yield from self._finish(each, inner, (*slot, child.attributes[name]), value_at)

    def _init_method(
        self, emitted: EmittedClass, module: Module, statements: list[ast.stmt], *, is_root: bool
    ) -> ast.FunctionDef:
        parameters = list(emitted.parameters)
        keras = self._dialect.name == "tf"
        if not module.indexed:
            keywords = [ast.keyword(None, ast.Name("kwargs", ast.Load()))] if keras else []
            if keras and self._takes_other_floats(module):
                keywords.insert(0, ast.keyword("autocast", ast.Constant(False)))
            statements.insert(0, _super_call(keywords=keywords))
        arguments = ast.arguments(
            posonlyargs=[],
            args=[ast.arg("self")],
            kwonlyargs=[ast.arg(name, self._annotation(emitted, name)) for name in parameters],
            kw_defaults=[None] * len(parameters),
            kwarg=ast.arg("kwargs", dotted("Any")) if keras else None,
            defaults=[],
        )
        return ast.FunctionDef(
            name="__init__",
            args=arguments,
            body=statements,
            decorator_list=[],
            returns=ast.Constant(None),
            lineno=0,
        )

    def _takes_other_floats(self, module: Module) -> bool:
        """Whether a forward method may get floats that Keras, left to itself, would cast to float32."""
        body = self._bodies.get(module)
        types = [] if body is None else [value.dtype for value in body.inputs]
        return any(each is None or (each.is_floating_point() and each.name != "FLOAT") for each in types)

    def _annotation(self, emitted: EmittedClass, name: str) -> ast.expr | None:
        place = emitted.parameters[name][0]
        types = {type(self._slots[member].get(place)) for member in emitted.members}
        if len(types) != 1:
            return None
        (kind,) = types
        if kind is tuple:
            return ast.Subscript(
                dotted("tuple"), ast.Tuple([dotted("int"), literal(...)], ast.Load()), ast.Load()
            )
        return dotted(kind.__name__)

    def _forward_method(self, body: Body) -> ast.FunctionDef:
        annotations = [annotation(value, self._dialect) for value in body.inputs]
        parameters = body.parameters
        defaults: list[ast.expr] = []
        if self._dialect.name == "tf" and not parameters:  # Keras calls nothing without an argument
            parameters, annotations, defaults = ["inputs"], [ast.Constant(None)], [ast.Constant(None)]
        return _method(
            self._dialect.forward,
            parameters,
            list(body.statements),
            annotations=annotations,
            defaults=defaults,
            returns=returned([annotation(value, self._dialect) for value in body.outputs]),
        )


def _own_parameters(source: type) -> dict[str, inspect.Parameter]:
    parameters = list(inspect.signature(source).parameters.values())
    return {each.name: each for each in parameters if each.kind is not each.VAR_KEYWORD}


def has_tensors(module: Module) -> bool:
    """Whether a module or any below it holds tensors."""
    return any(
        has_tensors(child)
        if isinstance(child, Module)
        else not child.literal
        if isinstance(child, ParameterSpec)
        else bool(child.layer.tensors)
        for child in module.children.values()
    )


def _build_shape(child: Module | LayerSpec) -> tuple[int | None, ...]:
    """The shape that Keras' `build` of a layer or of a chain of layers takes; empty if it takes none."""
    if isinstance(child, LayerSpec):
        shape = child.layer.build_shape
        return _only_built_axes(child.layer, shape) if shape and child.layer.tensors else ()
    if child.kind != "sequential" or not has_tensors(child):
        return ()
    taken = values_read(child.regions[0])[0].shape
    if taken is None:
        return ()
    return (*(None for _ in taken[1:]), taken[-1] if isinstance(taken[-1], int) else None)


def _only_built_axes(layer: Layer, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The build shape with the axes left open that no tensor of the layer depends on."""
    channels_first = layer.kwargs.get("data_format") == "channels_first"
    given = layer.kwargs.get("axis", 1 if channels_first else -1)
    if layer.constructor == "keras.layers.PReLU":
        shared = layer.kwargs.get("shared_axes", ())
        given = [axis for axis in range(1, len(shape)) if axis not in shared]
    axes = given if isinstance(given, tuple | list) else (given,)
    kept = {axis % len(shape) for axis in axes}
    return tuple(size if axis in kept else None for axis, size in enumerate(shape))


def _build_shapes(child: Module | LayerSpec) -> list[list[tuple[Slot, int | None]]]:
    """The slots of the shapes that `build` takes."""
    first = _build_shape(child)
    further = child.layer.further_build_shapes if isinstance(child, LayerSpec) else ()
    shapes: list[list[tuple[Slot, int | None]]] = []
    if first:
        shapes.append([(("build", f"{axis}"), size) for axis, size in enumerate(first)])
    for number, shape in enumerate(further, 1):
        shapes.append([(("build", f"{number}.{axis}"), size) for axis, size in enumerate(shape)])
    return shapes


def _build_slots(child: Module | LayerSpec) -> list[tuple[Slot, int | None]]:
    return [each for shape in _build_shapes(child) for each in shape]


def _ordered(module: Module) -> list[tuple[str, Module | LayerSpec | ParameterSpec]]:
    items = list(module.children.items())
    if all(names.is_index(name) for name, _ in items):
        items.sort(key=lambda item: int(item[0]))
    return items


def _super_call(*args: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.stmt:
    init = ast.Attribute(call("super"), "__init__", ast.Load())
    return ast.Expr(ast.Call(init, list(args), keywords or []))


def _method(
    name: str,
    parameters: list[str],
    body: list[ast.stmt],
    *,
    annotations: Sequence[ast.expr],
    returns: ast.expr | None = None,
    defaults: list[ast.expr] | None = None,
) -> ast.FunctionDef:
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg("self"), *map(ast.arg, parameters, annotations)],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=defaults or [],
    )
    return ast.FunctionDef(
        name=name,
        args=arguments,
        body=body,
        decorator_list=[],
        returns=returns or ast.Constant(None),
        lineno=0,
    )


def _frozen(layer: Layer) -> tuple[str, ...]:
    """The layer's tensors that would be trained by default and are not in the source."""
    frozen = []
    for slot, tensor in layer.tensors.items():
        info = origin(tensor.value)
        is_state = canonical_leaf(slot) in ("running_mean", "running_var")
        if not is_state and (info is None or not info.trainable):
            frozen.append(slot)
    return tuple(frozen)


def _hashable(value: Any) -> Hashable:
    return (type(value).__name__, value)


def _slot_name(slot: Slot) -> str:
    """What a constructor parameter is called after: the argument it goes to."""
    if "build" in slot:
        return "in_channels"
    return slot[-1]
