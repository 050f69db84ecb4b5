"""Packed sequences as padded ones beside their lengths, which is how ONNX's recurrent operators take them.

`torch.export` cannot follow `pack_padded_sequence`: how much it packs depends on the lengths. While a module
is exported, packing keeps the padded tensor and the lengths, and recurrent layers become operators of bridge
that take both. These compute with PyTorch's packed kernels: the program runs and trains like its source.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_check: Any = torch._check
_ARGUMENTS = (
    "(Tensor input, Tensor lengths, Tensor[] states, Tensor[] params, bool has_biases, int num_layers, "
    "float dropout, bool bidirectional)"
)


def operator_for(kind: str) -> Any:
    """The operator `bridge::packed_lstm` and its like, for one of KINDS.

    It takes a padded input (steps, batch, features), lengths (batch) in any order, and gives the padded
    results of all steps, zero behind the ends, and the last states (layers * directions, batch, size).
    """
    declare_operators()
    return getattr(torch.ops.bridge, f"packed_{kind}").default


@cache
def declare_operators() -> torch.library.Library:
    """Make the operators known to this process; they exist as long as the result does."""
    library = torch.library.Library("bridge", "FRAGMENT")  # type: ignore[no-untyped-call]
    for kind in KINDS:
        name = f"packed_{kind}"
        results = "(Tensor, Tensor, Tensor)" if kind == "lstm" else "(Tensor, Tensor)"
        library.define(f"{name}{_ARGUMENTS} -> {results}")  # type: ignore[no-untyped-call]
        compute = _computing(kind)
        library.impl(name, compute, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"bridge::{name}", _shapes, lib=library)
        torch.library.register_autograd(
            f"bridge::{name}", _pulling_back(compute), setup_context=_remember, lib=library
        )
    return library


class PaddedSequence(PackedSequence):
    """What stands for a packed sequence in an export: `padded` (steps, batch, ...) and `lengths` (batch)."""

    padded: Tensor
    lengths: Tensor

    def __new__(cls, padded: Tensor, lengths: Tensor) -> PaddedSequence:
        made = tuple.__new__(cls, (None, None, None, None))
        made.padded, made.lengths = padded, lengths
        return made

    @property
    def data(self) -> Tensor:
        """Raises NotImplementedError."""
        raise NotImplementedError(
            "the data and batch_sizes of a packed sequence depend on its lengths and cannot be exported; "
            "use pad_packed_sequence"
        )

    batch_sizes = sorted_indices = unsorted_indices = data


@contextmanager
def padded_sequences() -> Iterator[None]:
    """Have PyTorch's functions keep sequences padded instead of packing them; for exporting only."""
    rnn: Any = sys.modules["torch.nn.utils.rnn"]
    # The functions get other code, as modules have imported them under names of their own.
    codes = {
        rnn.pack_padded_sequence: _pack_padded_sequence.__code__,
        rnn.pad_packed_sequence: _pad_packed_sequence.__code__,
    }
    originals = {function: function.__code__ for function in codes}
    layers: dict[Any, Any] = {layer: layer.forward for layer in (nn.LSTM, nn.GRU, nn.RNN)}
    declare_operators()
    try:
        for function, code in codes.items():
            function.__code__ = code
        for layer, forward in layers.items():
            layer.forward = _taking_padded(forward)
        yield
    finally:
        for function, code in originals.items():
            function.__code__ = code
        for layer, forward in layers.items():
            layer.forward = forward


def _pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):  # type: ignore[no-untyped-def]
    # Runs among the globals of torch.nn.utils.rnn.
    from bridge_converters.torch_to_onnx.packed import pack

    return pack(input, lengths, batch_first)


def _pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):  # type: ignore[no-untyped-def]
    from bridge_converters.torch_to_onnx.packed import unpack

    return unpack(sequence, batch_first, padding_value, total_length)


def pack(x: Tensor, lengths: Any, batch_first: bool) -> PaddedSequence:
    """`pack_padded_sequence` without packing."""
    steps_first = x.transpose(0, 1) if batch_first else x
    return PaddedSequence(steps_first, torch.as_tensor(lengths, dtype=torch.int64))


def unpack(
    sequence: PaddedSequence, batch_first: bool, padding_value: float, total_length: int | None
) -> tuple[Tensor, Tensor]:
    """`pad_packed_sequence`: as long as the longest sequence, or as asked."""
    x, lengths = sequence.padded, sequence.lengths
    steps = x.shape[0]
    if total_length is None:
        longest: Any = lengths.max().item()
        _check(longest >= 1)
        _check(longest <= steps)
        x = x.narrow(0, 0, longest)
    elif total_length > steps:
        x = torch.cat([x, x.new_zeros(total_length - steps, *x.shape[1:])])
    elif total_length < steps:
        x = x.narrow(0, 0, total_length)
    if padding_value != 0:
        valid = torch.arange(x.shape[0], device=x.device)[:, None] < lengths
        x = torch.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, padding_value)
    return (x.transpose(0, 1) if batch_first else x), lengths


def _taking_padded(forward: Callable[..., Any]) -> Callable[..., Any]:
    def forward_of_padded(self: Any, input: Any, hx: Any = None) -> Any:
        if not isinstance(input, PaddedSequence):
            return forward(self, input, hx)
        if self.proj_size:
            raise NotImplementedError("an LSTM with proj_size over packed sequences cannot be exported")
        is_lstm = self.mode == "LSTM"
        if hx is None:
            rows = self.num_layers * (2 if self.bidirectional else 1)
            zeros = input.padded.new_zeros(rows, input.padded.shape[1], self.hidden_size)
            hx = (zeros, zeros) if is_lstm else zeros
        y, *last = operator_for(self.mode.lower())(
            input.padded,
            input.lengths,
            list(hx) if is_lstm else [hx],
            [getattr(self, name) for name in self._flat_weights_names],
            self.bias,
            self.num_layers,
            float(self.dropout),
            self.bidirectional,
        )
        return PaddedSequence(y, input.lengths), (tuple(last) if is_lstm else last[0])

    return forward_of_padded


def _computing(kind: str) -> Callable[..., tuple[Tensor, ...]]:
    function = getattr(torch, kind)

    def compute(
        input: Tensor,
        lengths: Tensor,
        states: list[Tensor],
        params: list[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        bidirectional: bool,
    ) -> tuple[Tensor, ...]:
        ordered, order = torch.sort(lengths.cpu(), descending=True)
        back = torch.argsort(order)
        data, sizes = torch._VF._pack_padded_sequence(input.index_select(1, order), ordered, False)
        first = [state.index_select(1, order) for state in states]
        hx = first if kind == "lstm" else first[0]
        data, *last = function(data, sizes, hx, params, has_biases, num_layers, 0.0, False, bidirectional)
        y, _ = torch._VF._pad_packed_sequence(data, sizes, False, 0.0, len(input))
        return tuple(each.index_select(1, back) for each in (y, *last))

    return compute


def _shapes(
    input: Tensor, lengths: Tensor, states: list[Tensor], params: list[Tensor], *rest: Any
) -> tuple[Tensor, ...]:
    _check(input.shape[2] == params[0].shape[1])
    directions = 2 if rest[-1] else 1
    y = input.new_empty(*input.shape[:2], directions * states[0].shape[2])
    return (y, *(torch.empty_like(state) for state in states))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, lengths, states, params, *ctx.rest = inputs
    ctx.count = len(states)
    ctx.save_for_backward(input, lengths, *states, *params)


def _pulling_back(compute: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Any, ...]]:
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        input, lengths, *rest = ctx.saved_tensors
        with torch.enable_grad():
            leaves = [each.detach().requires_grad_() for each in (input, *rest)]
            states, params = leaves[1 : 1 + ctx.count], leaves[1 + ctx.count :]
            results = compute(leaves[0], lengths, states, params, *ctx.rest)
            found = torch.autograd.grad(results, leaves, gradients, allow_unused=True)
        return (
            found[0],
            None,
            list(found[1 : 1 + ctx.count]),
            list(found[1 + ctx.count :]),
            None,
            None,
            None,
            None,
        )

    return backward
