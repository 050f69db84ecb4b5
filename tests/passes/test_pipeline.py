"""The whole pipeline on small networks as the readers deliver them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest
from pass_graphs import (
    assert_equivalent,
    assert_recipes_follow,
    floats,
    hub,
    ints,
    number,
    operators,
    recipes_of,
)

from bridge.errors import BridgeError
from bridge.hub import metadata
from bridge.hub.metadata import ScopeEntry
from bridge.hub.recipe import only_moves
from bridge.passes.pipeline import PASSES, PassTime, canonicalise, preparation, prepare


def keras_network() -> ir.Model:
    """A SavedModel's convolution, batch normalisation and dense layer, channels last, variables lifted."""
    return hub(
        "(float[unk__1,8,8,2] image) => (float[unk__2,3] probabilities) {"
        " t1 = Transpose <perm=[0,3,1,2]> (image) k = Transpose <perm=[3,2,0,1]> (kernel)"
        " rb = Reshape(bias, wide) c = Conv <strides=[2,2], pads=[0,0,1,1], kernel_shape=[3,3]> (t1, k)"
        " cb = Add(c, rb) t2 = Transpose <perm=[0,2,3,1]> (cb)"
        " v = Add(moving_variance, eps) s = Sqrt(v) i = Reciprocal(s) g = Mul(i, gamma)"
        " m = Mul(moving_mean, g) sh = Sub(beta, m) p = Mul(t2, g) bn = Add(p, sh) r = Relu(bn)"
        " mean = ReduceMean <keepdims=0> (r, axes) d = Dropout(mean, ratio) mm = MatMul(d, dense_kernel)"
        " logits = Add(mm, dense_bias) probabilities = Softmax(logits) }",
        trained={
            "kernel": floats(3, 3, 2, 4),
            "bias": floats(4, seed=1),
            "gamma": floats(4, seed=2, low=0.5, high=1.5),
            "beta": floats(4, seed=3),
            "moving_mean": floats(4, seed=4),
            "moving_variance": floats(4, seed=5, low=0.5, high=2.0),
            "dense_kernel": floats(4, 3, seed=6),
            "dense_bias": floats(3, seed=7),
            "counter": floats(1),
        },
        constants={
            "wide": ints(1, 4, 1, 1),
            "eps": number(0.001),
            "axes": ints(1, 2),
            "ratio": number(0.25),
        },
        buffers={"moving_mean", "moving_variance", "counter"},
        opset=18,
        framework="tf",
    )


def test_keras_network_becomes_canonical() -> None:
    source = keras_network()
    timings: list[PassTime] = []
    canonical = canonicalise(source, timings=timings)
    assert [op for op in operators(canonical) if op != "Transpose"] == [
        "Conv",
        "BatchNormalization",
        "Relu",
        "ReduceMean",
        "Dropout",
        "Gemm",
        "Softmax",
    ]
    assert_equivalent(source, canonical)
    assert_recipes_follow(source, canonical)
    assert sorted(recipes_of(canonical)) == sorted(
        ["beta", "bias", "dense_bias", "dense_kernel", "gamma", "kernel", "moving_mean", "moving_variance"]
    )
    assert all(only_moves(recipe) for recipe in recipes_of(canonical).values())
    assert metadata.source_info(canonical).unused_weights == ("counter",)
    assert [each.name for each in timings] == [each.name for each in PASSES]
    assert all(node.name and output.name for node in canonical.graph for output in node.outputs)


def test_the_readers_model_is_not_changed() -> None:
    source = keras_network()
    text = ir.to_proto(source).SerializeToString(deterministic=True)
    canonical = canonicalise(source)
    prepare(canonical, target="torch", io_layout="source")
    assert ir.to_proto(source).SerializeToString(deterministic=True) == text


def test_canonical_form_is_a_fixed_point() -> None:
    canonical = canonicalise(keras_network())
    again = canonicalise(canonical)
    assert operators(again) == operators(canonical)
    assert recipes_of(again) == recipes_of(canonical)
    assert [node.name for node in again.graph] == [node.name for node in canonical.graph]


@pytest.mark.parametrize("io_layout", ["source", "native"])
def test_prepared_for_torch(io_layout: str) -> None:
    source = keras_network()
    prepared = prepare(canonicalise(source), target="torch", io_layout=io_layout)  # type: ignore[arg-type]
    assert operators(prepared).count("Transpose") == (1 if io_layout == "source" else 0)
    assert operators(prepared).count("Pad") == 1
    if io_layout == "source":
        assert_equivalent(source, prepared)


def test_prepared_for_tensorflow_is_channels_last_without_transposes() -> None:
    prepared = prepare(canonicalise(keras_network()), target="tf", io_layout="source")
    assert "Transpose" not in operators(prepared)
    layouts = {node.op_type: metadata.layout_of(node) for node in prepared.graph}
    assert layouts["Conv"] == "channels_last"


def test_passes_can_be_listed() -> None:
    names = [each.name for each in (*PASSES, *preparation("torch", "source"), *preparation("tf", "source"))]
    assert all(name.islower() or "GELU" in name for name in names)
    assert len({each.name for each in PASSES}) == len(PASSES)


def test_invalid_graph_is_reported() -> None:
    model = hub("(float[N,3] x) => (float[N,4] y) { a = Neg(x) y = Relu(a) }")
    with pytest.raises(BridgeError, match="contradict"):
        canonicalise(model)


def test_scopes_and_locations_survive() -> None:
    source = keras_network()
    for node in source.graph:
        place = "bn" if node.outputs[0].name in {"v", "s", "i", "g", "m", "sh", "p", "bn"} else "rest"
        metadata.set_scope(node, [ScopeEntry("net", "Net"), ScopeEntry(place, "Layer")])
        metadata.set_location(node, f"net.py:{node.outputs[0].name}")
    canonical = canonicalise(source)
    (norm,) = [node for node in canonical.graph if node.op_type == "BatchNormalization"]
    assert metadata.scope_path(metadata.scope_of(norm) or ()) == "net.bn"
    assert all(metadata.scope_of(node) is not None for node in canonical.graph)
    (softmax,) = [node for node in canonical.graph if node.op_type == "Softmax"]
    assert metadata.location_of(softmax) == "net.py:probabilities"
    assert metadata.source_value(softmax.outputs[0]) == "source of probabilities"


_DIGEST = """
import hashlib, sys
sys.path.insert(0, {folder!r})
import onnx_ir as ir
from test_pipeline import keras_network
from bridge.passes.pipeline import canonicalise, prepare
model = canonicalise(keras_network())
digest = hashlib.sha256()
for each in (model, prepare(model, target="torch"), prepare(model, target="tf")):
    digest.update(ir.to_proto(each).SerializeToString(deterministic=True))
print(digest.hexdigest())
"""


def test_the_hash_seed_does_not_matter() -> None:
    script = _DIGEST.format(folder=str(Path(__file__).parent))
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
