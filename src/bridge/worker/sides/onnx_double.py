"""An ONNX model in double precision, run by ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from bridge.worker.rounding import units_of_sum

Array = np.ndarray[Any, np.dtype[Any]]

_NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
_IMPLICIT_FLOAT = {
    "BlackmanWindow": "output_datatype",
    "HammingWindow": "output_datatype",
    "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
}
"""Operators whose result is float32 when the attribute that says its type is absent."""


class DoubleModel:
    """The float64 counterpart of an ONNX model: every narrower floating-point tensor and type is double.

    Every method takes the inputs of the original model by name, and raises NotImplementedError, or whatever
    the reference evaluator raises, for an operator that it cannot compute.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        widen(self._model)
        self._evaluator = ReferenceEvaluator(self._model)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(output) for output in self._evaluator.run(None, _widened(feeds))]

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        """The outputs where each floating result of each node is multiplied by 1 + `unit` * r.

        r is uniform in [-1, 1], drawn anew for each element, the same for the same seed. A sum over axes is
        off by as many units as `units_of_sum` says.
        """
        evaluator = ReferenceEvaluator(self._model)
        generator = np.random.default_rng(seed)

        def perturb(array: Any, terms: float) -> Any:
            if not _is_array(array) or not _is_float(np.asarray(array)):
                return array
            noise = generator.uniform(-1.0, 1.0, np.shape(array))
            factors: Array = 1.0 + unit * units_of_sum(terms) * noise
            return np.asarray(np.asarray(array) * factors)

        _perturb_results(evaluator, perturb)
        return [np.asarray(output) for output in evaluator.run(None, _widened(feeds))]

    def intermediates(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The tensors that the nodes of the main graph compute, by name."""
        found = self._evaluator.run(None, _widened(feeds), intermediate=True)
        assert isinstance(found, dict)
        names = (name for node in self._model.graph.node for name in node.output if name)
        computed = ((name, found.get(name)) for name in names)
        return {name: np.asarray(value) for name, value in computed if _is_array(value)}


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def _widened(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64) if _is_float(array) else array for name, array in feeds.items()}


_TRUE = "bridge_true"

_SUMS = frozenset({"ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare", "GlobalAveragePool"})


def _perturb_results(evaluator: ReferenceEvaluator, perturb: Callable[[Any, float], Any]) -> None:
    """Let every node of an evaluator, those in subgraphs and functions included, change its results.

    `perturb` takes a result and how many terms each of its elements sums up.
    """

    def changed(run: Callable[..., tuple[Any, ...]], *, sums: bool) -> Callable[..., tuple[Any, ...]]:
        def disturbed(*inputs: Any, **context: Any) -> tuple[Any, ...]:
            results = run(*inputs, **context)
            size = np.size(inputs[0]) if sums else 1
            return tuple(perturb(each, size / max(np.size(each), 1) if sums else 1.0) for each in results)

        return disturbed

    for node in evaluator.rt_nodes_:
        inner = [each for each in vars(node).values() if isinstance(each, ReferenceEvaluator)]
        for each in inner:
            _perturb_results(each, perturb)
        if not inner:
            node.run = changed(node.run, sums=node.onnx_node.op_type in _SUMS)


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def widen(model: ModelProto) -> None:
    """Replace every float32, float16 and bfloat16 tensor and type of a model by float64, in place."""
    _widen_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            _widen_node(node)


def _widen_graph(graph: GraphProto) -> None:
    _give_loops_conditions(graph)
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type)
    for node in graph.node:
        _widen_node(node)


def _give_loops_conditions(graph: GraphProto) -> None:
    """Let Loops without a condition have a true one: ONNX's evaluator runs no step of them otherwise."""
    loops = [each for each in graph.node if each.op_type == "Loop" and not (*each.input, "", "")[1]]
    for node in loops:
        node.input.extend([""] * (2 - len(node.input)))
        node.input[1] = _TRUE
    if loops:
        graph.initializer.append(numpy_helper.from_array(np.array(True), _TRUE))


def _widen_type(type_: TypeProto) -> None:
    match type_.WhichOneof("value"):
        case "tensor_type":
            if type_.tensor_type.elem_type in _NARROW:
                type_.tensor_type.elem_type = TensorProto.DOUBLE
        case "sequence_type":
            _widen_type(type_.sequence_type.elem_type)
        case "optional_type":
            _widen_type(type_.optional_type.elem_type)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _widen_node(node: NodeProto) -> None:
    if node.op_type == "Constant":
        _widen_constant(node)
    elif node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float64))
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    elif node.op_type in _IMPLICIT_FLOAT:
        name = _IMPLICIT_FLOAT[node.op_type]
        if not any(attribute.name == name for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute(name, TensorProto.DOUBLE))
    for attribute in node.attribute:
        _widen_attribute(attribute)


def _widen_attribute(attribute: AttributeProto) -> None:
    if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
        attribute.i = TensorProto.DOUBLE
    if attribute.type == AttributeProto.TENSOR:
        _widen_tensor(attribute.t)
    for graph in _graphs(attribute):
        _widen_graph(graph)


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        yield attribute.g
    yield from attribute.graphs


def _widen_constant(node: NodeProto) -> None:
    """Write `value_float` and `value_floats` as tensors, which can be double."""
    for attribute in node.attribute:
        if attribute.name == "value_float":
            value: Array = np.array(attribute.f, np.float64)
        elif attribute.name == "value_floats":
            value = np.array(list(attribute.floats), np.float64)
        else:
            continue
        attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(value)))
