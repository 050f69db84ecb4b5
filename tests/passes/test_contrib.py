"""onnxruntime's operators in the standard's terms: onnxruntime gives the same for both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bridge.errors import UnsupportedOps
from bridge.passes.contrib.names import take_in_runtime_names
from bridge.passes.contrib.run import expand_contrib
from bridge.passes.opset import to_hub_opset

Array = np.ndarray[Any, np.dtype[Any]]


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


@dataclass(frozen=True)
class Contrib:
    """One node; `expected` where onnxruntime has no kernel for it; inputs of `constants` are initializers."""

    op: str
    inputs: tuple[Array | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    expected: tuple[Array, ...] | None = None
    constants: frozenset[int] = frozenset()

    def model(self) -> onnx.ModelProto:
        names = [f"input_{i}" if value is not None else "" for i, value in enumerate(self.inputs)]
        given = {f"input_{i}": value for i, value in enumerate(self.inputs) if value is not None}
        constants = {f"input_{i}" for i in self.constants}
        graph = helper.make_graph(
            [helper.make_node(self.op, names, list(self.outputs), domain="com.microsoft", **self.attributes)],
            "case",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in given.items()
                if name not in constants
            ],
            [onnx.ValueInfoProto(name=name) for name in self.outputs if name],
            [onnx.numpy_helper.from_array(value, name) for name, value in given.items() if name in constants],
        )
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    def feed(self) -> dict[str, Array]:
        return {
            f"input_{i}": value
            for i, value in enumerate(self.inputs)
            if value is not None and i not in self.constants
        }


def contrib(op: str, *inputs: Array | None, **options: Any) -> Contrib:
    known = {name: options.pop(name) for name in ("outputs", "expected", "constants") if name in options}
    return Contrib(op, inputs, options, **known)


def run(model: onnx.ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(each) for each in session.run(None, dict(feed))]


def expanded(model: onnx.ModelProto) -> ir.Model:
    hub = to_hub_opset(take_in_runtime_names(ir.from_proto(model)))
    return expand_contrib(hub)


def erf_gelu(x: Array) -> Array:
    return (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(x.dtype)


def tanh_gelu(x: Array) -> Array:
    return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))).astype(x.dtype)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def group_norm(x: Array, groups: int, epsilon: float) -> Array:
    """Of channels in the last axis, without scale and bias."""
    split = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, var = split.mean((1, 3), keepdims=True), split.var((1, 3), keepdims=True)
    return ((split - mean) / np.sqrt(var + epsilon)).reshape(x.shape)


X, BIAS = draw(2, 3, 8), draw(8, seed=1)
IMAGE = draw(2, 4, 5, 6)
_MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
_QKV = (draw(2, 4, 24), draw(2, 5, 24, seed=1), draw(2, 5, 24, seed=2))
_SELF = (draw(2, 5, 24), draw(2, 5, 24, seed=1), draw(2, 5, 24, seed=2))
_PAST = (draw(2, 3, 6, 8, seed=5), draw(2, 3, 6, 8, seed=6))
_PROJECTION = (draw(2, 5, 12), draw(12, 72, seed=1), draw(72, seed=2))
_TABLE = (draw(16, 4, seed=8), draw(16, 4, seed=9))
_WIDE_TABLE = (draw(16, 8, seed=8), draw(16, 8, seed=9))
_COMPLEX = (draw(3, 2), draw(3, 2, seed=1))


def _complex(values: Array) -> Array:
    return np.stack((values.real, values.imag), -1).astype(np.float32)


def _pairs(values: Array) -> Array:
    return values[..., 0] + 1j * values[..., 1]


def _group_query(*, new: int, lengths: tuple[int, ...], capacity: int = 0, **options: Any) -> Contrib:
    """Four heads of queries and two of keys, of 16 elements; `lengths` include the new tokens.

    The cache is zero where it is not valid: what a result holds there is not specified.
    """
    packed = options.pop("packed", False)
    caches: list[Array | None] = [None, None]
    if capacity:
        valid = np.arange(capacity) < np.array(lengths)[:, None] - new
        caches = [
            draw(2, 2, capacity, 16, seed=seed) * valid[:, None, :, None].astype(np.float32)
            for seed in (3, 4)
        ]
    q, k, v = draw(2, new, 64), draw(2, new, 32, seed=1), draw(2, new, 32, seed=2)
    rotary = _WIDE_TABLE if options.get("do_rotary") else (None, None)
    return contrib(
        "GroupQueryAttention",
        *((np.concatenate((q, k, v), -1), None, None) if packed else (q, k, v)),
        *caches,
        np.array(lengths, np.int32) - 1,
        np.array(max(lengths), np.int32),
        *rotary,
        num_heads=4,
        kv_num_heads=2,
        outputs=("y", "present_key", "present_value"),
        constants=frozenset({7, 8}) if options.get("do_rotary") else frozenset(),
        **options,
    )


def _position_bias(table: Array, queries: int, keys: int, longest: int, both: bool) -> Array:
    """The bias of T5, as its authors' code computes it."""
    distance = np.arange(queries)[:, None] - np.arange(keys)
    buckets = len(table) // (2 if both else 1)
    offset = np.where(distance < 0, buckets, 0) if both else 0
    distance = np.abs(distance) if both else np.maximum(distance, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, exact).astype(np.float32) / exact) / math.log(longest / exact)
    large = exact + (ratio * (buckets - exact)).astype(np.int64)
    bucket = offset + np.where(distance < exact, distance, np.minimum(large, buckets - 1))
    return table[bucket].transpose(2, 0, 1)[None]


CASES = [
    contrib("Gelu", X),
    contrib("Gelu", draw(3, dtype=np.float64), expected=(erf_gelu(draw(3, dtype=np.float64)),)),
    contrib("BiasGelu", X, BIAS),
    contrib("FastGelu", X),
    contrib("FastGelu", X, BIAS),
    contrib("QuickGelu", X),
    contrib("QuickGelu", X, alpha=1.0),
    contrib("BiasSplitGelu", X, BIAS, expected=((X + BIAS)[..., :4] * erf_gelu((X + BIAS)[..., 4:]),)),
    contrib("FusedMatMul", X, draw(2, 8, 4), alpha=0.5),
    contrib("FusedMatMul", draw(2, 8, 3), draw(2, 4, 8), transA=1, transB=1, alpha=2.0),
    contrib("FusedMatMul", draw(3, 2, 8), draw(2, 8, 4), transBatchA=1),
    contrib("FusedMatMul", draw(8, 2, 3), draw(4, 2, 8), transBatchA=1, transA=1, transBatchB=1, transB=1),
    contrib("FusedMatMul", X, draw(8), transB=1),
    contrib("TransposeMatMul", draw(8, 3), draw(8, 4), transA=1),
    contrib("FusedGemm", draw(3, 8), draw(8, 4), draw(4), activation="Relu", alpha=0.5, beta=2.0),
    contrib(
        "FusedGemm", draw(8, 3), draw(4, 8), transA=1, transB=1, activation="LeakyRelu", activation_alpha=0.3
    ),
    contrib(
        "FusedGemm",
        draw(3, 8),
        draw(8, 4),
        activation="HardSigmoid",
        activation_alpha=0.3,
        activation_beta=0.4,
    ),
    contrib("GemmFastGelu", X, draw(8, 4), draw(4), expected=(tanh_gelu(X @ draw(8, 4) + draw(4)),)),
    contrib("FusedConv", IMAGE, draw(3, 4, 3, 3), draw(3), pads=[1, 1, 1, 1], activation="Relu"),
    contrib("FusedConv", IMAGE, draw(4, 1, 3, 3), group=4, activation="Clip", activation_params=[-0.5, 0.7]),
    contrib(
        "FusedConv",
        IMAGE,
        draw(3, 4, 1, 1),
        draw(3),
        draw(2, 3, 5, 6),
        activation="LeakyRelu",
        activation_params=[0.2],
    ),
    contrib("SkipLayerNormalization", X, draw(2, 3, 8, seed=3), draw(8, seed=4), draw(8, seed=5)),
    contrib(
        "SkipLayerNormalization",
        *(X, draw(3, 8, seed=3), draw(8, seed=4), None, BIAS),
        epsilon=1e-5,
        outputs=("y", "", "", "total"),
    ),
    contrib("SkipSimplifiedLayerNormalization", X, draw(2, 3, 8, seed=3), draw(8, seed=4), epsilon=1e-6),
    contrib(
        "SkipSimplifiedLayerNormalization",
        *(X, draw(2, 3, 8, seed=3), draw(8, seed=4), BIAS),
        outputs=("y", "", "", "total"),
    ),
    contrib(
        "EmbedLayerNormalization",
        *(i32(1, 2, 3, 4, 5, 6).reshape(2, 3), i32(0, 1, 0, 1, 1, 0).reshape(2, 3)),
        *(draw(9, 8), draw(5, 8, seed=1), draw(2, 8, seed=2), draw(8, seed=3), draw(8, seed=4)),
        i32(1, 1, 0, 1, 1, 1).reshape(2, 3),
        outputs=("y", "mask_index", "total"),
    ),
    contrib(
        "EmbedLayerNormalization",
        *(i32(1, 2, 3, 4, 5, 6).reshape(2, 3), None, draw(9, 8), draw(5, 8, seed=1), None),
        *(draw(8, seed=3), draw(8, seed=4), None, i32(4, 3, 2, 0, 1, 2).reshape(2, 3)),
        outputs=("y", "mask_index"),
    ),
    contrib(
        "GroupNorm",
        *(IMAGE, draw(6), draw(6, seed=1)),
        groups=3,
        activation=1,
        expected=(silu(group_norm(IMAGE, 3, 1e-5) * draw(6) + draw(6, seed=1)),),
    ),
    contrib(
        "SkipGroupNorm",
        *(IMAGE, draw(6), draw(6, seed=1), draw(2, 6, seed=2), draw(6, seed=3)),
        groups=2,
        activation=0,
        epsilon=1e-3,
        outputs=("y", "total"),
        expected=(
            group_norm(
                IMAGE + draw(2, 1, 1, 6, seed=2) * 0 + draw(2, 6, seed=2)[:, None, None] + draw(6, seed=3),
                2,
                1e-3,
            )
            * draw(6)
            + draw(6, seed=1),
            IMAGE + draw(2, 6, seed=2)[:, None, None] + draw(6, seed=3),
        ),
    ),
    contrib("MultiHeadAttention", *_QKV, num_heads=3),
    contrib("MultiHeadAttention", *_QKV, draw(72, seed=3), _MASK, num_heads=3, scale=0.5),
    contrib("MultiHeadAttention", *_QKV, None, i32(5, 2), num_heads=3, mask_filter_value=-1e4),
    contrib("MultiHeadAttention", *_QKV, None, _MASK, draw(1, 3, 4, 5, seed=4), num_heads=3),
    contrib("MultiHeadAttention", *_SELF, num_heads=3, unidirectional=1),
    contrib("MultiHeadAttention", *_QKV[:2], draw(2, 5, 12, seed=2), num_heads=3),
    contrib(
        "MultiHeadAttention",
        *(*_QKV, None, None, None, *_PAST),
        num_heads=3,
        outputs=("y", "present_key", "present_value"),
    ),
    contrib("MultiHeadAttention", draw(2, 4, 24), *_PAST, num_heads=3),
    contrib("Attention", *_PROJECTION, num_heads=3),
    contrib("Attention", *_PROJECTION, _MASK, num_heads=3, constants=frozenset({1, 2})),
    contrib("Attention", *_PROJECTION, i32(5, 3), num_heads=3),
    contrib("Attention", *_PROJECTION, np.tril(np.ones((2, 5, 5), np.int32)), num_heads=3),
    contrib("Attention", *_PROJECTION, None, None, draw(2, 3, 5, 5, seed=3), num_heads=3, scale=0.2),
    contrib("Attention", *_PROJECTION[:2], draw(72, seed=2), num_heads=3, unidirectional=1),
    contrib(
        "Attention",
        *(*_PROJECTION, None, draw(2, 2, 3, 6, 8, seed=7)),
        num_heads=3,
        unidirectional=1,
        outputs=("y", "present"),
    ),
    contrib(
        "Attention", *_PROJECTION[:1], draw(12, 60), draw(60), num_heads=3, qkv_hidden_sizes=[24, 24, 12]
    ),
    contrib("RotaryEmbedding", draw(2, 5, 24), np.array([2]), *_TABLE, constants=frozenset({2, 3})),
    contrib(
        "RotaryEmbedding", draw(2, 3, 5, 8), np.arange(10).reshape(2, 5), *_TABLE, constants=frozenset({2, 3})
    ),
    contrib(
        "RotaryEmbedding", draw(2, 5, 24), np.array([0]), *_TABLE, interleaved=1, constants=frozenset({2, 3})
    ),
    contrib(
        "RotaryEmbedding",
        *(draw(2, 5, 48), np.array([1]), *_TABLE),
        num_heads=3,
        rotary_embedding_dim=8,
        constants=frozenset({2, 3}),
    ),
    _group_query(new=5, lengths=(5, 5)),
    _group_query(new=5, lengths=(5, 5), do_rotary=1),
    _group_query(new=5, lengths=(5, 5), do_rotary=1, rotary_interleaved=1, packed=True),
    _group_query(new=1, lengths=(5, 5), capacity=4, do_rotary=1, scale=0.2),
    _group_query(new=1, lengths=(5, 3), capacity=4, do_rotary=1, softcap=5.0),
    _group_query(new=1, lengths=(5, 3), capacity=8),
    _group_query(new=6, lengths=(6, 6), local_window_size=2),
    _group_query(new=1, lengths=(7, 5), capacity=6, local_window_size=3),
    contrib("Pad", draw(2, 3), np.array([0, 1, 2, 0]), np.array(0.5, np.float32), mode="constant"),
    contrib("Trilu", draw(4, 4), np.array(1), upper=0),
    contrib("GatherND", draw(2, 3), i32(1, 2).reshape(1, 2)),
    contrib("Range", np.array(1, np.float32), np.array(4, np.float32)),
    contrib("ExpandDims", draw(2, 3), np.array(-1, np.int32)),
    contrib("Unique", np.array([3, 1, 1, 2, 3], np.float32), outputs=("y", "places", "counts")),
    contrib("GridSample", draw(1, 2, 4, 5), draw(1, 3, 3, 2) / 2, padding_mode="border", align_corners=1),
    contrib("GridSample", draw(1, 2, 4, 5), draw(1, 3, 3, 2) / 2, mode="bicubic"),
    contrib("BiasAdd", X, BIAS, draw(2, 3, 8, seed=2), expected=(X + BIAS + draw(2, 3, 8, seed=2),)),
    contrib("BiasDropout", X, BIAS, draw(2, 3, 8, seed=2), expected=(X + BIAS + draw(2, 3, 8, seed=2),)),
    contrib("IsAllFinite", X, BIAS, expected=(np.array(True),)),
    contrib("IsAllFinite", X, np.array([np.inf], np.float32), expected=(np.array(False),)),
    contrib("IsAllFinite", X, np.array([np.inf], np.float32), isnan_only=1, expected=(np.array(True),)),
    contrib("CDist", draw(3, 4), draw(5, 4), metric="euclidean"),
    contrib("CDist", draw(3, 4), draw(5, 4)),
    contrib("ComplexMul", *_COMPLEX, expected=(_complex(_pairs(_COMPLEX[0]) * _pairs(_COMPLEX[1])),)),
    contrib(
        "ComplexMulConj", *_COMPLEX, expected=(_complex(_pairs(_COMPLEX[0]) * _pairs(_COMPLEX[1]).conj()),)
    ),
    contrib("Rfft", draw(2, 8), signal_ndim=1, expected=(_complex(np.fft.rfft(draw(2, 8))),)),
    *(
        contrib(
            "RelativePositionBias",
            *(draw(32, 3), np.array([queries]), np.array([keys])),
            max_distance=longest,
            is_bidirectional=int(both),
            expected=(_position_bias(draw(32, 3), queries, keys, longest, both),),
        )
        for queries, keys, longest, both in ((7, 9, 20, True), (50, 50, 30, False))
    ),
    contrib(
        "BiasSoftmax",
        *(draw(2, 3, 4), draw(3, 4)),
        axis=2,
        is_inner_broadcast=1,
        expected=(
            np.exp(draw(2, 3, 4) + draw(3, 4)) / np.exp(draw(2, 3, 4) + draw(3, 4)).sum(-1, keepdims=True),
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda each: f"{each.op}-{dict(each.attributes)}"[:60])
def test_onnxruntime_gives_the_same(case: Contrib) -> None:
    model = case.model()
    right = run(model, case.feed()) if case.expected is None else list(case.expected)
    hub = expanded(model)
    assert {node.domain for node in hub.graph} == {""}
    # The reference and not onnxruntime, whose Attention takes no mask that is the same for all queries.
    answers = [np.asarray(each) for each in ReferenceEvaluator(ir.to_proto(hub)).run(None, case.feed())]
    assert [each.shape for each in answers] == [each.shape for each in right]
    for mine, theirs in zip(answers, right, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            contrib("MultiHeadAttention", *_QKV, num_heads=3, outputs=("y", "", "", "scores")),
            "output 3 is read",
        ),
        (contrib("FusedGemm", draw(3, 8), draw(8, 4), activation="Relu6"), "activation Relu6"),
        (contrib("Rfft", draw(2, 8, 8), signal_ndim=2), "more than one axis"),
        (
            contrib("SkipSimplifiedLayerNormalization", X, X, BIAS, outputs=("y", "", "deviation")),
            "output 2 is read",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else each.op,
)
def test_what_the_standard_cannot_say_is_refused_with_the_reason(case: Contrib, reason: str) -> None:
    with pytest.raises(UnsupportedOps) as caught:
        expanded(case.model())
    assert reason in caught.value.ops[0].reason


def test_normalisation_in_the_standards_domain_is_taken_in() -> None:
    """onnxruntime's optimizers write both into graphs of any opset."""
    graph = helper.make_graph(
        [
            helper.make_node("LayerNormalization", ["x", "scale"], ["mid"], epsilon=1e-3),
            helper.make_node(
                "SimplifiedLayerNormalization", ["mid", "scale"], ["y"], epsilon=1e-4, stash_type=1
            ),
        ],
        "case",
        [helper.make_tensor_value_info("x", 1, [2, 3, 8]), helper.make_tensor_value_info("scale", 1, [8])],
        [helper.make_tensor_value_info("y", 1, [2, 3, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    feed = {"x": X, "scale": BIAS}
    hub = expanded(model)
    assert [node.op_type for node in hub.graph] == ["LayerNormalization", "RMSNormalization"]
    np.testing.assert_allclose(run(ir.to_proto(hub), feed)[0], run(model, feed)[0], rtol=1e-6, atol=1e-6)
