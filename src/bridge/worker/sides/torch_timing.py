"""What is timed of a PyTorch model: inference or a training step from tensor to tensor, eager or compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bridge.worker.device import autocast, torch_precision
from bridge.worker.sides.torch_arrays import tensors_in

MOMENTUM = 0.9


def _nothing() -> None:
    return None


class TorchTiming:
    """See docs/worker-protocol.md for what a timing answers."""

    def __init__(
        self,
        run: Callable[[], object],
        *,
        timed: str,
        device: torch.device,
        notes: Sequence[str] = (),
        restore: Callable[[], object] = _nothing,
    ) -> None:
        """`run` starts one call on the device, which need not be finished when it returns.

        `restore` undoes what making it has changed.
        """
        self.timed = timed
        self.notes = list(notes)
        self._restore = restore
        self.device = _described(device)
        self._run = run
        self._events: tuple[Any, Any] | None = None
        if device.type == "cuda":
            event: Any = torch.cuda.Event
            self._events = event(enable_timing=True), event(enable_timing=True)
            torch.cuda.reset_peak_memory_stats(device)
        self._device = device

    def call(self) -> None:
        if self._events is None:
            self._run()
            return
        begin, end = self._events
        begin.record()
        self._run()
        end.record()
        torch.cuda.synchronize(self._device)

    def device_seconds(self) -> float | None:
        if self._events is None:
            return None
        begin, end = self._events
        return float(begin.elapsed_time(end)) / 1000

    def device_peak_bytes(self) -> int | None:
        return None if self._events is None else torch.cuda.max_memory_allocated(self._device)

    def threads(self) -> list[int | None]:
        return [torch.get_num_threads(), torch.get_num_interop_threads()]

    def close(self) -> None:
        self._run = _nothing
        self._restore()
        if self._events is not None:
            torch.cuda.empty_cache()


def time_torch(
    forward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
    compiled: bool,
) -> TorchTiming:
    """Time `forward(*args, **kwargs)`; to be trained it has to be a module.

    Raises NotImplementedError where it has nothing to train.
    """
    set_threads()
    call = forward
    if compiled:
        torch._dynamo.reset()
        call = torch.compile(forward)
    call = _autocasting(call)
    by = ", through torch.compile" if compiled else ""
    device = _device(forward, args, kwargs)
    if not training:
        timed = f"a call in inference mode, from tensor to tensor{by}"
        return TorchTiming(_inference(call, args, kwargs), timed=timed, device=device)
    if not isinstance(forward, nn.Module):
        raise NotImplementedError("what is run in this precision has no training step")
    parameters = [each for each in forward.parameters() if each.requires_grad]
    if not parameters:
        raise NotImplementedError("it has no parameters that take a gradient")
    notes = _train(forward)
    return TorchTiming(
        _step(call, args, kwargs, parameters),
        timed=f"forward pass, loss, backward pass and SGD update, from tensor to tensor{by}",
        device=device,
        notes=notes,
        restore=lambda: _rest(forward, parameters, switched=not notes),
    )


def set_threads() -> None:
    """As many threads within an operator as the worker was given, and one operator at a time."""
    count = int(os.environ.get("OMP_NUM_THREADS", "0"))
    if count and torch.get_num_threads() != count:
        torch.set_num_threads(count)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def _autocasting(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same with autocast around it, if the worker computes so."""
    if autocast() is None:
        return forward

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch_precision(torch):
            return forward(*args, **kwargs)

    return call


def _inference(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return forward(*args, **kwargs)

    return run


def _step(
    forward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    parameters: Sequence[nn.Parameter],
) -> Callable[[], object]:
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=MOMENTUM)

    def run() -> object:
        optimizer.zero_grad(set_to_none=True)
        outputs = tensors_in(forward(*args, **kwargs))
        losses = [0.5 * each.square().mean() for each in outputs if each.is_floating_point()]
        if not losses:
            raise NotImplementedError("no output is of floating-point numbers, so there is no loss")
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        return None

    return run


def _train(module: nn.Module) -> list[str]:
    """Bring a module into training mode; a note where that is not possible."""
    try:
        module.train()
    except NotImplementedError:
        return ["the exported program has no training mode: its steps are timed in inference mode"]
    return []


def _rest(module: nn.Module, parameters: Sequence[nn.Parameter], *, switched: bool) -> None:
    if switched:
        module.eval()
    for each in parameters:
        each.grad = None


def _device(forward: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device:
    """Where the model is, or its inputs where it has no tensors of its own."""
    own = [*forward.parameters(), *forward.buffers()] if isinstance(forward, nn.Module) else []
    for each in (*own, *args, *kwargs.values()):
        if isinstance(each, torch.Tensor):
            return each.device
    return torch.device("cpu")


def _described(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"
