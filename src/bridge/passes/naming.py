"""Canonical names: from modules and operators, never from a reader's counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

import onnx
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import bodies


def name_values(model: ir.Model) -> ir.Model:
    """Name nodes, values, weights and symbolic axes; inputs and outputs keep their names.

    A node is called after its module, `layer1.0.conv1`, and its operator where the module has several
    nodes, `layer1.0.add`. A value is called after its node, a weight after its path, a constant after
    the node and input that read it first, `layer1.0.reshape.shape`. Repetitions count from 2.
    """
    namer = _Namer(model)
    namer.clear()
    namer.name_weights()
    namer.name_graph(model.graph)
    _name_axes(model)
    return model


class _Namer:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._fixed = set(model.graph.inputs) | set(model.graph.outputs)
        self._used = {str(value.name) for value in self._fixed}
        self._next: Counter[str] = Counter()
        self._node_names: set[str] = set()
        self._nodes_in = Counter(metadata.scope_of(node) for node in _nodes(model.graph))

    def clear(self) -> None:
        """Move all names out of the way, so that a new name cannot meet an old one."""
        number = 0
        for graph in self._model.graphs():
            values = [output for node in graph for output in node.outputs]
            values.extend(graph.initializers.values())
            if graph is not self._model.graph:
                values.extend(graph.inputs)
            for value in values:
                if value not in self._fixed:
                    number += 1
                    value.name = f"\N{REPLACEMENT CHARACTER}{number}"

    def unique(self, base: str) -> str:
        """The name itself the first time, then with `_2`, `_3`, ..."""
        name = base
        while name in self._used:
            self._next[base] += 1
            name = f"{base}_{self._next[base] + 1}"
        self._used.add(name)
        return name

    def name_weights(self) -> None:
        for graph in self._model.graphs():
            for value in list(graph.initializers.values()):
                info = metadata.weight_info(value)
                if info is not None and value not in self._fixed:
                    _rename(value, self.unique(info.path))

    def name_graph(self, graph: ir.Graph) -> None:
        for value in graph.inputs:
            if value not in self._fixed:
                _rename(value, self.unique("body_input"))
        for node in graph:
            base = self._base(node)
            for index, output in enumerate(node.outputs):
                if output not in self._fixed:
                    role = "" if index == 0 else f".{_formal(_outputs(node.op_type), index, 'output')}"
                    _rename(output, self.unique(base + role))
            node.name = base
            for index, operand in enumerate(node.inputs):
                if operand is not None and operand.is_initializer() and _is_unnamed(operand):
                    _rename(operand, self.unique(f"{base}.{_formal(_inputs(node.op_type), index, 'input')}"))
            for body in bodies(node):
                self.name_graph(body)
        for value in list(graph.initializers.values()):
            if _is_unnamed(value):
                _rename(value, self.unique("constant"))

    def _base(self, node: ir.Node) -> str:
        scope = metadata.scope_of(node)
        path = metadata.scope_path(scope or ())
        if path and self._nodes_in[scope] == 1:
            return self._free_node_name(path)
        operator = _snake(node.op_type)
        return self._free_node_name(f"{path}.{operator}" if path else operator)

    def _free_node_name(self, base: str) -> str:
        """A name for a node; values share it, so it must be free among values too."""
        name = base
        while name in self._used or name in self._node_names:
            self._next[base] += 1
            name = f"{base}_{self._next[base] + 1}"
        self._node_names.add(name)
        return name


def _nodes(graph: ir.Graph) -> Iterable[ir.Node]:
    return ir.traversal.RecursiveGraphIterator(graph)


def _is_unnamed(value: ir.Value) -> bool:
    return str(value.name).startswith("\N{REPLACEMENT CHARACTER}")


def _rename(value: ir.Value, name: str) -> None:
    value.name = name
    if value.const_value is not None:
        value.const_value.name = name


def _snake(op_type: str) -> str:
    """`GlobalAveragePool` as `global_average_pool`."""
    letters = []
    for position, letter in enumerate(op_type):
        follows_lower = position > 0 and (op_type[position - 1].islower() or op_type[position - 1].isdigit())
        starts_word = position > 0 and position + 1 < len(op_type) and op_type[position + 1].islower()
        if letter.isupper() and (follows_lower or starts_word):
            letters.append("_")
        letters.append(letter.lower())
    return "".join(letters)


def _formal(names: tuple[str, ...], index: int, fallback: str) -> str:
    return names[index].lower() if index < len(names) else f"{fallback}{index}"


@cache
def _inputs(op_type: str) -> tuple[str, ...]:
    if not onnx.defs.has(op_type):
        return ()
    return tuple(each.name for each in onnx.defs.get_schema(op_type).inputs)


@cache
def _outputs(op_type: str) -> tuple[str, ...]:
    if not onnx.defs.has(op_type):
        return ()
    return tuple(each.name for each in onnx.defs.get_schema(op_type).outputs)


def _name_axes(model: ir.Model) -> None:
    """Give symbolic axes names of their own: `batch`, or the input and axis they come from, or a number."""
    names: dict[str, str] = {}
    used: set[str] = set()

    def new(name: str) -> str:
        candidate, number = name, 1
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        return candidate

    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int) and dim.value is not None and dim.value not in names:
                names[dim.value] = new("batch" if axis == 0 else f"{value.name}_axis{axis}")
    for graph in model.graphs():
        values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
        for value in values:
            if value.shape is None or all(isinstance(dim, int) or dim.value is None for dim in value.shape):
                continue
            dims: list[int | str | None] = []
            for dim in value.shape:
                if isinstance(dim, int) or dim.value is None:
                    dims.append(dim if isinstance(dim, int) else None)
                else:
                    if dim.value not in names:
                        names[dim.value] = new("free")
                    dims.append(names[dim.value])
            value.shape = ir.Shape(dims)
