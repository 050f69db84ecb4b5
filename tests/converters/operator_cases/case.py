"""One operator case: a node, its inputs, and what it must give."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, reference

Array = np.ndarray[Any, np.dtype[Any]]
OPSET = 23

ORT_CANNOT = (
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.Fail,
)


@dataclass(frozen=True)
class Case:
    """A node with concrete inputs.

    `computed` passes inputs that lowerings take as Python values as tensors instead. `oracle` is who
    says what is right: onnxruntime (with the standard's reference where it has no kernel), the
    reference alone, or `expected`, where both of them depart from the standard. `opset` is that of the
    model the oracle runs, and for operators of another domain that domain's: an older one with the same
    meaning where it has no kernel for the newest.
    `tolerance` replaces the usual relative one where the oracle itself is less precise.
    """

    op: str
    inputs: tuple[Array | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    outputs: int = 1
    computed: bool = False
    oracle: Literal["onnxruntime", "reference"] = "onnxruntime"
    expected: tuple[Array, ...] | None = None
    opset: int = OPSET
    tolerance: float | None = None
    domain: str = ""

    @property
    def version(self) -> int:
        """The version of its operator that the hub has."""
        return self.opset if self.domain else max(self.opset, OPSET)

    @property
    def name(self) -> str:
        return f"{self.op}-{self.label}"

    def node(self) -> onnx.NodeProto:
        inputs = [f"input_{i}" if value is not None else "" for i, value in enumerate(self.inputs)]
        outputs = [f"output_{i}" for i in range(self.outputs)]
        return helper.make_node(self.op, inputs, outputs, domain=self.domain, **self.attributes)

    def model(self, constants: frozenset[int]) -> onnx.ModelProto:
        """The one-node model, with the inputs of the given indices as initializers."""
        graph = helper.make_graph(
            [self.node()],
            "case",
            [
                helper.make_tensor_value_info(f"input_{i}", onnx_type(value), value.shape)
                for i, value in enumerate(self.inputs)
                if value is not None and i not in constants
            ],
            [onnx.ValueInfoProto(name=f"output_{i}") for i in range(self.outputs)],
            [
                numpy_helper.from_array(value, f"input_{i}")
                if value.dtype == object
                else helper.make_tensor(
                    f"input_{i}", onnx_type(value), value.shape, value.tobytes(), raw=True
                )
                for i, value in enumerate(self.inputs)
                if value is not None and i in constants
            ],
        )
        imports = [helper.make_opsetid("", OPSET if self.domain else self.opset)]
        if self.domain:
            imports.append(helper.make_opsetid(self.domain, self.opset))
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=False)

    def answer(self) -> tuple[Array, ...]:
        """What the node must give."""
        if self.expected is not None:
            return self.expected
        feed = {f"input_{i}": value for i, value in enumerate(self.inputs) if value is not None}
        exotic = any(value.dtype.name in dir(ml_dtypes) for value in feed.values())
        numpy_only = not exotic and self.attributes.get("to", 0) < onnx.TensorProto.BFLOAT16
        if self.oracle == "onnxruntime" and numpy_only:
            constants = frozenset() if self.computed else frozenset(range(1, len(self.inputs)))
            model = self.model(constants)
            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            try:
                session = ort.InferenceSession(model.SerializeToString(), options)
                names = {each.name for each in session.get_inputs()}
                return tuple(session.run(None, {k: v for k, v in feed.items() if k in names}))
            except ORT_CANNOT:
                pass
        evaluator = reference.ReferenceEvaluator(self.model(frozenset()))
        return tuple(np.asarray(each) for each in evaluator.run(None, feed))


def onnx_type(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def case(
    op: str,
    *inputs: Array | None,
    label: str = "",
    outputs: int = 1,
    computed: bool = False,
    oracle: Literal["onnxruntime", "reference"] = "onnxruntime",
    expected: tuple[Array, ...] | None = None,
    opset: int = OPSET,
    tolerance: float | None = None,
    domain: str = "",
    **attributes: Any,
) -> Case:
    """A case; without a label it is named for its inputs and attributes."""
    if not label:
        parts = [
            "none" if value is None else f"{value.dtype}{list(value.shape)}".replace(" ", "")
            for value in inputs
        ]
        parts += [f"{key}={value}" for key, value in attributes.items() if not hasattr(value, "dims")]
        label = "-".join(parts).replace(" ", "")
    if computed:
        label += "-computed"
    if outputs > 1:
        label += f"-{outputs}outputs"
    return Case(op, inputs, attributes, label, outputs, computed, oracle, expected, opset, tolerance, domain)


def draw(*shape: int, dtype: Any = np.float32, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Array:
    """Numbers from low to high that depend on nothing but the arguments."""
    rng = np.random.default_rng(zlib.crc32(repr((shape, str(np.dtype(dtype)), low, high, seed)).encode()))
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        return rng.integers(int(max(low, 0)) if dtype.kind == "u" else int(low), int(high) + 1, shape).astype(
            dtype
        )
    return rng.uniform(low, high, shape).astype(dtype)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: Any, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


SPECIAL = np.array(
    [-np.inf, -3.5, -2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 7.0, np.inf, np.nan], np.float32
)
"""Infinities, halves between even and odd numbers, both zeros, and not a number."""
