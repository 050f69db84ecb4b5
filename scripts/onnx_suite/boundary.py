"""Between the suite's values and what emitted models take and give: carriers, lists, None, strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bridge.emit.dialect import Signature
from bridge.hub.carriers import carrier, carry, uncarry

Value = Any
"""An array, a list of values (a sequence), or None (an empty optional)."""


def given(values: list[Value], to_tensor: Callable[[Any], Any]) -> list[Any]:
    """The arguments of an emitted model."""

    def convert(value: Value) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [convert(each) for each in value]
        return to_tensor(carry(np.array(value)))

    return [convert(each) for each in values]


def taken(result: Any, outputs: Signature, to_array: Callable[[Any], Any]) -> list[Value]:
    """The values of an emitted model's result: a tuple of several, or the only one."""

    def convert(value: Any, dtype: str) -> Value:
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [convert(each, dtype) for each in value]
        array = to_array(value)
        named = dtype == "object" or (array.dtype.name != dtype and array.dtype.name == carrier(dtype))
        return uncarry(array, dtype) if named else array

    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(outputs.dtypes):
        raise ValueError(f"the model gives {len(results)} outputs instead of {len(outputs.dtypes)}")
    return [convert(each, dtype) for each, dtype in zip(results, outputs.dtypes, strict=True)]
