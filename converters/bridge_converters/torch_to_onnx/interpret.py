"""Running a program node by node: every value that it computes, and what rounding does to its results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from bridge.hub.metadata import scope_path
from bridge.worker.rounding import units_of_sum
from bridge_converters.torch_to_onnx.double import Substitutes, cast_graphs, convert, default_dtype
from bridge_converters.torch_to_onnx.extract import operator_calls
from bridge_converters.torch_to_onnx.program import DETACHED, detached_marker, dropout_marker
from bridge_converters.torch_to_onnx.rounding import is_sum, rounding_nodes
from bridge_converters.torch_to_onnx.scopes import scope_of_node
from bridge_converters.torch_to_onnx.user_code import location_of_node
from bridge_converters.torch_to_onnx.weights import tensor_of

_aten = torch.ops.aten

_OPERATOR = "bridge_operator"
"""What a rewritten node was: it is reported under that operator."""


@dataclass(frozen=True)
class Computed:
    """A tensor that a program computes, under its node's name.

    `operator` is PyTorch's name of the operator, `scope` the path of the module, `location` the user's own
    line. `inputs` are the names of the tensors that the operator reads: those of other nodes, of inputs,
    and the paths of weights.
    """

    name: str
    operator: str
    scope: str
    location: str | None
    inputs: tuple[str, ...]
    value: torch.Tensor


class Interpreted:
    """A program without mutation, in another precision, to be run node by node."""

    def __init__(
        self,
        program: ExportedProgram,
        input_names: Sequence[str],
        weights: Mapping[str, torch.Tensor],
        substitutes: Substitutes,
        default: torch.dtype,
    ) -> None:
        """`program` is used up. `weights` are its tensors in the other precision by path, as far as known."""
        self._graph = program.graph_module
        self._default = default
        self._substitutes = substitutes
        cast_graphs(self._graph, substitutes, {})
        _make_differentiable(self._graph)
        self._weights = [
            None if spec.kind is InputKind.USER_INPUT else self._weight(program, str(spec.target), weights)
            for spec in program.graph_signature.input_specs
        ]
        self._constants = {
            spec.arg.name
            for spec in program.graph_signature.input_specs
            if spec.kind is InputKind.CONSTANT_TENSOR
        }
        self._kept = [
            spec.kind is OutputKind.USER_OUTPUT and not isinstance(spec.arg, ConstantArgument)
            for spec in program.graph_signature.output_specs
        ]
        names = iter(input_names)
        self._labels = {
            spec.arg.name: next(names) if spec.kind is InputKind.USER_INPUT else str(spec.target)
            for spec in program.graph_signature.input_specs
            if not isinstance(spec.arg, ConstantArgument)
        }

    def recorded(self, leaves: Sequence[Any]) -> tuple[list[torch.Tensor], list[Computed]]:
        """The results on arguments (flat, constants included), and every tensor on the way, in order."""
        recorder = _Recorder(self._graph, self._labels)
        return self._run(recorder, leaves), recorder.computed

    def extract(
        self, leaves: Sequence[Any], wanted: str, given: Collection[str]
    ) -> tuple[list[str], dict[str, torch.Tensor]]:
        """The operators from the values `given` to `wanted`; see `extract.operator_calls`."""
        interpreter = fx.Interpreter(self._graph, garbage_collect_values=False)
        self._run(interpreter, leaves)
        return operator_calls(self._graph.graph, interpreter.env, wanted, given)

    def rounded(self, leaves: Sequence[Any], unit: float, seed: int) -> list[torch.Tensor]:
        """The results where every result of a rounding operator is off by up to `unit`, relatively.

        Each element is multiplied by 1 + unit * r with r uniform in [-1, 1]; a sum by as many units as
        `units_of_sum` says.
        """
        return self._run(_Rounder(self._graph, self._rounding(), unit, seed), leaves)

    def _rounding(self) -> set[fx.Node]:
        return rounding_nodes(self._graph.graph, self._constants)

    def _weight(self, program: ExportedProgram, path: str, known: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return known[path] if path in known else convert(tensor_of(program, path), self._substitutes)

    def _run(self, interpreter: fx.Interpreter, leaves: Sequence[Any]) -> list[torch.Tensor]:
        rest = iter(leaves)
        args = [self._argument(next(rest)) if weight is None else weight for weight in self._weights]
        with default_dtype(self._default):
            results = interpreter.run(*args, enable_io_processing=False)
        return [result for result, kept in zip(results, self._kept, strict=True) if kept]

    def _argument(self, value: Any) -> Any:
        return convert(value, self._substitutes) if isinstance(value, torch.Tensor) else value


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, labels: Mapping[str, str]) -> None:
        super().__init__(module)
        self._labels = labels
        self.computed: list[Computed] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if (n.meta.get("custom") or {}).get(DETACHED) and isinstance(result, torch.Tensor):
            result = result.detach()
        if torch.is_grad_enabled() and isinstance(result, torch.Tensor):
            result = attached(result, [self.env[each] for each in n.all_input_nodes])
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            origin = _origin(n)
            self.computed.append(
                Computed(
                    n.name,
                    origin.meta.get(_OPERATOR, str(origin.target)),
                    scope_path(scope_of_node(origin, {}) or ()),
                    location_of_node(origin),
                    tuple(dict.fromkeys(_tensor_inputs(origin, self._labels))),
                    result,
                )
            )
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        # PyTorch's primitive operators have no derivatives, what they are made of has.
        return super().call_function(getattr(target, "impl_aten", target), args, kwargs)


class _Rounder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, rounding: set[fx.Node], unit: float, seed: int) -> None:
        super().__init__(module)
        self._rounding = rounding
        self._unit = unit
        self._generator = torch.Generator().manual_seed(seed)
        self._terms: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        self._count_terms(n)
        result = super().run_node(n)
        if n in self._rounding and isinstance(result, torch.Tensor) and is_inexact(result):
            draws = torch.rand(result.shape, generator=self._generator, dtype=torch.float32)
            unit = self._unit * units_of_sum(self._terms.get(_origin(n), 1) / max(result.numel(), 1))
            result = result * draws.to(result.real.dtype).mul_(2 * unit).add_(1 - unit)
        return result

    def _count_terms(self, n: fx.Node) -> None:
        """Note how many elements a sum over axes takes in; its result may be read later, from a tuple."""
        if is_sum(n) and isinstance(n.args[0], fx.Node):
            self._terms[n] = self.env[n.args[0]].numel()


def attached(result: torch.Tensor, inputs: Sequence[Any]) -> torch.Tensor:
    """A result that takes a gradient if an input does: behind a detach it is a leaf with its own."""
    if result.requires_grad or not is_inexact(result):
        return result
    if not any(isinstance(each, torch.Tensor) and each.requires_grad for each in inputs):
        return result
    return result.detach().requires_grad_()


def is_inexact(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds floating-point or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def _origin(node: fx.Node) -> fx.Node:
    """The node that computed a value; an element of an operator's tuple of results is the operator's."""
    while node.op == "call_function" and "getitem" in getattr(node.target, "__name__", ""):
        (node, *_) = node.all_input_nodes
    return node


def _tensor_inputs(node: fx.Node, labels: Mapping[str, str]) -> list[str]:
    return [
        labels.get(each.name, each.name)
        for each in node.all_input_nodes
        if isinstance(each.meta.get("val"), torch.Tensor)
    ]


def _make_differentiable(module: fx.GraphModule) -> None:
    """Replace bridge's markers, which autograd does not know, by the copies that they are."""
    for each in module.modules():
        if isinstance(each, fx.GraphModule):
            for node in each.graph.nodes:
                if node.target is dropout_marker():
                    node.target, node.args = _aten.clone.default, node.args[:1]
                    node.meta[_OPERATOR] = str(_aten.dropout.default)
                elif node.target is detached_marker():
                    node.target = _aten.clone.default
                    node.meta[_OPERATOR] = str(_aten.detach.default)
                    (source,) = node.all_input_nodes
                    # What is not recorded in the source is a leaf already.
                    stops = not (source.meta.get("custom") or {}).get(DETACHED)
                    node.meta["custom"] = {**(node.meta.get("custom") or {}), DETACHED: stops}
            each.recompile()
