"""Vector-Jacobian products of PyTorch computations in float64, from and to numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from bridge_converters.torch_to_onnx.interpret import attached
from torch.overrides import TorchFunctionMode

from bridge.worker.sides.torch_arrays import to_array, to_tensor

Array = np.ndarray[Any, np.dtype[Any]]
Cotangents = Callable[[list[Array]], Sequence[Array | None]]
"""From a model's outputs to the gradients of a loss with respect to them; None or empty for none."""


def differentiable(feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """The inputs as leaves of autograd: floating-point ones in float64."""
    return {name: _leaf(to_tensor(array)) for name, array in feeds.items()}


def usable(leaf: torch.Tensor) -> torch.Tensor:
    """What a model may be given for a leaf; one that takes a gradient must not be changed in place."""
    return leaf.clone() if leaf.requires_grad else leaf


class Attached(TorchFunctionMode):
    """While it is entered, what is computed behind a detach takes a gradient of its own."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return attached(result, args) if isinstance(result, torch.Tensor) else result


def pull_back(
    outputs: Sequence[torch.Tensor],
    cotangents: Cotangents,
    wanted: Sequence[torch.Tensor],
) -> tuple[list[Array], list[Array | None]]:
    """The outputs, and the gradient of each wanted tensor; None where none flows to it.

    Raises ValueError for a cotangent whose shape is not its output's.
    """
    arrays = [to_array(output) for output in outputs]
    pairs = []
    for output, given in zip(outputs, cotangents(arrays), strict=True):
        if given is None or (given.size == 0 and output.numel() > 0) or not output.requires_grad:
            continue
        if given.shape != tuple(output.shape):
            raise ValueError(f"a cotangent of shape {given.shape} for an output of {tuple(output.shape)}")
        pairs.append((output, to_tensor(np.array(given)).to(output.dtype)))
    positions = [position for position, each in enumerate(wanted) if each.requires_grad]
    gradients: list[Array | None] = [None] * len(wanted)
    if pairs and positions:
        found = torch.autograd.grad(
            [output for output, _ in pairs],
            [wanted[position] for position in positions],
            [cotangent for _, cotangent in pairs],
            allow_unused=True,
        )
        for position, gradient in zip(positions, found, strict=True):
            if gradient is not None:
                gradients[position] = to_array(gradient.to_dense() if gradient.is_sparse else gradient)
    return arrays, gradients


def vjp(
    call: Callable[[dict[str, torch.Tensor]], Sequence[torch.Tensor]],
    feeds: Mapping[str, Array],
    weights: Mapping[str, torch.Tensor],
    cotangents: Cotangents,
) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
    """Outputs, gradients by input name and gradients by weight path, each only where one flows.

    `weights` are the tensors that `call` uses; of those, the ones that require a gradient are answered, and a
    tied one under all its paths.
    """
    with torch.enable_grad():
        leaves = differentiable(feeds)
        outputs = call({name: usable(leaf) for name, leaf in leaves.items()})
        distinct = list({id(each): each for each in weights.values()}.values())
        arrays, gradients = pull_back(outputs, cotangents, [*leaves.values(), *distinct])
    by_input = dict(zip(leaves, gradients, strict=False))
    by_identity = {id(each): got for each, got in zip(distinct, gradients[len(leaves) :], strict=True)}
    by_weight = {path: by_identity[id(each)] for path, each in weights.items()}
    return (
        arrays,
        {name: each for name, each in by_input.items() if each is not None},
        {path: each for path, each in by_weight.items() if each is not None},
    )


def assign(state: Mapping[str, torch.Tensor], tensors: Mapping[str, Array]) -> None:
    """Set weights in place. Raises ValueError for a path or shape that the state does not have."""
    for path, array in tensors.items():
        if path not in state:
            raise ValueError(f"there is no weight {path!r}")
        if tuple(state[path].shape) != array.shape:
            raise ValueError(f"{path!r} has the shape {tuple(state[path].shape)}, not {array.shape}")
    with torch.no_grad():
        for path, array in tensors.items():
            state[path].copy_(to_tensor(np.array(array)))


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.float64).detach().clone().requires_grad_()
