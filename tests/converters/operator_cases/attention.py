"""Cases of attention."""

import ml_dtypes
import numpy as np

from operator_cases.case import case, draw, ints


def _attention(q=(2, 3, 4, 8), k=(2, 3, 6, 8), v=None, *more, dtype=np.float32, opset=23, **attributes):
    """Self or cross attention; the mask and the other optional inputs come after the three shapes."""
    attributes.setdefault("oracle", "reference")
    return case(
        "Attention",
        draw(*q, dtype=dtype),
        draw(*k, dtype=dtype, seed=1),
        draw(*(v or k), dtype=dtype, seed=2),
        *more,
        opset=opset,
        **attributes,
    )


_HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
_BLIND = np.array([[True] * 6, [False] * 6, [True, False] * 3, [False] * 5 + [True]])
_LARGE = np.where(_BLIND, np.float32(0.5), np.float32(-np.inf))
_PAST = (draw(2, 3, 5, 8, seed=3), draw(2, 3, 5, 8, seed=4))

CASES = [
    _attention(oracle="onnxruntime"),
    _attention(k=(2, 3, 4, 8), oracle="onnxruntime", is_causal=1),
    _attention(is_causal=1, scale=0.3),
    _attention(v=(2, 3, 6, 5), scale=2.0),
    _attention(k=(2, 1, 6, 8), oracle="onnxruntime", label="one-key-head"),
    _attention(q=(2, 6, 4, 8), is_causal=1, label="two-queries-to-a-key-head"),
    _attention(q=(2, 4, 32), k=(2, 6, 16), oracle="onnxruntime", **_HEADS),
    _attention(q=(2, 4, 32), k=(2, 6, 16), v=(2, 6, 10), is_causal=1, scale=0.2, **_HEADS),
    _attention(q=(2, 4, 32), k=(2, 6, 32), q_num_heads=4, kv_num_heads=4),
    _attention(q=(1, 3, 1, 8), k=(1, 3, 1, 8)),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 6, seed=5), oracle="onnxruntime"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(6, seed=5), label="mask-of-one-axis"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(3, 4, 6, seed=5)),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(2, 1, 1, 6, seed=5), oracle="onnxruntime"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(2, 3, 4, 6, dtype=np.bool_, seed=6)),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(1, 1, 4, 6, dtype=np.int64, seed=6)),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, _BLIND, label="a-query-that-sees-nothing"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, _LARGE, label="a-row-of-minus-infinity"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, _BLIND, is_causal=1, label="blind-and-causal"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 6, seed=5), is_causal=1),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 6, seed=5), computed=True),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 3, seed=5), opset=24, label="short-mask"),
    _attention(
        (2, 3, 4, 8),
        (2, 3, 6, 8),
        None,
        draw(2, 1, 4, 1, dtype=np.bool_, seed=5),
        opset=24,
        label="mask-of-one",
    ),
    _attention((2, 4, 32), (2, 6, 16), None, draw(2, 4, 4, 6, seed=5), **_HEADS),
    _attention((2, 4, 32), (2, 6, 16), None, draw(4, 5, dtype=np.bool_, seed=5), opset=24, **_HEADS),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, None, *_PAST, outputs=3, oracle="onnxruntime"),
    _attention((2, 3, 4, 8), (2, 3, 4, 8), None, None, *_PAST, outputs=3, is_causal=1),
    _attention((2, 3, 4, 8), (2, 3, 4, 8), None, None, *_PAST, is_causal=1),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 11, seed=5), *_PAST, outputs=3, scale=0.1),
    _attention(
        (2, 4, 24), (2, 4, 24), None, None, *_PAST, outputs=3, is_causal=1, q_num_heads=3, kv_num_heads=3
    ),
    _attention(outputs=3, label="present-without-past"),
    # The reference gives the capped scores for mode 0 too; the standard's text says the product itself.
    *(_attention(outputs=4, qk_matmul_output_mode=mode, label=f"scores-{mode}") for mode in (0, 1)),
    *(
        _attention(outputs=4, softcap=2.0, qk_matmul_output_mode=mode, label=f"capped-scores-{mode}")
        for mode in (1, 2, 3)
    ),
    *(
        _attention(
            (2, 6, 4, 8),
            (2, 3, 4, 8),
            None,
            np.where(_BLIND[:, :4], np.float32(0.5), np.float32(-np.inf)),
            outputs=4,
            qk_matmul_output_mode=mode,
            label=f"scores-{mode}-blind",
        )
        for mode in range(4)
    ),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 6, seed=5), *_PAST[:0], softcap=1.5, is_causal=1),
    *(_attention(softmax_precision=precision) for precision in (1, 11)),
    _attention(softmax_precision=10, tolerance=1e-3),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, _BLIND, softmax_precision=11, label="blind-in-float64"),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, None, None, None, ints(6, 2), opset=24),
    _attention((2, 3, 4, 8), (2, 3, 6, 8), None, None, None, None, ints(5, 2), opset=24, is_causal=1),
    _attention(
        (2, 3, 4, 8), (2, 3, 6, 8), None, draw(4, 5, seed=5), None, None, ints(5, 0), opset=24, computed=True
    ),
    _attention(
        (2, 3, 4, 8),
        (2, 3, 6, 8),
        None,
        None,
        None,
        None,
        ints(6, 4),
        opset=24,
        softcap=1.0,
        label="capped-lengths",
    ),
    *(
        _attention(opset=25, left_window_size=left, right_window_size=right)
        for left, right in ((1, 0), (-1, 1), (2, -1), (0, 0))
    ),
    _attention(opset=25, left_window_size=1, right_window_size=3, is_causal=1),
    _attention((2, 3, 4, 8), (2, 3, 4, 8), None, None, *_PAST, opset=25, outputs=3, left_window_size=3),
    _attention(
        (2, 3, 4, 8),
        (2, 3, 6, 8),
        None,
        _BLIND,
        None,
        None,
        ints(6, 3),
        opset=25,
        left_window_size=2,
        label="all",
    ),
    _attention(dtype=np.float64),
    _attention(dtype=np.float64, softcap=3.0),
    _attention(dtype=np.float16),
    _attention(dtype=np.float16, softmax_precision=1, softcap=4.0),
    _attention(dtype=ml_dtypes.bfloat16),
    _attention(dtype=ml_dtypes.bfloat16, is_causal=1, softcap=4.0),
]


def _rotary(*shape, half, positions=None, dtype=np.float32, computed=False, opset=23, **attributes):
    length = shape[2] if len(shape) == 4 else shape[1]
    table = (shape[0], length, half) if positions is None else (11, half)
    return case(
        "RotaryEmbedding",
        draw(*shape, dtype=dtype),
        draw(*table, dtype=dtype, seed=1, low=-1, high=1),
        draw(*table, dtype=dtype, seed=2, low=-1, high=1),
        positions,
        opset=opset,
        oracle="reference",
        **attributes,
    )


_POSITIONS = np.array([[0, 1, 2, 3, 4], [3, 10, 0, 7, 7]], np.int64)

CASES += [
    _rotary(2, 3, 5, 8, half=4, positions=_POSITIONS),
    _rotary(2, 3, 5, 8, half=4),
    _rotary(2, 3, 5, 8, half=4, interleaved=1),
    _rotary(2, 3, 5, 8, half=2, positions=_POSITIONS, rotary_embedding_dim=4),
    _rotary(2, 3, 5, 8, half=2, positions=_POSITIONS, rotary_embedding_dim=4, interleaved=1),
    _rotary(2, 5, 24, half=4, positions=_POSITIONS, num_heads=3),
    _rotary(2, 5, 24, half=3, num_heads=3, rotary_embedding_dim=6, interleaved=1),
    _rotary(1, 1, 1, 2, half=1),
    _rotary(2, 3, 5, 8, half=4, positions=_POSITIONS, dtype=np.float16),
    _rotary(2, 3, 5, 8, half=4, positions=_POSITIONS, dtype=ml_dtypes.bfloat16),
    case("TensorScatter", draw(2, 3, 6, 4), draw(2, 3, 2, 4, seed=1), opset=24),
    case("TensorScatter", draw(2, 3, 6, 4), draw(2, 3, 2, 4, seed=1), ints(4, 1), opset=24),
    case("TensorScatter", draw(2, 3, 6, 4), draw(2, 3, 3, 4, seed=1), ints(5, 9), opset=24, mode="circular"),
    case("TensorScatter", draw(2, 6, 4), draw(2, 2, 4, seed=1), ints(4, 0), opset=24, axis=1),
    case("TensorScatter", draw(2, 5), draw(2, 5, seed=1), opset=24, axis=-1),
    *(
        case(
            "TensorScatter",
            draw(2, 6, 3, dtype=dtype),
            draw(2, 2, 3, dtype=dtype, seed=1),
            ints(4, 1),
            opset=24,
        )
        for dtype in (np.bool_, np.int8, np.uint16, np.uint64, np.float16, np.float64, ml_dtypes.bfloat16)
    ),
]


def _convolution(*shape, taps, bias=False, past=False, dtype=np.float32, activation="none"):
    channels = shape[1]
    return case(
        "CausalConvWithState",
        draw(*shape, dtype=dtype),
        draw(channels, 1, taps, dtype=dtype, seed=1),
        draw(channels, dtype=dtype, seed=2) if bias else None,
        draw(shape[0], channels, taps - 1, dtype=dtype, seed=3) if past else None,
        outputs=2,
        opset=27,
        activation=activation,
        label=f"{shape}-{taps}-{bias}-{past}-{np.dtype(dtype)}-{activation}".replace(" ", ""),
    )


CASES += [
    _convolution(2, 3, 7, taps=4),
    _convolution(2, 3, 7, taps=4, bias=True, past=True, activation="silu"),
    _convolution(2, 3, 2, taps=4, bias=True, activation="swish"),
    _convolution(2, 3, 1, taps=3, past=True),
    _convolution(1, 1, 4, taps=1, bias=True),
    _convolution(2, 3, 7, taps=3, past=True, dtype=np.float16),
    _convolution(2, 3, 7, taps=3, past=True, dtype=ml_dtypes.bfloat16),
]


def _linear_attention(
    rule, *, heads=(2, 2), length=5, size=3, width=4, past=False, each_key=False, one_beta=False, **attributes
):
    q_heads, kv_heads = heads
    dtype = attributes.pop("dtype", np.float32)
    label = f"{rule}-{heads}-{length}-{past}-{each_key}-{one_beta}-{np.dtype(dtype)}-{attributes}"
    keys = draw(2, length, kv_heads, size, seed=1)
    keys = (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).reshape(2, length, -1).astype(dtype)
    gates = (2, length, kv_heads * (size if each_key else 1))
    return case(
        "LinearAttention",
        draw(2, length, q_heads * size, dtype=dtype),
        keys,
        draw(2, length, kv_heads * width, dtype=dtype, seed=2),
        draw(2, kv_heads, size, width, dtype=attributes.pop("state", dtype), seed=3) if past else None,
        draw(*gates, dtype=dtype, seed=4, low=-1, high=0) if "gated" in rule else None,
        draw(2, length, 1 if one_beta else kv_heads, dtype=dtype, seed=5, low=0, high=1)
        if "delta" in rule
        else None,
        outputs=2,
        opset=27,
        update_rule=rule,
        q_num_heads=q_heads,
        kv_num_heads=kv_heads,
        label=label.replace(" ", ""),
        **attributes,
    )


CASES += [
    _linear_attention("linear"),
    _linear_attention("linear", past=True, heads=(4, 2), scale=0.5),
    _linear_attention("gated"),
    _linear_attention("gated", past=True, heads=(6, 2), each_key=True),
    _linear_attention("delta"),
    _linear_attention("delta", past=True, heads=(4, 1)),
    _linear_attention("gated_delta", past=True),
    _linear_attention("gated_delta", each_key=True, heads=(4, 2)),
    _linear_attention("gated_delta", one_beta=True, length=1, past=True),
    _linear_attention("gated_delta", length=40, past=True, tolerance=1e-5),
    _linear_attention("gated_delta", past=True, dtype=np.float16, state=np.float32, tolerance=2e-3),
    _linear_attention("gated_delta", past=True, dtype=ml_dtypes.bfloat16, tolerance=2e-2),
]


def _flex(q=(2, 4, 3, 8), k=(2, 4, 5, 8), v=None, dtype=np.float32, **attributes):
    return case(
        "FlexAttention",
        draw(*q, dtype=dtype),
        draw(*k, dtype=dtype, seed=1),
        draw(*(v or k), dtype=dtype, seed=2),
        domain="ai.onnx.preview",
        opset=1,
        oracle="reference",
        **attributes,
    )


CASES += [
    _flex(),
    _flex(scale=0.2),
    _flex(k=(2, 2, 5, 8), v=(2, 2, 5, 6)),
    # The reference takes the root of the scale in float32.
    _flex(dtype=np.float64, tolerance=1e-7),
    _flex(dtype=np.float16),
    _flex(dtype=np.float16, softmax_precision=10, tolerance=4e-3),
    _flex(softmax_precision=11, k=(2, 1, 5, 8)),
]
