"""Keeping PyTorch's recurrent layers whole while a module is exported.

`torch.export` finds the shapes of a recurrent layer's results by running it step by step, which fixes the
number of steps, although the exported graph holds the layer as one operator (`aten.lstm.input`) that takes
any. Tried with PyTorch 2.13: the tables touched are private to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

_LOCK = threading.RLock()


def _results(x: Tensor, first: list[Tensor] | Tensor, *parameters: Any) -> tuple[Tensor, ...]:
    """Empty results of a recurrent operator: all states, then the last ones of each kind."""
    states = first if isinstance(first, list | tuple) else [first]
    bidirectional = parameters[-2]
    size = states[0].shape[-1] * (2 if bidirectional else 1)
    return x.new_empty((*x.shape[:-1], size)), *(torch.empty_like(each) for each in states)


@contextmanager
def whole_recurrences() -> Iterator[None]:
    """Let LSTM, GRU and RNN tell the shapes of their results without running, in what is exported inside.

    The number of steps then stays dynamic where the caller says so.
    """
    operators = torch.ops.aten
    with _LOCK, ExitStack() as stack:
        for operator in (
            operators.lstm.input,
            operators.gru.input,
            operators.rnn_tanh.input,
            operators.rnn_relu.input,
        ):
            stack.enter_context(_replaced_kernels(operator, _results))
        yield


@contextmanager
def _replaced_kernels(operator: Any, kernel: Callable[..., Any]) -> Iterator[None]:
    """Replace what tracing calls, and the decomposition that fake tensors of dynamic sizes prefer to it."""
    kept, decomposition = dict(operator.py_kernels), decomposition_table.get(operator)
    operator.py_kernels.update(dict.fromkeys(kept, kernel))
    operator._dispatch_cache.clear()
    if decomposition is not None:
        decomposition_table[operator] = kernel
    try:
        yield
    finally:
        operator.py_kernels.clear()
        operator.py_kernels.update(kept)
        operator._dispatch_cache.clear()
        if decomposition is not None:
            decomposition_table[operator] = decomposition
