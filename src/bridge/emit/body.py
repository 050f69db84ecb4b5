"""The forward method of one module: statements, variable names, and which value each statement makes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.emit import names, tree
from bridge.emit.dialect import Dialect
from bridge.emit.literals import MAX_LITERAL_ELEMENTS, assign, dotted, literal, nested
from bridge.emit.lowering import Lowering, LoweringTable, parameters_of
from bridge.emit.modules import ModuleTree, values_made, values_read
from bridge.emit.plan import LayerSpec, ParameterSpec, Path, Plan, node_view
from bridge.emit.specialise import Binding, Facts, Known, helper_functions, inline
from bridge.emit.syntax import clone
from bridge.emit.types import annotation, may_be_none, returned
from bridge.emit.variables import Item, Layers, Variables
from bridge.errors import BridgeError
from bridge.hub import control, metadata
from bridge.hub.carriers import carrier, carry
from bridge.hub.opset import operator_version

_TRAINING = "training"
"""The keyword-only parameter by which a lowering for PyTorch asks whether its module is in training."""

_LOOP_ROLES = ("step", "condition")


@dataclass
class Body:
    """A forward method: parameters, statements, and the values that each statement makes."""

    parameters: list[str]
    inputs: list[ir.Value]
    outputs: list[ir.Value]
    statements: list[ast.stmt]
    made: list[list[tuple[ir.Value, str]]]
    """For each item of the region: the hub values it makes and the variables that hold them."""
    places: list[int]
    """For each item of the region: the index of its statement.

    The bodies of control flow are functions defined before the statement that uses them.
    """
    helpers: dict[str, Callable[..., Any]] = field(default_factory=dict)


class BodyWriter:
    """Writes forward methods for the regions of one plan."""

    def __init__(
        self,
        plan: Plan,
        modules: ModuleTree,
        table: LoweringTable,
        dialect: Dialect,
        *,
        graph: ir.Graph,
    ) -> None:
        self._plan = plan
        self._modules = modules
        self._table = table
        self._dialect = dialect
        self._graph = graph
        self._constants: dict[tuple[Path, ir.Value], ParameterSpec] = {}
        self.function_names = table.function_names()
        self.imports: Mapping[str, int] = graph.opset_imports

    def write(self, region: tree.Region, *, is_root: bool) -> Body:
        """The forward method of a region. The root takes and gives what the graph does."""
        if is_root:
            inputs, outputs = list(self._graph.inputs), list(self._graph.outputs)
        else:
            inputs, outputs = values_read(region), values_made(region, self._plan.homes)
        function = _Function(self, region.path, region.items, inputs, outputs, is_root=is_root)
        return function.body()

    def constant(self, path: Path, value: ir.Value, *, literal_: bool) -> ast.expr:
        """A reference to a constant that the module at `path` holds."""
        spec = self._constants.get((path, value))
        if spec is None:
            spec = self._modules.add_constant(path, value, literal_=literal_)
            self._constants[path, value] = spec
        return self._modules.reference(path, spec.path)


class _Function:
    """One function that is being written: a forward method, or a body of control flow inside `outer`."""

    def __init__(
        self,
        writer: BodyWriter,
        path: Path,
        items: Sequence[ir.Node | tree.Region],
        inputs: Sequence[ir.Value],
        outputs: Sequence[ir.Value],
        *,
        is_root: bool = False,
        outer: _Function | None = None,
    ) -> None:
        self._writer = writer
        self._path = path
        self._items = items
        self._plan = writer._plan
        self._dialect = writer._dialect
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._is_root = is_root
        self._outer = outer
        self._functions: set[str] = set() if outer is None else set(outer._functions)
        hidden = set() if outer is None else outer._visible() | self._functions
        self._names = names.Namespace({*self._dialect.imports, *writer.function_names, *hidden})
        self._helpers: dict[str, Callable[..., Any]] = {} if outer is None else outer._helpers
        self._definitions: list[ast.stmt] = []
        self._read = {item: values_read(item) for item in items}
        self._made = {
            item: values_made(item, self._plan.homes) if isinstance(item, tree.Region) else list(item.outputs)
            for item in items
        }
        self._last_read = self._reads()
        self._variables = Variables(
            self._names,
            Layers(self._attribute, self._kind, self._read.__getitem__, self._live_outputs),
            items,
            {*inputs, *(value for made in self._made.values() for value in made)},
        )

    def _kind(self, item: Item) -> str | None:
        """The type of the layer or module that an item calls."""
        if isinstance(item, tree.Region):
            return item.type
        spec = self._plan.layer_of.get(item)
        return None if spec is None else spec.layer.constructor

    def _attribute(self, item: Item) -> str | None:
        """The name of the layer or module that an item calls; one in a list is called by that too."""
        spec = None if isinstance(item, tree.Region) else self._plan.layer_of.get(item)
        path = item.path if isinstance(item, tree.Region) else () if spec is None else spec.path
        return "_".join(path[-2:] if path and names.is_index(path[-1]) else path[-1:]) or None

    def _visible(self) -> set[str]:
        """The variables that a function defined here may read; its own must not hide them."""
        outer = set() if self._outer is None else self._outer._visible()
        return outer | self._variables.visible

    def _reads(self) -> dict[ir.Value, int]:
        """The index of the last item that reads a value."""
        last: dict[ir.Value, int] = {}
        for index, item in enumerate(self._items):
            for value in self._read[item]:
                last[value] = index
        for value in self._outputs:
            last[value] = len(self._items)
        return last

    def body(self) -> Body:
        """The forward method."""
        for value in self._inputs:
            if self._is_root:
                self._variables.keep(value, names.identifier(value.name or "x", default="x"))
            else:
                self._variables.parameter(value)
        parameters = [self._variables[value] for value in self._inputs]
        statements, made, places = self._statements()
        results = [self._value(value) for value in self._outputs]
        if _return(statements, results) and places[-1:] == [len(statements) - 1]:
            made[-1] = [(value, "") for value, _ in made[-1]]
        return Body(parameters, self._inputs, self._outputs, statements, made, places, self._helpers)

    def nested(self, name: str, roles: Sequence[str], fixed: Mapping[int, ast.expr]) -> ast.FunctionDef:
        """The function as a definition inside another one.

        `roles` are the names of the first parameters, `fixed` the results that are known at conversion, by
        their index.
        """
        for index, value in enumerate(self._inputs):
            role = roles[index] if index < len(roles) else None
            if role is None:
                self._variables.parameter(value)
            else:
                self._variables.keep(value, role)
        parameters = [
            ast.arg(self._variables[value], annotation(value, self._dialect)) for value in self._inputs
        ]
        statements, _, _ = self._statements()
        results = [
            fixed[index] if index in fixed else self._value(value)
            for index, value in enumerate(self._outputs)
        ]
        _return(statements, results)
        kinds = [
            dotted("bool") if index in fixed else annotation(value, self._dialect)
            for index, value in enumerate(self._outputs)
        ]
        return ast.FunctionDef(
            name=name,
            args=ast.arguments(posonlyargs=[], args=parameters, kwonlyargs=[], kw_defaults=[], defaults=[]),
            body=statements,
            decorator_list=[],
            returns=returned(kinds),
            lineno=0,
        )

    def _statements(self) -> tuple[list[ast.stmt], list[list[tuple[ir.Value, str]]], list[int]]:
        """The statements of the items, what each item makes, and the place of its statement."""
        statements: list[ast.stmt] = []
        made: list[list[tuple[ir.Value, str]]] = []
        places: list[int] = []
        for index, item in enumerate(self._items):
            outputs = self._live_outputs(item)
            if self._outer is not None and not any(outputs):
                continue
            expression = self._region_call(item) if isinstance(item, tree.Region) else self._node(item)
            targets = self._targets(item, outputs, index)
            statements.extend(self._definitions)
            self._definitions = []
            places.append(len(statements))
            if self._outer is None or ast.unparse(expression) != ", ".join(targets):
                statements.append(assign(self._pattern(item, targets), expression))
            made.append([(value, self._variables[value]) for value in outputs if value is not None])
        return statements, made, places

    def _pattern(self, item: ir.Node | tree.Region, targets: list[str]) -> str | ast.expr | list[str]:
        """What the result of an item is assigned to: names, nested as a layer returns its results."""
        spec = None if isinstance(item, tree.Region) else self._plan.layer_of.get(item)
        if spec is None or spec.layer.results is None:
            return targets[0] if len(targets) == 1 else targets

        def name(index: int) -> ast.expr:
            return ast.Name(targets[index] if index < len(targets) else "_", ast.Store())

        groups = [
            name(index)
            if isinstance(index, int)
            else ast.Tuple([name(each) for each in index], ast.Store())
            if any(each < len(targets) and targets[each] != "_" for each in index)
            else ast.Name("_", ast.Store())
            for index in spec.layer.results
        ]
        return ast.Tuple(groups, ast.Store())

    def _live_outputs(self, item: ir.Node | tree.Region) -> list[ir.Value | None]:
        """The outputs of an item in order; None for a node's outputs that nothing reads."""
        if isinstance(item, tree.Region):
            return list(self._made[item])
        count = output_count(item)
        return [value if value in self._last_read else None for value in item.outputs[:count]]

    def _targets(self, item: ir.Node | tree.Region, outputs: list[ir.Value | None], index: int) -> list[str]:
        """Variables for the outputs; the name of an input that is read here for the last time is reused."""
        dead = [
            value
            for value in self._read[item]
            if value in self._variables and self._last_read.get(value, -1) <= index
        ]
        return self._variables.assign(item, outputs, dead)

    def _region_call(self, region: tree.Region) -> ast.expr:
        callee = self._writer._modules.reference(self._path, region.path)
        return ast.Call(callee, [self._value(value) for value in self._read[region]], [])

    def _node(self, node: ir.Node) -> ast.expr:
        spec = self._plan.layer_of.get(node)
        if spec is not None:
            callee = self._writer._modules.reference(self._path, spec.path)
            arguments = [
                self._value(value)
                if isinstance(value, ir.Value)
                else ast.Tuple([self._value(each) for each in value], ast.Load())
                for value in spec.layer.passed(node)
            ]
            named = ((name, node.inputs[index]) for name, index in spec.layer.keywords.items())
            keywords = [ast.keyword(name, self._value(value)) for name, value in named if value is not None]
            keywords += [ast.keyword(name, literal(each)) for name, each in spec.layer.call_options.items()]
            return ast.Call(callee, arguments, keywords)
        version = operator_version(node.domain, self._writer.imports)
        lowering = self._writer._table.find(node.op_type, node.domain, version=version)
        if lowering is None:
            raise BridgeError(f"no {self._dialect.name} lowering for {node.op_type}", where=node.name)
        return self._lowered(node, lowering)

    def _lowered(self, node: ir.Node, lowering: Lowering) -> ast.expr:
        bindings, variadic = self._bind(node, lowering)
        members = tuple(each.expression for each in variadic)
        grouped = Facts(ast.Tuple(list(members), ast.Load()), elements=members)
        groups = dict.fromkeys(_variadic_names(lowering.function), grouped)
        expression = inline(lowering.function, {**bindings, **groups})
        if expression is not None:
            called = helper_functions(lowering.function)
            names_read = {each.id for each in ast.walk(expression) if isinstance(each, ast.Name)}
            self._helpers.update({name: each for name, each in called.items() if name in names_read})
            return expression
        name = lowering.function.__name__
        self._helpers[name] = lowering.function
        return _helper_call(name, lowering.function, bindings, variadic)

    def _bind(self, node: ir.Node, lowering: Lowering) -> tuple[dict[str, Binding], list[Facts]]:
        """The arguments of a lowering by parameter name, and those of its variadic parameter."""
        view = node_view(node, self._writer.imports)
        bindings: dict[str, Binding] = {}
        variadic: list[Facts] = []
        position = 0
        for name, parameter in parameters_of(lowering.function).items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                variadic = [self._facts(value) for value in node.inputs[position:] if value is not None]
            elif parameter.kind is parameter.KEYWORD_ONLY:
                if name == _TRAINING:
                    bindings[name] = Facts(ast.parse("self.training", mode="eval").body)
                    continue
                if name in _OF_THE_NODE:
                    bindings[name] = Known(_OF_THE_NODE[name](node))
                    continue
                default = None if parameter.default is parameter.empty else parameter.default
                attribute = view.attr(name, default)
                if isinstance(attribute, ir.Graph):
                    bindings[name] = Facts(ast.Name(self._define(node, name, attribute), ast.Load()))
                elif isinstance(attribute, ir.TypeAndShape):
                    bindings[name] = Known(None)
                elif isinstance(attribute, ir.TensorProtocol):
                    array = carry(attribute.numpy()).reshape(())
                    typed = self._dialect.typed_constant(array)
                    bindings[name] = Facts(typed, 0, array.dtype.name, None, typed)
                else:
                    bindings[name] = Known(_plain(attribute))
            else:
                bindings[name] = self._argument(
                    node, position, constant=name in lowering.const + lowering.static
                )
                position += 1
        return bindings, variadic

    def _define(self, node: ir.Node, role: str, graph: ir.Graph) -> str:
        """Define a body of control flow as a function before the statement in hand; returns its name."""
        operator = names.snake_case(node.op_type)
        name = self._names.claim(role if role != "body" else f"{operator}_body")
        self._functions.add(name)
        loop = node.op_type == "Loop" and not node.domain
        outputs = list(graph.outputs)
        fixed: dict[int, ast.expr] = {}
        if loop and control.continues_always(graph):
            fixed[0] = ast.Constant(True)
        function = _Function(self._writer, self._path, list(graph), graph.inputs, outputs, outer=self)
        if fixed:
            function.forget(outputs[0])
        self._definitions.append(function.nested(name, _LOOP_ROLES if loop else (), fixed))
        return name

    def forget(self, output: ir.Value) -> None:
        """Compute nothing for the sake of an output that is not asked for."""
        if self._outputs.count(output) == 1:
            readers = [index for index, item in enumerate(self._items) if output in self._read[item]]
            self._last_read.pop(output)
            if readers:
                self._last_read[output] = readers[-1]

    def _argument(self, node: ir.Node, position: int, *, constant: bool) -> Binding:
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None:
            return Known(None)
        array = value.const_value
        if (
            constant
            and array is not None
            and array.shape.rank() <= 1
            and metadata.recipe_record(value) is None
        ):
            return Known(_plain(_tuples(nested(carry(array.numpy())))))
        return self._facts(value)

    def _facts(self, value: ir.Value) -> Facts:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            return Facts(self._value(value), maybe_none=may_be_none(value))
        rank = None if value.shape is None else len(value.shape)
        dtype = None if value.dtype is None else carrier(value.dtype.numpy().name)
        array = None if value.const_value is None else carry(value.const_value.numpy())
        if array is not None and array.ndim == 0 and value not in self._plan.owners:
            typed = self._dialect.typed_constant(array)
            plain = nested(array) if array.dtype.kind in "fiub" else None
            return Facts(typed, rank, dtype, plain, typed)
        return Facts(self._value(value), rank, dtype)

    def _value(self, value: ir.Value) -> ast.expr:
        """The expression of a value: a variable, a tensor of a module, or a constant."""
        variable = self._variable(value)
        if variable is not None:
            return ast.Name(variable, ast.Load())
        owner = self._plan.owners.get(value)
        if isinstance(owner, ParameterSpec):
            return self._writer._modules.reference(self._path, owner.path)
        if owner is not None:
            return self._borrowed(*owner)
        if value.const_value is None:
            raise BridgeError(
                f"the value {value.name!r} is used before it is computed",
                where=tree_path(self._path),
                hint="this is a fault of bridge, not of the model; please report it",
            )
        if value.const_value.size <= MAX_LITERAL_ELEMENTS and value.const_value.shape.rank() == 0:
            return self._dialect.typed_constant(carry(value.const_value.numpy()))
        text = value.dtype == ir.DataType.STRING
        small = text or value.const_value.size <= MAX_LITERAL_ELEMENTS
        return self._writer.constant(self._path, value, literal_=small)

    def _variable(self, value: ir.Value) -> str | None:
        """The variable that holds a value, here or in a function around this one."""
        name = self._variables.get(value)
        return self._outer._variable(value) if name is None and self._outer is not None else name

    def _borrowed(self, spec: LayerSpec, slot: str) -> ast.expr:
        """A layer's tensor in the form the hub has it, for a node that shares it (a tied weight)."""
        layer = self._writer._modules.reference(self._path, spec.path)
        expression: ast.expr = ast.Attribute(layer, slot, ast.Load())
        tensor = spec.layer.tensors[slot]
        shapes = [np.empty(tuple(tensor.value.const_value.shape.numpy()), np.bool_)]  # type: ignore[union-attr]
        for _, attributes in tensor.moves:
            perm = attributes.get("perm")
            shapes.append(
                shapes[-1].transpose(perm) if perm is not None else shapes[-1].reshape(attributes["shape"])
            )
        for (op, attributes), before in zip(reversed(tensor.moves), reversed(shapes[:-1]), strict=True):
            if op == "transpose":
                expression = self._dialect.transpose(expression, np.argsort(attributes["perm"]).tolist())
            else:
                expression = self._dialect.reshape(expression, list(before.shape))
        return expression


def _return(statements: list[ast.stmt], results: list[ast.expr]) -> bool:
    """End a function; whether its last assignment has become the return statement."""
    result = results[0] if len(results) == 1 else ast.Tuple(results, ast.Load())
    last = statements[-1] if statements else None
    if isinstance(last, ast.Assign) and ast.unparse(last.targets[0]) == ast.unparse(result):
        statements[-1] = ast.Return(last.value)
        return True
    statements.append(ast.Return(result))
    return False


def tree_path(path: Path) -> str:
    """A module path for messages; the root is called that."""
    return ".".join(path) or "the root module"


def output_count(node: ir.Node) -> int:
    """The number of outputs up to the last that has a name: what the operator is asked to give.

    What runs a body gives as much as the body does.
    """
    if next(iter(tree.subgraphs(node)), None) is not None:
        return len(node.outputs)
    named = [index for index, value in enumerate(node.outputs) if value.name]
    return named[-1] + 1 if named else 1


def type_name(value: ir.Value | None) -> str:
    """The ONNX name of a value's element type (`FLOAT`, `INT4`); empty for one that is absent or untyped."""
    return "" if value is None or value.dtype is None else value.dtype.name


def shape_of(value: ir.Value | None) -> tuple[int | str | None, ...] | None:
    """The sizes of a value's axes, names for symbolic ones; None if it is absent or of unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


_OF_THE_NODE: Mapping[str, Callable[[ir.Node], Any]] = {
    "outputs": output_count,
    "input_types": lambda node: tuple(type_name(value) for value in node.inputs),
    "output_types": lambda node: tuple(type_name(value) for value in node.outputs[: output_count(node)]),
    "input_shapes": lambda node: tuple(shape_of(value) for value in node.inputs),
    "output_shapes": lambda node: tuple(shape_of(value) for value in node.outputs[: output_count(node)]),
}
"""What a lowering may ask about its node by a keyword-only parameter that is no attribute."""


def _helper_call(
    name: str, function: Callable[..., Any], bindings: Mapping[str, Binding], variadic: list[Facts]
) -> ast.expr:
    """A call of a helper function, arguments equal to their defaults left out."""
    args: list[ast.expr] = []
    keywords: list[ast.keyword] = []
    skipped = False
    for parameter in parameters_of(function).values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(clone(each.expression) for each in variadic)
            continue
        binding = bindings[parameter.name]
        if isinstance(binding, Known):
            if parameter.default is not parameter.empty and binding.value == parameter.default:
                skipped = True
                continue
            expression = literal(binding.value)
        else:
            expression = clone(binding.expression)
        if skipped or parameter.kind is parameter.KEYWORD_ONLY:
            keywords.append(ast.keyword(parameter.name, expression))
        else:
            args.append(expression)
    return ast.Call(ast.Name(name, ast.Load()), args, keywords)


def _variadic_names(function: Callable[..., Any]) -> list[str]:
    return [each.name for each in parameters_of(function).values() if each.kind is each.VAR_POSITIONAL]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Attribute values as Python literals: bytes as text, tensors as nested tuples."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list):
        return _tuples(value)
    if isinstance(value, ir.TensorProtocol):
        return _tuples(nested(value.numpy()))
    return value
