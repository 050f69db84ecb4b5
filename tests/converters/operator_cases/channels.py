"""Cases with their data as a channels-last lowering stores it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from operator_cases.case import Array, Case

SPATIAL = {"DeformConv": (0, 2, 4), "MaxUnpool": (0, 1)}
"""The inputs that are stored so, where it is not the first alone."""


def to_channels_last(array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def to_channels_first(array: Array) -> Array:
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def channels_last(case: Case) -> Case:
    """The case with its spatial inputs stored channels-last."""
    stored = tuple(
        to_channels_last(each) if each is not None and index in SPATIAL.get(case.op, (0,)) else each
        for index, each in enumerate(case.inputs)
    )
    return replace(case, inputs=stored)
