"""Small hub graphs for tests: node by node, with shapes inferred and trained weights recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from bridge.hub import metadata, recipe
from bridge.hub.metadata import WeightInfo
from bridge.hub.recipe import Array

TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
TO_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


class Builder:
    """Collects nodes and initializers; values are known by name, shapes are inferred at the end.

    With `dynamic` axis 0 of every input is symbolic. Convolutions of an `nhwc` graph stand between
    transposes, as tf2onnx writes them.
    """

    def __init__(self, *, seed: int = 0, dynamic: bool = True, nhwc: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.nhwc = nhwc
        self.dynamic = dynamic
        self.feeds: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._trained: set[str] = set()

    def input(self, shape: Sequence[int], *, name: str | None = None) -> str:
        name = name or f"x{len(self.feeds)}"
        self.feeds[name] = self.random.standard_normal(shape).astype(np.float32)
        self.shapes[name] = tuple(shape)
        return name

    def spatial_input(self, channels: int, *spatial: int, batch: int = 2) -> str:
        return self.input((batch, *spatial, channels) if self.nhwc else (batch, channels, *spatial))

    def constant(self, array: Any, dtype: Any = np.int64) -> str:
        name = f"const{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weight(self, *shape: int, positive: bool = False, trained: bool = True) -> str:
        name = f"weight{len(self._initializers)}"
        array = self.random.standard_normal(shape).astype(np.float32)
        array = (
            np.abs(array) + 0.5 if positive else array / np.sqrt(max(1.0, array.size / max(1, *shape[:1], 1)))
        )
        self._initializers.append(numpy_helper.from_array(array.astype(np.float32), name))
        if trained:
            self._trained.add(name)
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self._nodes)}" if i == 0 else f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(
            helper.make_node(op_type, list(inputs), names, name=f"node{len(self._nodes)}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def conv(
        self, x: str, channels: int, out: int, *, kernel: int = 3, rank: int = 4, **attributes: Any
    ) -> str:
        """A Conv with bias that keeps the spatial size (at stride 1)."""
        group = attributes.get("group", 1)
        weight = self.weight(out, channels // group, *[kernel] * (rank - 2))
        pads = [kernel // 2] * (2 * (rank - 2))
        return self.spatially("Conv", x, weight, self.weight(out), rank=rank, pads=pads, **attributes)

    def batch_norm(self, x: str, channels: int, *, rank: int = 4) -> str:
        statistics = [self.weight(channels), self.weight(channels), self.weight(channels)]
        inputs = (*statistics, self.weight(channels, positive=True))
        if rank == 2:
            return str(self.op("BatchNormalization", x, *inputs))
        return self.spatially("BatchNormalization", x, *inputs, rank=rank)

    def spatially(self, op_type: str, x: str, *inputs: str, rank: int = 4, **attributes: Any) -> str:
        """A channels-first operator on a tensor of this graph."""
        if not self.nhwc:
            return str(self.op(op_type, x, *inputs, **attributes))
        x = self.op("Transpose", x, perm=TO_FIRST[rank])
        return str(self.op("Transpose", self.op(op_type, x, *inputs, **attributes), perm=TO_LAST[rank]))

    def channel_axis(self, rank: int = 4) -> int:
        return rank - 1 if self.nhwc else 1

    def spatial_axes(self, rank: int = 4) -> list[int]:
        return list(range(1, rank - 1)) if self.nhwc else list(range(2, rank))

    def per_channel(self, channels: int, rank: int = 4) -> tuple[int, ...]:
        """The shape of a constant that broadcasts over everything but channels."""
        return tuple(channels if axis == self.channel_axis(rank) else 1 for axis in range(rank))

    def model(self, outputs: Iterable[str]) -> ir.Model:
        """The checked hub model, every shape known; output types are inferred."""
        inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, ["N", *array.shape[1:]] if self.dynamic else array.shape
            )
            for name, array in self.feeds.items()
        ]
        typed = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self._nodes, "graph", inputs, typed, self._initializers)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto)
        model = ir.from_proto(proto)
        for name in sorted(self._trained):
            value = model.graph.initializers[name]
            metadata.set_weight_info(value, WeightInfo(f"path/{name}", "parameter", True))
            metadata.set_recipe_record(value, recipe.to_json(recipe.Source(f"path/{name}")))
        return model
