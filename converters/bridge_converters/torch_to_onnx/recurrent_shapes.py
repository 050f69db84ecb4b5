"""Tracing recurrent operators by the shapes of their results, so that a length may be dynamic.

While it traces, PyTorch runs `aten.lstm`, `aten.gru` and `aten.rnn_*` step by step, although the graph
gets one node: the number of steps becomes a constant of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_aten = torch.ops.aten
_KEYS = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)


@contextmanager
def recurrent_shapes() -> Iterator[None]:
    """Let recurrent operators give empty tensors of the right shapes; for tracing only.

    They are as before afterwards.
    """
    rules = _rules()
    before = {operator: dict(operator.py_kernels) for operator in rules}
    for operator, rule in rules.items():
        _set_kernels(operator, {**before[operator], **dict.fromkeys(_KEYS, rule)})
    try:
        yield
    finally:
        for operator, kernels in before.items():
            _set_kernels(operator, kernels)


def _rules() -> dict[Any, Callable[..., Any]]:
    return {
        _aten.lstm.input: _lstm,
        _aten.gru.input: _recurrent,
        _aten.rnn_tanh.input: _recurrent,
        _aten.rnn_relu.input: _recurrent,
    }


def _set_kernels(operator: Any, kernels: dict[Any, Any]) -> None:
    operator.py_kernels.clear()
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()


def _lstm(
    input: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor], *rest: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`aten.lstm.input`: the hidden state has the size of the projection where there is one."""
    hidden, cell = hx
    return _sequence(input, hidden, rest), hidden.new_empty(hidden.shape), cell.new_empty(cell.shape)


def _recurrent(
    input: torch.Tensor, hx: torch.Tensor, params: list[torch.Tensor], *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    return _sequence(input, hx, rest), hx.new_empty(hx.shape)


def _sequence(input: torch.Tensor, hidden: torch.Tensor, rest: tuple[Any, ...]) -> torch.Tensor:
    """All steps; the further arguments are has_biases, layers, dropout, train, bidirectional, batch_first."""
    directions = 2 if rest[4] else 1
    return input.new_empty((*input.shape[:2], directions * hidden.shape[2]))
