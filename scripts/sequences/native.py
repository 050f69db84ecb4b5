"""What a model's layers are in its own framework: recurrent layers by kind, and calls of attention."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import Any

LEFTOVERS = {
    "loop": r"\bwhile_loop\(|\bwhile\b.*:$|^\s*for \w+ in range|\bscan\(|\bmap_fn\(",
    "branch": r"\btf\.cond\(|\btorch\.cond\(|\bswitch_case\(",
    "softmax": r"softmax\(",
    "erf": r"\berf\(",
    "root": r"\brsqrt\(|\bsqrt\(",
}
"""What the emitted text says where a layer stayed in parts, by what it may be the rest of."""

WHOLE = "attention function"
"""Attention that is one call of a function of model.py."""

_ATTENTION = re.compile(r"attention(_weights)?$")


def leftovers(text: str) -> dict[str, list[str]]:
    """Lines of an emitted model.py that compute what a layer or a fused function might, by kind."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        for kind, pattern in LEFTOVERS.items():
            if re.search(pattern, line):
                found.setdefault(kind, []).append(line.strip())
    return found


def torch_layers(model: Any) -> dict[str, int]:
    """Recurrent layers of an nn.Module by kind; every direction of every layer counts."""
    from torch import nn

    found: Counter[str] = Counter()
    for module in model.modules():
        for kind, layer, cell in (
            ("lstm", nn.LSTM, nn.LSTMCell),
            ("gru", nn.GRU, nn.GRUCell),
            ("rnn", nn.RNN, nn.RNNCell),
        ):
            if isinstance(module, layer):
                found[kind] += module.num_layers * (1 + module.bidirectional)
            elif isinstance(module, cell):
                found[kind] += 1
    return dict(found)


def tf_layers(model: Any) -> dict[str, int]:
    """Recurrent layers of a keras.Model by kind: its cells, those of both directions counted."""
    from keras import layers

    kinds = {layers.LSTMCell: "lstm", layers.GRUCell: "gru", layers.SimpleRNNCell: "rnn"}
    cells = {id(each): each for each in model._flatten_layers()}.values()
    return dict(Counter(kinds[type(each)] for each in cells if type(each) in kinds))


@contextmanager
def count_torch_attention(model: Any) -> Iterator[Counter[str]]:
    """Counts calls of `F.scaled_dot_product_attention` and of `nn.MultiheadAttention`."""
    import torch.nn.functional as F
    from torch import nn

    with _counting(
        [
            (F, "scaled_dot_product_attention", "scaled_dot_product_attention"),
            (nn.MultiheadAttention, "forward", "MultiheadAttention"),
        ]
    ) as found:
        yield found


@contextmanager
def count_tf_attention(model: Any) -> Iterator[Counter[str]]:
    """Counts calls of `keras.ops.dot_product_attention`, of Keras' attention layers, and of functions.

    The functions are those of the model's own file that compute attention whole, or its weights, between
    which and the values a Dropout stands; TensorFlow has no kernel for it. They are counted as `WHOLE`.
    """
    import keras

    module = sys.modules[type(model).__module__]
    with _counting(
        [
            (keras.ops, "dot_product_attention", "dot_product_attention"),
            *(
                (getattr(keras.layers, name), "call", name)
                for name in ("MultiHeadAttention", "GroupQueryAttention", "Attention")
            ),
            *(
                (module, name, WHOLE)
                for name, each in vars(module).items()
                if isfunction(each) and each.__module__ == module.__name__ and _ATTENTION.search(name)
            ),
        ]
    ) as found:
        yield found


@contextmanager
def _counting(functions: list[tuple[Any, str, str]]) -> Iterator[Counter[str]]:
    """Counts outermost calls of functions, which are replaced meanwhile."""
    found: Counter[str] = Counter()
    depth = 0
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in functions]

    def counted(original: Any, label: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            found[label] += depth == 0
            depth += 1
            try:
                return original(*arguments, **options)
            finally:
                depth -= 1

        return call

    for (owner, name, original), (_, _, label) in zip(originals, functions, strict=True):
        setattr(owner, name, counted(original, label))
    try:
        yield found
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
