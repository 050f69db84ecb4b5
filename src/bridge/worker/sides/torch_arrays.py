"""Between numpy arrays and PyTorch tensors, bfloat16 and nested outputs included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]

_BY_BITS = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
    torch.float8_e5m2: (torch.uint8, ml_dtypes.float8_e5m2),
}
"""Types that numpy lacks: they cross as integers of the same bits."""

_RUN_IN = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def to_tensor(array: Array) -> torch.Tensor:
    """The tensor of an array, in the array's memory where its type allows."""
    for dtype, (bits, numpy_dtype) in _BY_BITS.items():
        if array.dtype == numpy_dtype:
            name = str(bits).removeprefix("torch.")
            return torch.from_numpy(np.ascontiguousarray(array).view(name).reshape(array.shape)).view(dtype)
    return torch.from_numpy(array)


def to_array(tensor: torch.Tensor) -> Array:
    """The array of a tensor, copied from its device and detached."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype in _BY_BITS:
        bits, numpy_dtype = _BY_BITS[plain.dtype]
        return plain.contiguous().view(bits).numpy().view(numpy_dtype)
    return plain.numpy()


def flatten(outputs: Any) -> list[Array]:
    """The tensors of a module's result in order: a tensor, or nested sequences and mappings of them.

    Raises TypeError for anything else but None, which is left out.
    """
    return [to_array(tensor) for tensor in tensors_in(outputs)]


def tensors_in(outputs: Any) -> Iterator[torch.Tensor]:
    """The tensors of a module's result as `flatten` orders them."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for each in outputs.values():
            yield from tensors_in(each)
    elif isinstance(outputs, list | tuple):
        for each in outputs:
            yield from tensors_in(each)
    elif isinstance(outputs, int | float | bool):
        yield torch.tensor(outputs)
    elif outputs is not None:
        raise TypeError(f"the model returns a {type(outputs).__name__}, which is not a tensor")


def dtype_asked(name: str | None) -> torch.dtype | None:
    """The dtype that a request names to run in. Raises ValueError for one that models are not run in."""
    if name is None or name == "float32":
        return None
    if name not in _RUN_IN:
        raise ValueError(f"models are not run in {name!r}, only in {', '.join(_RUN_IN)}")
    return _RUN_IN[name]
