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
