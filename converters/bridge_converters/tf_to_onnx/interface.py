"""What the inputs and outputs of a TensorFlow 1 graph are that has no signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf

from bridge.errors import InputError

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_JOINS = frozenset({"Exit", "Merge", "RefExit", "RefMerge"})
"""Where branches, or the steps of a loop, come together; a Merge also says which branch it took."""

_NO_OUTPUT = frozenset(
    {"NoOp", "Assert", "Const", "Print", "PrintV2", "Placeholder", "PlaceholderWithDefault"}
)
_OF_SHAPES = frozenset({"Rank", "Shape", "ShapeN", "Size"})
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_HINT = (
    "freeze the graph up to the tensor you mean (tf.compat.v1.graph_util.convert_variables_to_constants), "
    "or save it with tf.compat.v1.saved_model.simple_save(session, directory, inputs, outputs)"
)


def find_inputs(graph_def: tf.compat.v1.GraphDef, outputs: Iterable[str], *, where: str) -> dict[str, str]:
    """The placeholders that the outputs depend on: name to tensor, in the order of the graph.

    A placeholder with a default (a training switch) is an input only if there is no other.
    Raises InputError if there is none at all.
    """
    nodes = {node.name: node for node in graph_def.node}
    reached = _ancestors(nodes, [tensor.split(":")[0] for tensor in outputs])
    found = [node for node in graph_def.node if node.name in reached and node.op in _PLACEHOLDERS]
    plain = [node for node in found if node.op != "PlaceholderWithDefault"]
    if not found:
        raise InputError(
            "the graph has no input: no output depends on a placeholder",
            hint="feed the data through a tf.compat.v1.placeholder, then save the graph again",
            where=where,
        )
    return {node.name: f"{node.name}:0" for node in plain or found}


def find_outputs(graph_def: tf.compat.v1.GraphDef, graph: tf.Graph, *, where: str) -> dict[str, str]:
    """The tensors the graph is there to compute: name to tensor.

    In an inference graph they are those that nothing reads, without what depends on the sizes of inputs
    alone (`dynamic_rnn` leaves zeros behind that nothing uses). In a training graph (one with variables that
    something assigns) the gradients, the optimizer and the saver are set aside first; what is left
    ends in losses, which are scalars, and in what only gradients read. If it ends in other things as well,
    those are outputs. So is the last tensor before the loss reads the labels, unless it leads to one of
    them. Raises InputError where there are no other outputs and that is not one tensor.
    """
    nodes = {node.name: node for node in graph_def.node}
    placeholders = _placeholders_behind(graph_def)
    training = _training_nodes(graph_def)
    forward = {
        name for name in nodes if name not in training and placeholders[name] and _is_numeric(name, graph)
    }
    read = {
        source for name in forward for source in _sources(nodes[name]) if nodes[name].op not in ("Assert",)
    }
    chosen = _on_some_branch(nodes)
    ends = [
        name
        for name in nodes
        if name in forward and name not in read and name not in chosen and nodes[name].op not in _NO_OUTPUT
    ]
    if not ends:
        raise InputError("the graph has no output that depends on an input", hint=_HINT, where=where)
    valued = _depends_on_values(nodes)
    if any(valued[name] for name in ends):
        ends = [name for name in ends if valued[name]]
    if not training:
        return _tensors(ends, graph)
    losses = [name for name in ends if _is_scalar(name, graph)]
    for_gradients = {source for name in training for source in _sources(nodes[name])}
    others = [name for name in ends if name not in losses and name not in for_gradients]
    frontier = _before_labels(nodes, placeholders, forward, losses)
    if others:
        before = _ancestors(nodes, others)
        predictions = frontier if len(frontier) == 1 and frontier[0] not in before else []
        return _tensors([name for name in nodes if name in others or name in predictions], graph)
    if len(frontier) != 1:
        named = ", ".join(frontier) or ", ".join(losses)
        raise InputError(
            f"the training graph does not say which tensor is the output; candidates are {named}",
            hint=_HINT,
            where=where,
        )
    return _tensors(frontier, graph)


def _sources(node: tf.compat.v1.NodeDef) -> list[str]:
    return [name.split(":")[0] for name in node.input if not name.startswith("^")]


def _ancestors(nodes: Mapping[str, tf.compat.v1.NodeDef], names: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in reached and name in nodes:
            reached.add(name)
            pending.extend(_sources(nodes[name]))
    return reached


def _placeholders_behind(graph_def: tf.compat.v1.GraphDef) -> dict[str, frozenset[str]]:
    """For every node the placeholders of numbers that its value depends on (loops converge by repetition)."""
    behind: dict[str, frozenset[str]] = {
        node.name: frozenset(
            [node.name] if node.op in _PLACEHOLDERS and node.attr["dtype"].type != tf.string else []
        )
        for node in graph_def.node
    }
    changed = True
    while changed:
        changed = False
        for node in graph_def.node:
            union = behind[node.name].union(*(behind.get(source, frozenset()) for source in _sources(node)))
            if union != behind[node.name]:
                behind[node.name] = union
                changed = True
    return behind


def _training_nodes(graph_def: tf.compat.v1.GraphDef) -> set[str]:
    """Gradients, optimizer, saver and summaries: everything only they use is no part of the model."""
    marks = {
        node.name
        for node in graph_def.node
        if node.op.startswith(("Assign", "Apply", "ResourceApply", "SparseApply", "Save", "Restore"))
        or node.op.endswith("Summary")
        or node.op == "MergeSummary"
    }
    gradients = {
        node.name
        for node in graph_def.node
        if node.name.split("/")[0].startswith("gradients") or "/gradients/" in node.name
    }
    training = set(gradients) | marks
    grows = bool(gradients)
    while grows:
        grows = False
        for node in graph_def.node:
            if node.name not in training and any(source in gradients for source in _sources(node)):
                training.add(node.name)
                gradients.add(node.name)
                grows = True
    return training


def _before_labels(
    nodes: Mapping[str, tf.compat.v1.NodeDef],
    placeholders: Mapping[str, frozenset[str]],
    forward: set[str],
    losses: list[str],
) -> list[str]:
    """The last tensors that depend on variables and on fewer placeholders than what reads them."""
    trained = _depends_on_variables(nodes)
    inside = _ancestors(nodes, losses) & forward
    frontier = {
        source
        for name in inside
        for source in _sources(nodes[name])
        if source in inside and trained[source] and placeholders[source] != placeholders[name]
    }
    return [
        name
        for name in nodes
        if name in frontier
        and not any(name != other and name in _ancestors(nodes, [other]) for other in frontier)
    ]


def _depends_on_values(nodes: Mapping[str, tf.compat.v1.NodeDef]) -> dict[str, bool]:
    """Whether nodes depend on the values of inputs, not on their shapes alone."""
    depends = {name: node.op in _PLACEHOLDERS for name, node in nodes.items()}
    changed = True
    while changed:
        changed = False
        for name, node in nodes.items():
            if (
                not depends[name]
                and node.op not in _OF_SHAPES
                and any(depends.get(source, False) for source in _sources(node))
            ):
                depends[name] = changed = True
    return depends


def _depends_on_variables(nodes: Mapping[str, tf.compat.v1.NodeDef]) -> dict[str, bool]:
    depends = {name: node.op in _VARIABLES for name, node in nodes.items()}
    changed = True
    while changed:
        changed = False
        for name, node in nodes.items():
            if not depends[name] and any(depends.get(source, False) for source in _sources(node)):
                depends[name] = changed = True
    return depends


def _on_some_branch(nodes: Mapping[str, tf.compat.v1.NodeDef]) -> set[str]:
    """The nodes that compute only if a condition of TensorFlow 1 has one of its values."""
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for source in _sources(node):
            readers.setdefault(source, []).append(name)
    found: set[str] = set()
    pending = [name for name, node in nodes.items() if node.op in ("Switch", "RefSwitch")]
    while pending:
        name = pending.pop()
        if name not in found and nodes[name].op not in _JOINS:
            found.add(name)
            pending.extend(readers.get(name, ()))
    return found


def _is_scalar(name: str, graph: tf.Graph) -> bool:
    outputs = graph.get_operation_by_name(name).outputs
    return len(outputs) == 1 and outputs[0].shape.rank == 0


def _is_numeric(name: str, graph: tf.Graph) -> bool:
    """Whether a node computes tensors of numbers: the file name that a saver is fed is a string."""
    dtypes = [tensor.dtype for tensor in graph.get_operation_by_name(name).outputs]
    return bool(dtypes) and not any(dtype in (tf.string, tf.variant) for dtype in dtypes)


def _tensors(names: Iterable[str], graph: tf.Graph) -> dict[str, str]:
    found = {}
    for name in names:
        operation = graph.get_operation_by_name(name)
        for tensor in operation.outputs[:1] if operation.type in _JOINS else operation.outputs:
            label = name if tensor.value_index == 0 else f"{name}_{tensor.value_index}"
            found[label] = tensor.name
    return found
