"""Cells that were written as arithmetic, or taken apart by an exporter, as recurrent operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from typing import Literal as OneOf

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import (
    add_constant,
    all_nodes,
    attribute,
    common_scope,
    free_name,
    is_trained,
    producer,
    rank,
    replace_value,
)
from bridge.hub.recipe import Literal, Recipe, from_json, run, sources, step, to_json
from bridge.passes.fold_trained import joint_info, substitute
from bridge.passes.recurrent.affine import Affine
from bridge.passes.recurrent.cells import Cell, gru_cells, lstm_cells, rnn_cell
from bridge.passes.recurrent.eligible import is_zeros
from bridge.passes.recurrent.weights import shortest
from bridge.passes.unused import drop_unused

Share = OneOf["inputs", "state"]


def recognise_cells(model: ir.Model) -> ir.Model:
    """A step of an LSTM or GRU written out as LSTM or GRU over one step; in a loop, of a simple RNN as well.

    The gates may come from one product or from several, in any order, of inputs and state or of both side
    by side, with trained weights and any biases. What else reads a gate, a weight or anything on the way
    keeps the arithmetic as it is. Outside of loops a simple RNN is left: it is also the score of an
    attention. LSTM: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of
    Gers et al. (2000); GRU: Cho et al. (arXiv 1406.1078), or with the reset after the product, as cuDNN.
    """
    carried = _carried(model)
    found = [cell for graph in model.graphs() for cell in _cells(graph, carried)]
    maker = _Maker(model)
    replaced: dict[ir.Value, ir.Value] = {}
    for cell in _with_weights_of_their_own(found, model.graph):
        _replace(cell, maker, model.graph, replaced)
    return drop_unused(model) if found else model


def _cells(graph: ir.Graph, carried: Mapping[ir.Value, ir.Value]) -> Iterator[Cell]:
    """The cells of one graph in its order; `carried` are the states of loops by what they become."""
    taken: set[ir.Node] = set()
    states: set[ir.Value] = set(carried.values())
    for node in graph:
        value = node.outputs[0]
        readings: list[Cell] = []
        if node.domain == "" and node.op_type == "Mul":
            readings = list(lstm_cells(value))
        elif node.domain == "" and node.op_type == "Add":
            readings = list(gru_cells(value))
        elif value in carried:
            simple = rnn_cell(value, carried[value])
            readings = [] if simple is None else [simple]
        whole = [cell for cell in readings if _is_whole(cell, taken)]
        if whole:
            best = min(whole, key=lambda cell: _strangeness(cell, states))
            taken |= best.nodes
            states |= set(best.results)
            yield best


def _carried(model: ir.Model) -> dict[ir.Value, ir.Value]:
    """The states of all loops: what each becomes, and what it was at the beginning of the step."""
    found: dict[ir.Value, ir.Value] = {}
    for node in all_nodes(model):
        if node.domain != "" or node.op_type not in ("Loop", "Scan"):
            continue
        body = node.attributes["body"].as_graph()
        skipped = 2 if node.op_type == "Loop" else 0
        scanned = attribute(node, "num_scan_inputs", 0)
        assert isinstance(scanned, int)
        taken = body.inputs[skipped : len(body.inputs) - scanned]
        given = body.outputs[skipped // 2 :]
        for old, new in zip(taken, given, strict=False):
            found[_behind_identities(new)] = old
    return found


def _behind_identities(value: ir.Value) -> ir.Value:
    while (node := producer(value, "Identity")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _strangeness(cell: Cell, states: set[ir.Value]) -> int:
    """Which of two readings is the natural one: a state is what was a state before, or zeros at first."""
    return 2 * sum(not (state in states or is_zeros(state)) for state in cell.states) + (cell.x in states)


def _is_whole(cell: Cell, taken: set[ir.Node]) -> bool:
    """Whether the sizes agree, and nothing but the results is read from outside."""
    state = [gate.state.products[0] for gate in cell.gates]
    inputs = [gate.inputs.products[0] for gate in cell.gates]
    hidden = state[0].size
    if {each.size for each in (*state, *inputs)} != {hidden} or {each.features for each in state} != {hidden}:
        return False
    if len({each.features for each in inputs}) != 1 or cell.nodes & taken:
        return False
    if any(rank(value) != 2 for value in (cell.x, *cell.states, *cell.results)):
        return False
    inner = {output for node in cell.nodes for output in node.outputs} - set(cell.results)
    return not any(
        value.is_graph_output() or any(use.node not in cell.nodes for use in value.uses()) for value in inner
    )


def _with_weights_of_their_own(cells: list[Cell], graph: ir.Graph) -> list[Cell]:
    """The cells whose tensors nothing else reads."""
    while True:
        nodes = {node for cell in cells for node in cell.nodes}
        kept = [
            cell
            for cell in cells
            if all(
                not value.is_graph_output() and all(use.node in nodes for use in value.uses())
                for name in _tensor_names(cell)
                if is_trained(value := graph.initializers[name])
            )
        ]
        if len(kept) == len(cells):
            return kept
        cells = kept


def _tensor_names(cell: Cell) -> set[str]:
    recipes = [
        recipe
        for gate in cell.gates
        for part in (gate.inputs, gate.state)
        for recipe in (*(each.matrix for each in part.products), *(each.vector for each in part.biases))
    ]
    return {name for recipe in recipes for name in sources(recipe)}


class _Maker:
    """Makes the tensors of recognised cells, equal ones once."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        tensors = metadata.source_tensors(model)
        self._shapes = {path: tensor.shape for path, tensor in tensors.items()}
        self._made: dict[Recipe, ir.Value] = {}

    def weight(self, cell: Cell, share: Share) -> ir.Value:
        """The matrices of all gates, one below the other: (1, gates * size, features)."""
        parts = [getattr(gate, share).products[0] for gate in cell.gates]
        joined = _concat([each.matrix for each in parts])
        shape = (1, sum(each.size for each in parts), parts[0].features)
        return self._make(step("reshape", joined, shape=shape), cell, shape)

    def bias(self, cell: Cell) -> ir.Value | None:
        """Those of the inputs, then those of the state: (1, 2 * gates * size); None if there are none."""
        if not any(part.biases for gate in cell.gates for part in (gate.inputs, gate.state)):
            return None
        size = cell.gates[0].state.products[0].size
        vectors = [self._sum(gate.inputs, size) for gate in cell.gates]
        vectors += [self._sum(gate.state, size) for gate in cell.gates]
        shape = (1, size * len(vectors))
        return self._make(step("reshape", _concat(vectors), shape=shape), cell, shape)

    def _sum(self, affine: Affine, size: int) -> Recipe:
        if not affine.biases:
            return step("expand", Literal((0.0,), "float32"), shape=(size,))
        total = affine.biases[0].vector
        for bias in affine.biases[1:]:
            total = step("add", total, bias.vector)
        return total

    def _make(self, recipe: Recipe, cell: Cell, shape: tuple[int, ...]) -> ir.Value:
        if recipe in self._made:
            return self._made[recipe]
        origins = {name: self._graph.initializers[name] for name in dict.fromkeys(sources(recipe))}
        dtype = cell.results[0].dtype
        assert dtype is not None
        tensors = {name: value.const_value for name, value in origins.items()}
        tensor = ir.LazyTensor(
            partial(_compute, recipe, tensors, dtype), dtype=dtype, shape=ir.Shape(shape), cache=True
        )
        made = ir.Value(
            name=free_name(self._graph, f"{cell.results[0].name}_{cell.op_type.lower()}"),
            const_value=tensor,
            type=ir.TensorType(dtype),
            shape=ir.Shape(shape),
        )
        if origins:
            records = {name: from_json(metadata.recipe_record(value)) for name, value in origins.items()}
            whole = substitute(recipe, records)
            metadata.set_recipe_record(made, to_json(shortest(whole, self._shapes) or whole))
            infos = [metadata.weight_info(value) for value in origins.values()]
            metadata.set_weight_info(made, joint_info(infos))
        self._graph.register_initializer(made)
        self._made[recipe] = made
        return made


def _compute(
    recipe: Recipe, tensors: Mapping[str, ir.TensorProtocol | None], dtype: ir.DataType
) -> ir.TensorProtocol:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    return ir.Tensor(np.asarray(run(recipe, arrays), dtype.numpy()), dtype=dtype)


def _concat(recipes: list[Recipe]) -> Recipe:
    return recipes[0] if len(recipes) == 1 else step("concat", *recipes, axis=0)


def _replace(cell: Cell, maker: _Maker, constants: ir.Graph, replaced: dict[ir.Value, ir.Value]) -> None:
    """Put the operator over one step in the place of the arithmetic, on what took the place of its inputs."""
    given = [replaced.get(value, value) for value in (cell.x, *cell.states)]
    graph = cell.results[0].producer().graph  # type: ignore[union-attr]
    assert graph is not None
    last = next(node for node in reversed(graph) if node in cell.nodes)
    scope = common_scope(cell.nodes)
    axis = add_constant(constants, np.asarray([0], np.int64), f"{cell.results[0].name}_axis")

    def add(op_type: str, inputs: list[ir.Value | None], count: int, **attributes: Any) -> list[ir.Value]:
        node = ir.node(op_type, inputs, attributes, num_outputs=count)
        node.metadata_props.update(last.metadata_props)
        metadata.set_scope(node, scope)
        graph.insert_after(last if not made else made[-1], node)
        made.append(node)
        for output in node.outputs:
            output.type = cell.x.type
        return list(node.outputs)

    made: list[ir.Node] = []
    steps = [add("Unsqueeze", [value, axis], 1)[0] for value in given]
    for value, inner in zip(steps, given, strict=True):
        value.shape = None if inner.shape is None else ir.Shape([1, *inner.shape])
    hidden = cell.gates[0].state.products[0].size
    weights = [maker.weight(cell, "inputs"), maker.weight(cell, "state"), maker.bias(cell), None]
    _, *last_states = add(
        cell.op_type,
        [steps[0], *weights, *steps[1:]],
        1 + len(cell.states),
        hidden_size=hidden,
        **dict(cell.attributes),
    )
    for old, state in zip(cell.results, last_states, strict=True):
        (new,) = add("Squeeze", [state, axis], 1)
        new.shape = old.shape
        state.shape = None if old.shape is None else ir.Shape([1, *old.shape])
        replace_value(old, new)
        replaced[old] = new
