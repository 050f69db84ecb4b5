"""The layers of the hand-written pairs in PyTorch, as one writes them there: nn layers and functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.plants.architectures import Architecture
from scripts.proof.plants.faults import Faults
from scripts.proof.plants.weights import Array, Weights


class Function(nn.Module):
    """A function as a module, so that the exported program knows the node by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _GruResetBefore(nn.Module):
    """A GRU whose reset gate acts before the recurrent product: Keras' `reset_after=False`."""

    def __init__(self, weights: Sequence[Array], size: int) -> None:
        super().__init__()
        self._size = size
        self.wx, self.wh, self.bx, self.bh = (nn.Parameter(torch.from_numpy(each)) for each in weights)

    def forward(self, x: Tensor) -> Tensor:
        size = self._size
        state = x.new_zeros((x.shape[0], size))
        states = []
        for step in range(x.shape[1]):
            given = F.linear(x[:, step], self.wx, self.bx)
            kept = F.linear(state, self.wh[: 2 * size], self.bh[: 2 * size])
            reset = torch.sigmoid(given[:, :size] + kept[:, :size])
            update = torch.sigmoid(given[:, size : 2 * size] + kept[:, size:])
            new = F.linear(reset * state, self.wh[2 * size :], self.bh[2 * size :])
            new = torch.tanh(given[:, 2 * size :] + new)
            state = (1 - update) * new + update * state
            states.append(state)
        return torch.stack(states, 1)


class TorchLayers(nn.Module):
    """See `architectures.Layers`. A layer is made on the first call of its node."""

    def __init__(self, architecture: Architecture, faults: Faults) -> None:
        super().__init__()
        self.faults = faults
        self._network = architecture.network
        self._source = Weights(architecture.seed, faults)
        self.layers = nn.Module()

    def forward(self, x: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, ...]:
        return self._network(self, x) if numbers is None else self._network(self, x, numbers)

    def _layer(self, node: str, make: Callable[[], nn.Module]) -> nn.Module:
        if node not in self.layers._modules:
            self.layers.add_module(node, make().eval())
        return self.layers.get_submodule(node)

    def _step(self, node: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._layer(node, lambda: Function(function))(*arguments)

    def image(self, x: Tensor) -> Tensor:
        return x

    def to_interface(self, x: Tensor) -> Tensor:
        return x

    def conv(
        self,
        x: Tensor,
        node: str,
        channels: tuple[int, int],
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
    ) -> Any:
        shift = padding != (0, 0) and self.faults.at("padding_shift", node)
        if dilation[0] != dilation[1] and self.faults.at("dilations_swapped", node):
            dilation, padding = dilation[::-1], padding[::-1]

        def make() -> nn.Module:
            used = (0, 0) if shift else padding
            layer = nn.Conv2d(*channels, kernel, stride, used, dilation, groups, bias)
            shape = (channels[1], channels[0] // groups, kernel, kernel)
            vector = self._source.bias(node, channels[1]) if bias else None
            _assign(layer, weight=self._source.convolution(node, shape, groups), bias=vector)
            if not shift:
                return layer
            (high, wide) = padding
            return nn.Sequential(nn.ZeroPad2d((wide - 1, wide + 1, high - 1, high + 1)), layer)

        return self._layer(node, make)(x)

    def batch_norm(self, x: Tensor, node: str, size: int) -> Any:
        def make() -> nn.Module:
            layer = nn.BatchNorm2d(size, eps=1e-3 if self.faults.at("epsilon", node) else 1e-5)
            scale, shift = self._source.scale_and_shift(node, size)
            mean, variance = self._source.statistics(node, size)
            _assign(layer, weight=scale, bias=shift, running_mean=mean, running_var=variance)
            return layer

        return self._layer(node, make)(x)

    def layer_norm(self, x: Tensor, node: str, size: int) -> Any:
        def make() -> nn.Module:
            layer = nn.LayerNorm(size, eps=1e-6 if self.faults.at("epsilon", node) else 1e-5)
            scale, shift = self._source.scale_and_shift(node, size)
            _assign(layer, weight=scale, bias=shift)
            return layer

        return self._layer(node, make)(x)

    def _activation(self, node: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Any:
        half = self.faults.at("activation_half", node)
        detached = self.faults.at("detached_gradient", node)

        def run(value: Tensor) -> Tensor:
            result = function(value)
            if half:
                result = result.to(torch.float16).to(result.dtype)
            return result.detach() if detached else result

        return self._step(node, run, x)

    def relu(self, x: Tensor, node: str) -> Any:
        clipped = self.faults.at("clipped_range", node)
        return self._activation(node, F.relu6 if clipped else F.relu, x)

    def relu6(self, x: Tensor, node: str) -> Any:
        clipped = self.faults.at("clipped_range", node)
        return self._activation(node, F.relu if clipped else F.relu6, x)

    def leaky_relu(self, x: Tensor, node: str) -> Any:
        slope = 0.2 if self.faults.at("activation_slope", node) else 0.01
        return self._activation(node, lambda value: F.leaky_relu(value, slope), x)

    def gelu(self, x: Tensor, node: str) -> Any:
        kind = "tanh" if self.faults.at("gelu_tanh", node) else "none"
        return self._activation(node, lambda value: F.gelu(value, approximate=kind), x)

    def max_pool(self, x: Tensor, node: str, kernel: int, stride: int, *, ceil: bool = False) -> Any:
        up = ceil != (stride > 1 and self.faults.at("ceil_mode", node))
        return self._layer(node, lambda: nn.MaxPool2d(kernel, stride, ceil_mode=up))(x)

    def average_pool(
        self, x: Tensor, node: str, kernel: int, stride: int, padding: int, *, ceil: bool, count: bool
    ) -> Any:
        up = ceil != (stride > 1 and self.faults.at("ceil_mode", node))
        counted = count != (padding > 0 and self.faults.at("count_include_pad", node))
        return self._layer(node, lambda: nn.AvgPool2d(kernel, stride, padding, up, counted))(x)

    def global_pool(self, x: Tensor, node: str) -> Any:
        return self._step(node, lambda value: value.mean((2, 3)), x)

    def resize(self, x: Tensor, node: str, factor: int) -> Any:
        corners = self.faults.at("resize_mode", node)
        return self._step(
            node,
            lambda value: F.interpolate(value, scale_factor=factor, mode="bilinear", align_corners=corners),
            x,
        )

    def flatten(self, x: Tensor, node: str) -> Any:
        wrong = self.faults.at("reshape_order", node)
        return self._step(node, lambda v: (v.permute(0, 2, 3, 1) if wrong else v).flatten(1), x)

    def dense(self, x: Tensor, node: str, sizes: tuple[int, int], *, bias: bool = True) -> Any:
        def make() -> nn.Module:
            layer = nn.Linear(*sizes, bias)
            vector = self._source.bias(node, sizes[1]) if bias else None
            _assign(layer, weight=self._source.dense(node, sizes[1], sizes[0]), bias=vector)
            return layer

        return self._layer(node, make)(x)

    def embedding(self, ids: Tensor, node: str, rows: int, width: int) -> Any:
        def make() -> nn.Module:
            layer = nn.Embedding(rows, width)
            _assign(layer, weight=self._source.embedding(node, rows, width))
            return layer

        return self._layer(node, make)(ids)

    def heads(self, x: Tensor, node: str, count: int) -> Any:
        wrong = self.faults.at("reshape_order", node)

        def split(value: Tensor) -> Tensor:
            if wrong:
                return value.unflatten(-1, (-1, count)).permute(0, 3, 1, 2)
            return value.unflatten(-1, (count, -1)).transpose(1, 2)

        return self._step(node, split, x)

    def merge(self, x: Tensor, node: str) -> Any:
        axes = (0, 2, 3, 1) if self.faults.at("reshape_order", node) else (0, 2, 1, 3)
        return self._step(node, lambda value: value.permute(axes).flatten(2), x)

    def scores(self, query: Tensor, key: Tensor, node: str) -> Any:
        wrong = self.faults.at("attention_scale", node)

        def score(left: Tensor, right: Tensor) -> Tensor:
            width = left.shape[-1] * left.shape[1] if wrong else left.shape[-1]
            return left @ right.transpose(-1, -2) / math.sqrt(width)

        return self._step(node, score, query, key)

    def softmax(self, x: Tensor, node: str) -> Any:
        axis = -2 if self.faults.at("softmax_axis", node) else -1
        return self._step(node, lambda value: value.softmax(axis), x)

    def matmul(self, x: Tensor, y: Tensor, node: str) -> Any:
        return self._step(node, torch.matmul, x, y)

    def mean_over_length(self, x: Tensor, node: str) -> Any:
        return self._step(node, lambda value: value.mean(1), x)

    def last(self, x: Tensor, node: str) -> Any:
        return self._step(node, lambda value: value[:, -1], x)

    def _recurrent(self, kind: Any, weights: Sequence[Array], sizes: tuple[int, int]) -> nn.Module:
        layer = kind(*sizes, batch_first=True)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        _assign(layer, **dict(zip(names, weights, strict=True)))
        return layer

    def lstm(self, x: Tensor, node: str, sizes: tuple[int, int]) -> Any:
        def make() -> nn.Module:
            return self._recurrent(nn.LSTM, self._source.recurrent(node, "lstm", *sizes), sizes)

        return self._layer(node, make)(x)[0]

    def gru(self, x: Tensor, node: str, sizes: tuple[int, int]) -> Any:
        before = self.faults.at("gru_reset_after", node)

        def make() -> nn.Module:
            weights = self._source.recurrent(node, "gru", *sizes)
            return _GruResetBefore(weights, sizes[1]) if before else self._recurrent(nn.GRU, weights, sizes)

        result = self._layer(node, make)(x)
        return result if before else result[0]

    def concat(self, parts: Sequence[Tensor], node: str) -> Any:
        ordered = parts[::-1] if self.faults.at("concat_order", node) else parts
        return self._step(node, lambda *each: torch.cat(each, 1), *ordered)

    def add(self, x: Tensor, y: Tensor, node: str) -> Any:
        return self._step(node, torch.add, x, y)

    def dropout(self, x: Tensor, node: str, rate: float) -> Any:
        active = self.faults.at("dropout_active", node)
        if active:
            return self._step(node, lambda value: F.dropout(value, rate, training=True), x)
        return self._layer(node, lambda: nn.Dropout(rate))(x)

    def standardise(self, x: Tensor, node: str) -> Any:
        correction = 1 if self.faults.at("variance_unbiased", node) else 0
        epsilon = 1e-3 if self.faults.at("epsilon", node) else 1e-6

        def run(value: Tensor) -> Tensor:
            centred = value - value.mean(-1, keepdim=True)
            return centred * torch.rsqrt(value.var(-1, correction=correction, keepdim=True) + epsilon)

        return self._step(node, run, x)

    def clip(self, x: Tensor, node: str, low: float, high: float) -> Any:
        high = 1.02 * high if self.faults.at("clipped_range", node) else high
        lost = self.faults.at("lost_nan", node)

        def run(value: Tensor) -> Tensor:
            return torch.nan_to_num(value.clamp(low, high)) if lost else value.clamp(low, high)

        return self._activation(node, run, x)

    def log(self, x: Tensor, node: str) -> Any:
        return self._step(node, torch.log, x)

    def round(self, x: Tensor, node: str) -> Any:
        away = self.faults.at("rounding", node)
        return self._step(
            node, lambda v: torch.sign(v) * torch.floor(v.abs() + 0.5) if away else torch.round(v), x
        )

    def floor_divide(self, ids: Tensor, node: str, divisor: int) -> Any:
        mode = "trunc" if self.faults.at("integer_division", node) else "floor"
        return self._step(node, lambda value: torch.div(value, divisor, rounding_mode=mode), ids)

    def argmax(self, x: Tensor, node: str) -> Any:
        return self._step(node, lambda value: value.argmax(-1), x)

    def swap_outputs(self, outputs: tuple[Tensor, ...], node: str) -> tuple[Tensor, ...]:
        if self.faults.at("swapped_outputs", node):
            return outputs[1], outputs[0], *outputs[2:]
        return outputs


def _assign(layer: nn.Module, **arrays: Array | None) -> None:
    """Give a layer its weights; a missing bias is removed."""
    for name, array in arrays.items():
        if array is None:
            layer.register_parameter(name, None)
            continue
        with torch.no_grad():
            getattr(layer, name).copy_(torch.from_numpy(array))


def build(architecture: Architecture, faults: Faults) -> TorchLayers:
    """The network with its layers made, in inference mode."""
    model = TorchLayers(architecture, faults).eval()
    with torch.no_grad():
        model(*examples(architecture))
    return model.eval()


def examples(architecture: Architecture) -> tuple[Tensor, ...]:
    """A batch of two for every input."""
    generator = np.random.default_rng(0)
    arrays = []
    for each in architecture.inputs:
        shape = (2, *each.shape)
        if each.dtype == "int64":
            arrays.append(generator.integers(0, each.limit or 9, shape))
        else:
            arrays.append(generator.standard_normal(shape).astype(np.float32))
    return tuple(torch.from_numpy(each) for each in arrays)


def save(architecture: Architecture, faults: Faults, path: Path) -> None:
    """Export the network as a `.pt2` with a dynamic batch."""
    model = build(architecture, faults)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in architecture.inputs)
    program = torch.export.export(model, examples(architecture), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)
