"""Operators that hand NaN and infinities on, each framework in its own way.

Measured on equal inputs in PyTorch 2.13, TensorFlow 2.21 and onnxruntime 1.32 on the CPU: convolutions,
matrix products, normalisations, sums, means and nearly all activations agree on where the result is not
finite. What does not agree:

- max pooling: PyTorch keeps NaN; TensorFlow ignores it (all of a window being NaN gives the lowest number),
  onnxruntime in part;
- maximum and minimum over axes: onnxruntime ignores NaN;
- softmax: of a row with NaN or +inf TensorFlow makes one element NaN, the others all of them;
- top-k and sorting: TensorFlow does not place NaN;
- argmax, argmin, top-k and sorting: of two equal infinities any may come first;
- sign: PyTorch answers 0 for NaN;
- gelu: PyTorch's vectorised kernel answers NaN for +inf;
- resizing: weights of 0 make NaN of an infinity, or are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from bridge.formats.detect import Framework

Array = np.ndarray[Any, np.dtype[Any]]

Kind = Literal["nan", "inf"]

_RESIZE = r"resize|upsampl|interpolat"
_CHOICE = r"arg_?(max|min)|top_?k|sort"
"""Operators that choose among equals, as two infinities are, each framework in its own order."""
_OWN_WAY: Mapping[Framework, Mapping[Kind, re.Pattern[str]]] = {
    "tf": {
        "nan": re.compile(r"max_?pool|softmax|top_?k|sort"),
        "inf": re.compile(rf"softmax|{_RESIZE}|{_CHOICE}"),
    },
    "torch": {
        "nan": re.compile(r"(^|[._])sign([._]|$)"),
        "inf": re.compile(rf"gelu|{_RESIZE}|{_CHOICE}"),
    },
    "onnx": {
        "nan": re.compile(r"max_?pool|reduce_?(max|min)|top_?k"),
        "inf": re.compile(rf"{_RESIZE}|{_CHOICE}"),
    },
}


def is_convention(operator: str) -> bool:
    """Whether some framework hands NaN or infinities on in its own way at an operator of this name."""
    return any(
        pattern.search(operator.lower()) for patterns in _OWN_WAY.values() for pattern in patterns.values()
    )


def excuse(
    framework: Framework, trace: Iterable[tuple[Mapping[str, Any], Array]], feeds: Mapping[str, Array]
) -> str | None:
    """Why a side's outputs for a `special` draw tell nothing: the operator that handles NaN in its own way.

    `trace` is what `intermediates` answers for the draw, `feeds` the side's inputs by name. None where no NaN
    or infinity reaches such an operator: both sides then have them in the same places. That is asked of
    the side whose framework is the odd one, so that a NaN which a target loses before its max pooling
    is still a difference. A value that does not say what it is made from may be made from any before it.
    """
    reached = {name: _kinds(array) for name, array in feeds.items()}
    for record, value in trace:
        arriving = {kind for name in record.get("inputs") or reached for kind in reached.get(name, ())}
        own_way = _OWN_WAY[framework]
        if any(own_way[kind].search(str(record["operator"]).lower()) for kind in arriving):
            return (
                f"{record['operator']} ({record['name']}) gets NaN or infinities, which every framework "
                "hands on in its own way"
            )
        reached[record["name"]] = _kinds(value)
    return None


def _kinds(array: Array) -> frozenset[Kind]:
    if array.dtype.kind not in "fc":
        return frozenset()
    found: dict[Kind, bool] = {"nan": bool(np.isnan(array).any()), "inf": bool(np.isinf(array).any())}
    return frozenset(kind for kind, there in found.items() if there)
