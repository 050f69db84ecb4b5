"""Random numbers: from PyTorch's global generator, or from one of their own where a seed is given."""

from __future__ import annotations

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._dtypes import dtype_of
from bridge_converters.onnx_to_torch._table import lowering


@lowering("RandomNormal")
def random_normal(
    *,
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    shape: tuple[int, ...],
) -> Tensor:
    """Normally distributed numbers; the same ones in every call if there is a seed."""
    return mean + scale * torch.randn(shape, generator=seeded(seed, "cpu"), dtype=dtype_of(dtype))


@lowering("RandomNormalLike")
def random_normal_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Normally distributed numbers in the shape of x; the same ones in every call if there is a seed."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return mean + scale * torch.randn(x.shape, generator=seeded(seed, x.device), dtype=kind, device=x.device)


@lowering("RandomUniform")
def random_uniform(
    *,
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
    shape: tuple[int, ...],
) -> Tensor:
    """Uniformly distributed numbers from low to high; the same ones in every call if there is a seed."""
    return low + (high - low) * torch.rand(shape, generator=seeded(seed, "cpu"), dtype=dtype_of(dtype))


@lowering("RandomUniformLike")
def random_uniform_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Uniformly distributed numbers in the shape of x; the same ones in every call if there is a seed."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return low + (high - low) * torch.rand(
        x.shape, generator=seeded(seed, x.device), dtype=kind, device=x.device
    )


@lowering("Bernoulli")
def bernoulli(x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    """1 with the probabilities x, 0 otherwise; the same draws in every call if there is a seed."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return (torch.rand(x.shape, generator=seeded(seed, x.device), device=x.device) < x).to(kind)


@lowering("Multinomial")
def multinomial(x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Tensor:
    """Classes drawn by the unnormalised log-probabilities in the rows of x, with replacement."""
    probabilities = torch.softmax(x, -1)
    drawn = torch.multinomial(probabilities, sample_size, replacement=True, generator=seeded(seed, x.device))
    return drawn.to(dtype_of(dtype))


def seeded(seed: float | None, device: torch.device | str) -> torch.Generator | None:
    """A generator that starts from a seed; None, which is the global one, without."""
    return None if seed is None else torch.Generator(device).manual_seed(int(seed))
