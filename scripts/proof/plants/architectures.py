"""The hand-written pairs: networks over a vocabulary of layers that each framework implements for itself.

A network is written once, its layers twice (`torch_layers`, `tf_layers`): the two sides share no code below
this file. Tensors are batches; images are in the layout of the framework between `image` and `flatten`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scripts.proof.plants.faults import Faults

T = Any
"""A tensor of the framework."""


class Layers(Protocol):
    """What a network is made of. `node` names a layer; the layer asks its faults under that name."""

    faults: Faults

    def image(self, x: T) -> T:
        """From the model's interface (batch, channels, height, width) to the framework's layout."""

    def to_interface(self, x: T) -> T:
        """Back again."""

    def conv(
        self,
        x: T,
        node: str,
        channels: tuple[int, int],
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
    ) -> T: ...

    def batch_norm(self, x: T, node: str, size: int) -> T: ...

    def layer_norm(self, x: T, node: str, size: int) -> T: ...

    def relu(self, x: T, node: str) -> T: ...

    def relu6(self, x: T, node: str) -> T: ...

    def leaky_relu(self, x: T, node: str) -> T: ...

    def gelu(self, x: T, node: str) -> T: ...

    def max_pool(self, x: T, node: str, kernel: int, stride: int, *, ceil: bool = False) -> T: ...

    def average_pool(
        self, x: T, node: str, kernel: int, stride: int, padding: int, *, ceil: bool, count: bool
    ) -> T: ...

    def global_pool(self, x: T, node: str) -> T: ...

    def resize(self, x: T, node: str, factor: int) -> T: ...

    def flatten(self, x: T, node: str) -> T: ...

    def dense(self, x: T, node: str, sizes: tuple[int, int], *, bias: bool = True) -> T: ...

    def embedding(self, ids: T, node: str, rows: int, width: int) -> T: ...

    def heads(self, x: T, node: str, count: int) -> T:
        """(batch, length, count * width) to (batch, count, length, width)."""

    def merge(self, x: T, node: str) -> T:
        """The inverse of `heads`."""

    def scores(self, query: T, key: T, node: str) -> T:
        """Products of all pairs, scaled by 1 / sqrt(width)."""

    def softmax(self, x: T, node: str) -> T: ...

    def matmul(self, x: T, y: T, node: str) -> T: ...

    def mean_over_length(self, x: T, node: str) -> T: ...

    def last(self, x: T, node: str) -> T:
        """The last step of (batch, length, width)."""

    def lstm(self, x: T, node: str, sizes: tuple[int, int]) -> T: ...

    def gru(self, x: T, node: str, sizes: tuple[int, int]) -> T: ...

    def concat(self, parts: Sequence[T], node: str) -> T:
        """Along the axis of channels, or the last one."""

    def add(self, x: T, y: T, node: str) -> T: ...

    def dropout(self, x: T, node: str, rate: float) -> T: ...

    def standardise(self, x: T, node: str) -> T:
        """Subtract the mean and divide by the deviation (biased) along the last axis."""

    def clip(self, x: T, node: str, low: float, high: float) -> T: ...

    def log(self, x: T, node: str) -> T:
        """NaN where x is negative."""

    def round(self, x: T, node: str) -> T:
        """To even where halfway."""

    def floor_divide(self, ids: T, node: str, divisor: int) -> T: ...

    def argmax(self, x: T, node: str) -> T:
        """Along the last axis, int64."""

    def swap_outputs(self, outputs: tuple[T, ...], node: str) -> tuple[T, ...]:
        """The outputs, or their first two swapped."""


Network = Callable[..., tuple[Any, ...]]


def convolutional(net: Layers, x: T) -> tuple[T, ...]:
    """Convolution and BatchNorm with a residual connection, as in ResNet."""
    y = net.image(x)
    y = net.relu(
        net.batch_norm(net.conv(y, "stem", (3, 8), padding=(1, 1), bias=False), "stem_norm", 8), "stem_relu"
    )
    y = net.max_pool(y, "pool", 2, 2)
    z = net.conv(y, "block_conv1", (8, 8), padding=(1, 1), bias=False)
    z = net.relu(net.batch_norm(z, "block_norm1", 8), "block_relu1")
    z = net.batch_norm(net.conv(z, "block_conv2", (8, 8), padding=(1, 1)), "block_norm2", 8)
    y = net.relu(net.add(y, z, "block_add"), "block_relu2")
    y = net.flatten(y, "flatten")
    return (net.dense(y, "head", (8 * 6 * 5, 7)),)


def mobile(net: Layers, x: T) -> tuple[T, ...]:
    """Depthwise, grouped and dilated convolutions, ReLU6."""
    y = net.image(x)
    y = net.conv(y, "stem", (3, 8), stride=2, padding=(1, 1), bias=False)
    y = net.relu6(net.batch_norm(y, "stem_norm", 8), "stem_relu")
    y = net.conv(y, "depthwise", (8, 8), padding=(1, 1), groups=8, bias=False)
    y = net.relu6(net.batch_norm(y, "depthwise_norm", 8), "depthwise_relu")
    y = net.conv(y, "dilated", (8, 12), padding=(1, 2), dilation=(1, 2))
    y = net.leaky_relu(y, "dilated_act")
    y = net.conv(y, "grouped", (12, 12), padding=(1, 1), groups=3)
    y = net.relu(y, "grouped_relu")
    y = net.dropout(net.global_pool(y, "pool"), "dropout", 0.2)
    return (net.dense(y, "head", (12, 5)),)


def pooling(net: Layers, x: T) -> tuple[T, ...]:
    """Pooling with padding and with sizes rounded up."""
    y = net.image(x)
    y = net.relu(net.conv(y, "conv1", (3, 8), padding=(1, 1)), "relu1")
    y = net.max_pool(y, "max_pool", 3, 2, ceil=True)
    y = net.leaky_relu(net.conv(y, "conv2", (8, 8), padding=(1, 1)), "act2")
    padded = net.average_pool(y, "padded_pool", 3, 1, 1, ceil=False, count=False)
    counted = net.average_pool(y, "counted_pool", 3, 1, 1, ceil=False, count=True)
    y = net.concat((padded, counted), "concat")
    y = net.average_pool(y, "ceil_pool", 2, 2, 0, ceil=True, count=False)
    return (net.dense(net.global_pool(y, "global_pool"), "head", (16, 4)),)


def resizing(net: Layers, x: T) -> tuple[T, ...]:
    """Down and up again, with a skip connection."""
    y = net.image(x)
    skip = net.gelu(net.conv(y, "down1", (3, 6), padding=(1, 1)), "gelu1")
    y = net.max_pool(skip, "pool", 2, 2)
    y = net.relu(
        net.batch_norm(net.conv(y, "down2", (6, 8), padding=(1, 1), bias=False), "norm2", 8), "relu2"
    )
    y = net.resize(y, "resize", 2)
    y = net.concat((skip, y), "concat")
    y = net.relu(net.conv(y, "up1", (14, 6), padding=(1, 1)), "relu3")
    return (net.to_interface(net.conv(y, "out", (6, 2), kernel=1)),)


def transformer(net: Layers, ids: T) -> tuple[T, ...]:
    """One encoder block over token ids."""
    y = net.embedding(ids, "embedding", 50, 16)
    z = net.layer_norm(y, "norm1", 16)
    query, key, value = (
        net.heads(net.dense(z, each, (16, 16)), f"{each}_heads", 2) for each in ("query", "key", "value")
    )
    weights = net.softmax(net.scores(query, key, "scores"), "softmax")
    weights = net.dropout(weights, "attention_dropout", 0.1)
    z = net.merge(net.matmul(weights, value, "mix"), "merge")
    y = net.add(y, net.dense(z, "projection", (16, 16)), "add1")
    z = net.dense(net.layer_norm(y, "norm2", 16), "wide", (16, 32))
    z = net.dense(net.gelu(z, "gelu"), "narrow", (32, 16))
    y = net.layer_norm(net.add(y, z, "add2"), "norm3", 16)
    return (net.dense(net.mean_over_length(y, "mean"), "head", (16, 3)),)


def long_memory(net: Layers, x: T) -> tuple[T, ...]:
    """Two LSTM layers over a sequence of features."""
    y = net.lstm(net.dense(x, "embed", (6, 8)), "lstm1", (8, 8))
    y = net.dropout(y, "dropout", 0.1)
    y = net.lstm(y, "lstm2", (8, 6))
    return (net.dense(net.last(y, "last"), "head", (6, 3)), net.mean_over_length(y, "mean"))


def gated(net: Layers, ids: T) -> tuple[T, ...]:
    """A GRU over token ids."""
    y = net.gru(net.embedding(ids, "embedding", 40, 8), "gru", (8, 8))
    y = net.layer_norm(y, "norm", 8)
    return (
        net.dense(net.last(y, "last"), "head", (8, 4)),
        net.argmax(net.mean_over_length(y, "mean"), "choice"),
    )


def arithmetic(net: Layers, x: T, ids: T) -> tuple[T, ...]:
    """Integers, bounds, rounding, and NaN where the input is negative."""
    y = net.dense(x, "mix", (6, 6))
    clipped = net.clip(y, "clip", -1.5, 1.5)
    logs = net.clip(net.log(y, "log"), "clip_logs", -2.0, 2.0)
    rounded = net.round(x, "round")
    groups = net.floor_divide(ids, "divide", 3)
    choice = net.argmax(net.standardise(net.add(clipped, rounded, "add"), "standardise"), "choice")
    return net.swap_outputs((net.standardise(clipped, "scale"), logs, rounded, groups, choice), "outputs")


def autoencoder(net: Layers, x: T) -> tuple[T, ...]:
    """A variational autoencoder's mean, log variance and reconstruction."""
    y = net.gelu(net.dense(x, "encoder", (12, 16)), "gelu")
    y = net.dropout(y, "dropout", 0.25)
    mean, variance = net.dense(y, "mean", (16, 4)), net.dense(y, "variance", (16, 4))
    z = net.leaky_relu(net.dense(mean, "decoder", (4, 16)), "act")
    return net.swap_outputs((mean, variance, net.dense(z, "out", (16, 12))), "outputs")


@dataclass(frozen=True)
class Input:
    """One input; axis 0 is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    limit: int = 0


@dataclass(frozen=True)
class Architecture:
    """A network with its inputs and its seed."""

    network: Network
    inputs: tuple[Input, ...]
    seed: int


_IMAGE = (Input("x", (3, 12, 10)),)

ARCHITECTURES: Mapping[str, Architecture] = {
    "convolutional": Architecture(convolutional, _IMAGE, 1),
    "mobile": Architecture(mobile, _IMAGE, 2),
    "pooling": Architecture(pooling, _IMAGE, 3),
    "resizing": Architecture(resizing, _IMAGE, 4),
    "transformer": Architecture(transformer, (Input("x", (7,), "int64", 50),), 5),
    "long_memory": Architecture(long_memory, (Input("x", (7, 6)),), 6),
    "gated": Architecture(gated, (Input("x", (9,), "int64", 40),), 7),
    "arithmetic": Architecture(arithmetic, (Input("x", (6,)), Input("numbers", (5,), "int64")), 8),
    "autoencoder": Architecture(autoencoder, (Input("x", (12,)),), 9),
}
