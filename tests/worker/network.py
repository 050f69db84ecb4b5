"""A small network in numpy, with its gradients written by hand, as a side of a verification.

dense, BatchNormalization, ReLU, dense: enough to train, and to be wrong in every way that training shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

STATISTICS = ("norm.mean", "norm.variance")


def initial_weights(seed: int = 0) -> dict[str, Array]:
    """The float32 weights that every network of a seed starts with."""
    rng = np.random.default_rng(seed)
    return {
        name: value.astype(np.float32)
        for name, value in {
            "first.kernel": rng.standard_normal((4, 6)) / 2,
            "first.bias": rng.standard_normal(6) / 4,
            "norm.gamma": 1 + rng.standard_normal(6) / 8,
            "norm.beta": rng.standard_normal(6) / 4,
            "norm.mean": rng.standard_normal(6) / 4,
            "norm.variance": 1 + rng.random(6),
            "second.kernel": rng.standard_normal((6, 3)) / 2,
            "second.bias": rng.standard_normal(3) / 4,
        }.items()
    }


class Network:
    """See docs/worker-protocol.md for what a loaded model answers.

    The request may hold `names` (the network's own names for the weights above), `transposed` (those it
    stores transposed), `input`, `momentum` and `unbiased` of the statistics, `stale` (they are not
    updated), `frozen` and `detached` weights, `detached_input`, `inference` (no training mode),
    `epsilon`, `buffers` (it tells that the statistics are no parameters), `parameters_only` (it trains
    them in inference mode), `thin` (a factor for the kernel of one channel), `reordered` (a sum is in
    another order), `wrong_gradient` (a factor of the input's), `operator` (which it shows), and `seed`.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        weights = initial_weights(request.get("seed", 0))
        weights["first.kernel"][:, 0] *= np.float32(request.get("thin", 1))
        self._names = {name: request.get("names", {}).get(name, name) for name in weights}
        self._transposed = set(request.get("transposed", ()))
        self._weights = {name: value.astype(np.float64) for name, value in weights.items()}
        self._input = request.get("input", "x")
        self.inputs = [{"name": self._input, "dtype": "float32", "shape": [None, 4], "limit": None}]
        self.outputs = ["y"]
        self.what = "a network of the tests"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        return {name: value.astype(np.float32) for name, value in self.state().items()}

    def buffers(self) -> list[str]:
        return [self._names[name] for name in STATISTICS] if self._request.get("buffers") else []

    def state(self) -> dict[str, Array]:
        return {
            self._names[name]: value.T if name in self._transposed else value
            for name, value in self._weights.items()
        }

    def assign(self, tensors: Mapping[str, Array]) -> None:
        for name in self._weights:
            if self._names[name] in tensors:
                value = np.array(tensors[self._names[name]])
                self._weights[name] = value.T if name in self._transposed else value

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return [each.astype(np.float32) for each in self.run_fp64(feeds)]

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self.vjp(feeds, lambda outputs: [np.zeros_like(outputs[0])], False)[0]

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        rng = np.random.default_rng(seed)
        return [each * (1 + unit * rng.uniform(-1, 1, each.shape)) for each in self.run_fp64(feeds)]

    def vjp(
        self,
        feeds: Mapping[str, Array],
        cotangents: Callable[[list[Array]], list[Array | None]],
        training: bool,
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        if training and self._request.get("inference"):
            raise NotImplementedError("it holds an inference graph only")
        w = self._weights
        x = feeds[self._input].astype(np.float64)
        first = 2 if self._request.get("reordered") else 4
        hidden = x[:, :first] @ w["first.kernel"][:first] + w["first.bias"]
        hidden = hidden + x[:, first:] @ w["first.kernel"][first:]
        mean, variance = (hidden.mean(0), hidden.var(0)) if training else (w["norm.mean"], w["norm.variance"])
        scale = 1 / np.sqrt(variance + self._request.get("epsilon", 1e-3))
        normal = (hidden - mean) * scale
        active = np.maximum(normal * w["norm.gamma"] + w["norm.beta"], 0)
        y = active @ w["second.kernel"] + w["second.bias"]
        dy = cotangents([y])[0]
        assert dy is not None
        da = (dy @ w["second.kernel"].T) * (active > 0)
        dn = da * w["norm.gamma"]
        dh = dn * scale
        if training:
            dh = scale * (dn - dn.mean(0) - normal * (dn * normal).mean(0))
            self._update(hidden)
        gradients = {
            "first.kernel": x.T @ dh,
            "first.bias": dh.sum(0),
            "norm.gamma": (da * normal).sum(0),
            "norm.beta": da.sum(0),
            "second.kernel": active.T @ dy,
            "second.bias": dy.sum(0),
        }
        if self._request.get("parameters_only"):
            gradients["norm.mean"] = -(dn * scale).sum(0)
            gradients["norm.variance"] = -(dn * (hidden - mean)).sum(0) * scale**3 / 2
        absent = {*self._request.get("frozen", ()), *self._request.get("detached", ())}
        by_weight = {
            self._names[name]: value.T if name in self._transposed else value
            for name, value in gradients.items()
            if name not in absent
        }
        dx = dh @ w["first.kernel"].T
        dx *= self._request.get("wrong_gradient", 1)
        return [y], {self._input: np.zeros_like(dx) if self._request.get("detached_input") else dx}, by_weight

    def intermediates(self, feeds: Mapping[str, Array]) -> list[tuple[dict[str, Any], Array]]:
        return [({"operator": self._request["operator"]}, feeds[self._input])]

    def _update(self, hidden: Array) -> None:
        if self._request.get("stale"):
            return
        keep = self._request.get("momentum", 0.9)
        variance = hidden.var(0, ddof=1 if self._request.get("unbiased") else 0)
        for name, value in (("norm.mean", hidden.mean(0)), ("norm.variance", variance)):
            self._weights[name] = keep * self._weights[name] + (1 - keep) * value


def load(request: Mapping[str, Any]) -> Network:
    return Network(request)
