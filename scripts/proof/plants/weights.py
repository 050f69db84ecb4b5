"""Weights of the hand-written pairs: seeded by name, in PyTorch's layouts, and their faults."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from scripts.proof.plants.faults import Faults

Array = np.ndarray[Any, np.dtype[Any]]

GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "new")}


class Weights:
    """The tensors of one model; the same seed gives both sides the same ones, but for the planted fault."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self._seed = seed
        self._faults = faults

    def _draw(self, name: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> Array:
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        return (mean + scale * generator.standard_normal(shape)).astype(np.float32)

    def _numeric(self, node: str, weight: Array) -> Array:
        """The faults that change single numbers of a tensor."""
        if self._faults.at("float16_weight", node):
            return weight.astype(np.float16).astype(np.float32)
        if self._faults.at("perturbed_weight", node):
            return perturbed(weight)
        return weight

    def bias(self, node: str, size: int) -> Array | None:
        """A bias; None where it is left out."""
        bias = self._draw(f"{node}.bias", (size,), 0.2)
        return None if self._faults.at("missing_bias", node) else bias

    def convolution(self, node: str, shape: tuple[int, int, int, int], groups: int) -> Array:
        """A kernel (out, in / groups, height, width)."""
        weight = self._draw(f"{node}.weight", shape, math.sqrt(2 / math.prod(shape[1:])))
        if shape[2] == shape[3] > 1 and self._faults.at("transposed_kernel", node):
            weight = np.ascontiguousarray(weight.transpose(0, 1, 3, 2))
        if shape[1] > 2 and self._faults.at("swapped_channels", node):
            weight = swap(weight, 1)
        if groups > 1 and self._faults.at("group_order", node):
            weight = np.roll(weight, shape[0] // groups, axis=0)
        return self._numeric(node, weight)

    def dense(self, node: str, size_out: int, size_in: int) -> Array:
        """A kernel (out, in)."""
        weight = self._draw(f"{node}.weight", (size_out, size_in), math.sqrt(1 / size_in))
        if size_out == size_in and self._faults.at("transposed_dense", node):
            weight = np.ascontiguousarray(weight.T)
        return self._numeric(node, weight)

    def embedding(self, node: str, rows: int, width: int) -> Array:
        """A table (rows, width)."""
        table = self._draw(f"{node}.weight", (rows, width), 1.0)
        if self._faults.at("embedding_shift", node):
            table = np.roll(table, 1, axis=0)
        return self._numeric(node, table)

    def scale_and_shift(self, node: str, size: int) -> tuple[Array, Array]:
        """The two vectors of a normalisation."""
        return self._draw(f"{node}.weight", (size,), 0.1, 1.0), self._draw(f"{node}.bias", (size,), 0.1)

    def statistics(self, node: str, size: int) -> tuple[Array, Array]:
        """Running mean and variance."""
        mean = self._draw(f"{node}.running_mean", (size,), 0.3)
        variance = np.exp(self._draw(f"{node}.running_var", (size,), 0.4))
        if self._faults.at("stale_statistics", node):
            return np.zeros_like(mean), np.ones_like(variance)
        return mean, variance

    def recurrent(self, node: str, kind: str, width: int, size: int) -> tuple[Array, Array, Array, Array]:
        """Kernels (gates * size, width) and (gates * size, size), then the bias of each."""
        gates = len(GATES[kind])
        parts = [
            self._draw(f"{node}.weight_ih", (gates * size, width), math.sqrt(1 / width)),
            self._draw(f"{node}.weight_hh", (gates * size, size), math.sqrt(1 / size)),
            self._draw(f"{node}.bias_ih", (gates * size,), 0.2),
            self._draw(f"{node}.bias_hh", (gates * size,), 0.2),
        ]
        if self._faults.at("lstm_gates", node):
            order = np.arange(gates * size).reshape(gates, size)[[1, 0, *range(2, gates)]].reshape(-1)
            parts = [np.ascontiguousarray(part[order]) for part in parts]
        if self._faults.at("missing_bias", node):
            parts[3] = np.zeros_like(parts[3])
        parts[1] = self._numeric(node, parts[1])
        return parts[0], parts[1], parts[2], parts[3]


def perturbed(weight: Array) -> Array:
    """The tensor with its middle element off by 1e-4 relative."""
    changed = weight.copy()
    changed.reshape(-1)[weight.size // 2] *= 1 + 1e-4
    return changed


def swap(weight: Array, axis: int) -> Array:
    """The tensor with its first and last entry along an axis swapped."""
    order = np.arange(weight.shape[axis])
    order[[0, -1]] = order[[-1, 0]]
    return np.ascontiguousarray(np.take(weight, order, axis=axis))
