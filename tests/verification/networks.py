"""Pairs of the networks of tests/worker/network.py, and the weight map between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.pairing import Correspondence, PairedInput, PairedOutput
from bridge.worker.side import Side

CORRESPONDENCE = Correspondence({"x": PairedInput("inputs")}, (PairedOutput(0, 0),))
"""Between a network and the renamed one."""
SAME = Correspondence({"x": PairedInput("x")}, (PairedOutput(0, 0),))
LOADER = "tests.worker.network:load"
RENAMED = {
    "names": {
        "first.kernel": "a/kernel", "first.bias": "a/bias", "norm.gamma": "n/gamma", "norm.beta": "n/beta",
        "norm.mean": "n/mean", "norm.variance": "n/variance",
        "second.kernel": "b/kernel", "second.bias": "b/bias",
    },
    "transposed": ["first.kernel", "second.kernel"],
    "input": "inputs",
}  # fmt: skip


def network_map() -> WeightMap:
    """From the network's own tensors to those of the renamed and transposed one."""
    names: Mapping[str, str] = RENAMED["names"]  # type: ignore[assignment]
    tensors = []
    for name, target in names.items():
        recipe: Recipe = Source(name)
        if name in RENAMED["transposed"]:
            recipe = step("transpose", recipe, perm=[1, 0])
        trainable = target not in ("n/mean", "n/variance")
        tensors.append(TensorMap(target, (), "float32", "parameter", trainable, recipe))
    return WeightMap("a", "b", tuple(tensors), {})


@contextmanager
def sides(source: dict[str, Any], target: dict[str, Any]) -> Iterator[tuple[Side, Side]]:
    """Workers with the network as the requests ask for it, the target's renamed and transposed."""
    with ExitStack() as stack:
        both = [
            stack.enter_context(Side(label=label, threads=1, timeout=60)) for label in ("source", "target")
        ]
        for side, request in zip(both, (source, {**RENAMED, **target}), strict=True):
            side.submit_load(LOADER, request)
        yield both[0], both[1]
