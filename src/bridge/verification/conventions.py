"""Operators that hand NaN and infinities on, each framework in its own way.

Measured on equal inputs in PyTorch 2.13, TensorFlow 2.21 and onnxruntime 1.32 on the CPU: convolutions,
matrix products, normalisations, sums, means and nearly all activations agree on where the result is not
finite. What does not agree:

- max pooling: PyTorch keeps NaN; TensorFlow ignores it (all of a window being NaN gives the lowest number),
  onnxruntime in part;
- maximum and minimum over axes: onnxruntime ignores NaN;
- softmax: of a row with NaN or +inf TensorFlow makes one element NaN, the others all of them;
- top-k and sorting: TensorFlow does not place NaN;
- sign: PyTorch answers 0 for NaN;
- gelu: PyTorch's vectorised kernel answers NaN for +inf;
- resizing: weights of 0 make NaN of an infinity, or are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bridge.formats.detect import Framework

Array = np.ndarray[Any, np.dtype[Any]]

_RESIZE = r"resize|upsampl|interpolat"
_OWN_WAY: Mapping[Framework, re.Pattern[str]] = {
    "tf": re.compile(rf"max_?pool|softmax|top_?k|sort|{_RESIZE}"),
    "torch": re.compile(rf"(^|[._])sign([._]|$)|gelu|{_RESIZE}"),
    "onnx": re.compile(rf"max_?pool|reduce_?(max|min)|top_?k|{_RESIZE}"),
}


def is_convention(operator: str) -> bool:
    """Whether some framework hands NaN or infinities on in its own way at an operator of this name."""
    return any(pattern.search(operator.lower()) for pattern in _OWN_WAY.values())


def excuse(
    framework: Framework, trace: Iterable[tuple[Mapping[str, Any], Array]], feeds: Mapping[str, Array]
) -> str | None:
    """Why a side's outputs for a `special` draw tell nothing: the operator that handles NaN in its own way.

    `trace` is what `intermediates` answers for the draw, `feeds` the side's inputs by name. None where no NaN
    or infinity reaches such an operator: both sides then have them in the same places. That is asked of
    the side whose framework is the odd one, so that a NaN which a target loses before its max pooling
    is still a difference. A value that does not say what it is made from may be made from any before it.
    """
    reached = {name for name, array in feeds.items() if _is_special(array)}
    for record, value in trace:
        known = record.get("inputs")
        arrives = not reached.isdisjoint(known) if known else bool(reached)
        if arrives and _OWN_WAY[framework].search(str(record["operator"]).lower()):
            return (
                f"{record['operator']} ({record['name']}) gets NaN or infinities, which every framework "
                "hands on in its own way"
            )
        if _is_special(value):
            reached.add(record["name"])
    return None


def _is_special(array: Array) -> bool:
    return array.dtype.kind in "fc" and not bool(np.isfinite(array).all())
