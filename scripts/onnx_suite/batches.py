"""A case's model with a dynamic batch: axis 0 of inputs that the operator takes in other sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import reference, shape_inference

from scripts.onnx_suite.cases import SuiteCase, Value
from scripts.onnx_suite.compare import difference
from scripts.onnx_suite.engines import Run, onnxruntime_run

_BATCH = "batch"


@dataclass(frozen=True)
class Batched:
    """The model with a dynamic axis 0, and inputs with one element more along it with their outputs."""

    model: onnx.ModelProto
    inputs: list[Value]
    expected: list[Value]


def batched(case: SuiteCase) -> Batched | None:
    """The case with a dynamic batch, or None where that has no meaning.

    It has one where ONNX's shape inference carries the batch from inputs to axis 0 of the first output, and
    where onnxruntime, or the standard's reference evaluator where that is not right about the case, takes
    another size.
    """
    if case.category == "light":
        return None
    inputs, expected = next(case.data_sets())
    for chosen in _choices(inputs):
        model = _with_batch(case.model, chosen)
        if model is None:
            continue
        larger = [
            np.concatenate([each, each[:1]]) if index in chosen else each for index, each in enumerate(inputs)
        ]
        outputs = _computed(case, model, inputs, expected, larger)
        if outputs is not None:
            return Batched(model, larger, outputs)
    return None


def _computed(
    case: SuiteCase, model: onnx.ModelProto, inputs: list[Value], expected: list[Value], larger: list[Value]
) -> list[Value] | None:
    """The outputs for larger inputs by the first oracle that is right about the case, or None."""
    for oracle in (onnxruntime_run, _reference_run):
        try:
            run = oracle(model)
            right = difference(run(inputs), expected, rtol=case.rtol, atol=case.atol) is None
        except Exception:  # an oracle may lack an operator, and fails in any way then
            continue
        if right:
            try:
                return list(run(larger))
            except Exception:  # and where a size does not fit
                return None
    return None


def _reference_run(model: onnx.ModelProto) -> Run:
    evaluator = reference.ReferenceEvaluator(model)
    names = [each.name for each in model.graph.input]
    return lambda values: list(evaluator.run(None, dict(zip(names, values, strict=False))))


def _choices(inputs: list[Value]) -> Iterator[frozenset[int]]:
    """Inputs that may have the batch: the first alone, else all whose axis 0 is as long as its."""
    if not inputs or not isinstance(inputs[0], np.ndarray) or inputs[0].ndim == 0 or not len(inputs[0]):
        return
    alike = frozenset(
        index
        for index, each in enumerate(inputs)
        if isinstance(each, np.ndarray) and each.ndim and len(each) == len(inputs[0])
    )
    yield frozenset({0})
    if alike != {0}:
        yield alike


def _with_batch(model: onnx.ModelProto, chosen: frozenset[int]) -> onnx.ModelProto | None:
    dynamic = onnx.ModelProto()
    dynamic.CopyFrom(model)
    del dynamic.graph.value_info[:]
    for index, value in enumerate(dynamic.graph.input):
        if index in chosen:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    for output in dynamic.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(dynamic, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError:
        return None
    shape: Any = inferred.graph.output[0].type.tensor_type.shape
    return inferred if shape.dim and shape.dim[0].dim_param == _BATCH else None
