"""Rewriting an ExportedProgram before it goes to the ONNX exporter, so that nothing is lost there."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.utils import _pytree as pytree

_aten = torch.ops.aten

DETACHED = "bridge_detached"
"""The annotation of nodes that autograd does not record: a decomposition drops and renames `detach`."""

_VIEWS = (
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.reshape.default,
    _aten.flatten.using_ints,
    _aten.unflatten.int,
)
_PERMUTATIONS = (
    _aten.transpose.int,
    _aten.permute.default,
    _aten.movedim.int,
    _aten.movedim.intlist,
    _aten.swapaxes.default,
    _aten.t.default,
    _aten.numpy_T.default,
    _aten.mT.default,
)
_KEEP_STRIDES = (
    _aten.dropout.default,
    _aten.detach.default,
    _aten.alias.default,
    _aten.slice.Tensor,
)
_DROPOUTS = (_aten.dropout.default, _aten.dropout_.default)
_GLOBAL_POOLING: dict[Any, int] = {
    _aten.adaptive_avg_pool1d.default: 1,
    _aten.adaptive_avg_pool2d.default: 2,
    _aten.adaptive_avg_pool3d.default: 3,
}
_OTHER_DROPOUTS = (
    _aten.feature_dropout.default,
    _aten.feature_dropout_.default,
    _aten.alpha_dropout.default,
    _aten.alpha_dropout_.default,
    _aten.feature_alpha_dropout.default,
    _aten.feature_alpha_dropout_.default,
)
_BATCH_NORM_TRAINING_ARGUMENT = 5
_BATCH_NORM_RUNNING_MEAN_ARGUMENT = 3


@cache
def _library() -> torch.library.Library:
    """bridge's namespace of operators; they exist as long as this object."""
    library = torch.library.Library("bridge", "DEF")  # type: ignore[no-untyped-call]
    library.define("dropout(Tensor input, float ratio) -> Tensor")  # type: ignore[no-untyped-call]

    def shape(input: torch.Tensor, ratio: float) -> torch.Tensor:
        return torch.empty_like(input)

    def compute(input: torch.Tensor, ratio: float) -> torch.Tensor:
        return input.clone()

    torch.library.register_fake("bridge::dropout", shape, lib=library)
    library.impl("dropout", compute, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    library.define("detached(Tensor input) -> Tensor")  # type: ignore[no-untyped-call]
    torch.library.register_fake("bridge::detached", torch.empty_like, lib=library)
    library.impl("detached", torch.clone, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    return library


def dropout_marker() -> torch._ops.OpOverload:
    """The operator that stands for an inactive dropout: `bridge::dropout(input, ratio)` returns its input.

    aten.dropout itself is decomposed to a copy when it is inactive, and its ratio is lost.
    """
    _library()
    overload: torch._ops.OpOverload = torch.ops.bridge.dropout.default
    return overload


def detached_marker() -> torch._ops.OpOverload:
    """The operator that stands for the end of a gradient: `bridge::detached(input)` returns its input."""
    _library()
    overload: torch._ops.OpOverload = torch.ops.bridge.detached.default
    return overload


def evaluate(program: ExportedProgram) -> tuple[str, ...]:
    """Switch a program that was exported in training mode to evaluation mode, in place.

    Returns a note if anything changed. A program is taken to be in training mode if it updates the
    running statistics of a batch normalization or all its dropouts are active.
    """
    dropouts = [node for node in _calls(program) if node.target in (*_DROPOUTS, *_OTHER_DROPOUTS)]
    norms = [node for node in _calls(program) if _updates_statistics(node)]
    training = bool(norms) or (bool(dropouts) and all(node.args[2] for node in dropouts))
    if not training:
        return ()
    for node in dropouts:
        node.args = (*node.args[:2], False)
    for node in norms:
        at = _BATCH_NORM_TRAINING_ARGUMENT
        node.args = (*node.args[:at], False, *node.args[at + 1 :])
    _remove_batch_counters(program)
    program.graph_module.recompile()
    return (
        "the program was exported in training mode (dropout or batch normalization active); "
        "it was converted as in evaluation mode. Call module.eval() before torch.export.export",
    )


def mark_dropouts(program: ExportedProgram) -> tuple[str, ...]:
    """Replace inactive dropouts by the marker operator, in place; returns notes on kinds ONNX lacks."""
    notes = []
    for node in list(_calls(program)):
        if node.target in _DROPOUTS and node.args[2] is False:
            node.target = dropout_marker()
            node.args = node.args[:2]
        elif node.target in _OTHER_DROPOUTS and node.args[2] is False:
            name = str(node.target).split(".")[1].rstrip("_")
            notes.append(
                f"{name} with p={node.args[1]} is left out: it does nothing in evaluation mode, "
                "and ONNX has no operator for it"
            )
    program.graph_module.recompile()
    return tuple(dict.fromkeys(notes))


def spell_global_pooling(program: ExportedProgram) -> None:
    """Write adaptive average pooling to one element as the mean that it is, in place.

    Its own decomposition depends on the memory format: in channels_last it ends in `as_strided`, which
    the exporter can only express by gathering every element.
    """
    for node in list(_calls(program)):
        rank = _GLOBAL_POOLING.get(node.target)
        if rank is None:
            continue
        sizes = node.args[1]
        if all(size == 1 for size in (sizes if isinstance(sizes, list | tuple) else (sizes,))):
            node.target = _aten.mean.dim
            node.args = (node.args[0], list(range(-rank, 0)), True)
    program.graph_module.recompile()


def copy_before_views(program: ExportedProgram) -> None:
    """Copy a permuted tensor before its shape changes, whether or not its strides ask for it, in place.

    The exporter traces the program again, where attention gives other strides than the kernel that
    torch.export saw: a reshape or `contiguous()` that then needs no copy is taken for a view, and fails in
    the next step.
    """
    for node in list(_calls(program)):
        (first,) = node.args[:1] or (None,)
        if not isinstance(first, fx.Node) or not _is_permuted(first):
            continue
        if node.target is _aten.contiguous.default:
            node.target, node.args = _aten.clone.default, (first,)
            node.kwargs = {"memory_format": torch.contiguous_format}
        elif node.target in _VIEWS:
            with node.graph.inserting_before(node):
                copied = node.graph.call_function(
                    _aten.clone.default, (first,), {"memory_format": torch.contiguous_format}
                )
            copied.meta = {**node.meta, "val": first.meta["val"]}
            node.args = (copied, *node.args[1:])
    program.graph_module.recompile()


def _is_permuted(node: Any) -> bool:
    """Whether a tensor is seen through a permutation of axes."""
    while isinstance(node, fx.Node) and node.target in _KEEP_STRIDES:
        node = node.args[0]
    return isinstance(node, fx.Node) and node.target in _PERMUTATIONS


def copy_graph(program: ExportedProgram) -> ExportedProgram:
    """A program with a graph of its own and the same tensors, for rewriting."""
    graph = copy.deepcopy(program.graph)
    for node, original in zip(graph.nodes, program.graph.nodes, strict=True):
        # A copy renames nodes that are called like a Python builtin (`input`), the signature does not.
        node.name = original.name
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=[replace(entry) for entry in program.module_call_graph],
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def inline_gradient_switches(program: ExportedProgram) -> None:
    """Write what runs under `torch.no_grad()` or `enable_grad()` beside the rest, in place.

    The decomposition does so as well, but drops the nodes' module paths and source lines. Nodes that autograd
    does not record carry the annotation `DETACHED`. Branches of control flow are left as they are.
    """
    module = program.graph_module
    switches = torch.ops.higher_order.wrap_with_set_grad_enabled
    while (node := next((each for each in module.graph.nodes if each.target is switches), None)) is not None:
        _inline(module, node)
    for node in module.graph.nodes:
        if node.target in (_aten.detach.default, _aten.detach_.default):
            _annotate_detached(node)
    module.recompile()


def _inline(module: fx.GraphModule, node: fx.Node) -> None:
    """Replace the call of a nested graph with gradients on or off by the graph's nodes."""
    enabled, reference, *arguments = node.args
    assert isinstance(reference, fx.Node)
    assert isinstance(reference.target, str)
    body = module.get_submodule(reference.target)
    assert isinstance(body, fx.GraphModule)
    rest = iter(arguments)
    copies: dict[fx.Node, Any] = {}
    results: Any = ()
    with module.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                copies[inner] = next(rest)
            elif inner.op == "output":
                results = fx.node.map_arg(inner.args[0], lambda each: copies[each])
            else:
                copies[inner] = _copied(module, body, inner, copies)
                if not enabled:
                    _annotate_detached(copies[inner])
    for user in list(node.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(results[user.args[1]])
        module.graph.erase_node(user)
    module.graph.erase_node(node)
    if not reference.users:
        module.graph.erase_node(reference)


def _copied(
    module: fx.GraphModule, body: fx.GraphModule, node: fx.Node, copies: dict[fx.Node, Any]
) -> fx.Node:
    copy_ = module.graph.node_copy(node, lambda each: copies[each])
    copy_.meta = dict(node.meta)
    if node.op == "get_attr":
        assert isinstance(node.target, str)
        name = node.target
        while hasattr(module, name):
            name = f"{name}_"
        setattr(module, name, getattr(body, node.target))
        copy_.target = name
    return copy_


def _annotate_detached(node: fx.Node) -> None:
    node.meta["custom"] = {**(node.meta.get("custom") or {}), DETACHED: True}


def drop_constant_outputs(program: ExportedProgram) -> None:
    """Remove outputs that are no tensors (None, numbers), in place; the rest become a flat tuple."""
    signature = program.graph_signature
    keep = [
        not (spec.kind is OutputKind.USER_OUTPUT and isinstance(spec.arg, ConstantArgument))
        for spec in signature.output_specs
    ]
    if all(keep):
        return
    output = program.graph.output_node()
    (results,) = output.args
    assert isinstance(results, tuple | list)
    output.args = (tuple(each for each, kept in zip(results, keep, strict=True) if kept),)
    signature.output_specs = [spec for spec, kept in zip(signature.output_specs, keep, strict=True) if kept]
    tensors = [spec for spec in signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    for entry in program.module_call_graph:
        if entry.fqn == "" and entry.signature is not None:
            spec = pytree.tree_structure(tuple(range(len(tensors))))
            entry.signature = replace(entry.signature, out_spec=spec)
    program.graph_module.recompile()


def mutated_buffers(program: ExportedProgram) -> tuple[str, ...]:
    """The paths of buffers that a call of the program changes."""
    targets = {
        name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.kind is torch.export.graph_signature.InputKind.BUFFER
        for name in [getattr(spec.arg, "name", "")]
    }
    found = list(program.graph_signature.buffers_to_mutate.values())
    for node in _calls(program):
        first = node.args[0] if node.args else None
        if _writes_first_argument(node) and isinstance(first, fx.Node) and first.name in targets:
            found.append(str(targets[first.name]))
    return tuple(dict.fromkeys(found))


def _writes_first_argument(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and alias.is_write


def _updates_statistics(node: fx.Node) -> bool:
    return (
        node.target is _aten.batch_norm.default
        and bool(node.args[_BATCH_NORM_TRAINING_ARGUMENT])
        and node.args[_BATCH_NORM_RUNNING_MEAN_ARGUMENT] is not None
    )


def _remove_batch_counters(program: ExportedProgram) -> None:
    """Remove the additions that count batches in `num_batches_tracked`."""
    counters = {
        getattr(spec.arg, "name", "")
        for spec in program.graph_signature.input_specs
        if (spec.target or "").endswith("num_batches_tracked")
    }
    for node in list(_calls(program)):
        first = node.args[0] if node.args else None
        if node.target is _aten.add_.Tensor and isinstance(first, fx.Node) and first.name in counters:
            node.replace_all_uses_with(first)
            if node.graph is not None:
                node.graph.erase_node(node)


def _calls(program: ExportedProgram) -> Iterator[fx.Node]:
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                if node.op == "call_function":
                    yield node
