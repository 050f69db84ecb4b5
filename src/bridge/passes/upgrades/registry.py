"""Which function carries a node over to the next version of its operator."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bridge.passes.upgrades.site import Site

Upgrade = Callable[[ir.Node, Site], None]
"""Changes a node of the version before, in place or by others, so that it means the same in the new one."""

UPGRADES: dict[tuple[str, int], Upgrade] = {}
"""By operator and the version that its nodes are carried to."""

EXPERIMENTAL: dict[str, Upgrade] = {}
"""Operators of early ONNX that never became part of the standard, by name; replaced wherever they occur."""


def upgrade(*op_types: str, to: int) -> Callable[[Upgrade], Upgrade]:
    """Declare the function below as what carries nodes of these operators to version `to`."""

    def register(function: Upgrade) -> Upgrade:
        for op_type in op_types:
            assert (op_type, to) not in UPGRADES
            UPGRADES[op_type, to] = function
        return function

    return register


def experimental(op_type: str) -> Callable[[Upgrade], Upgrade]:
    """Declare the function below as what replaces an experimental operator by those of the standard."""

    def register(function: Upgrade) -> Upgrade:
        assert op_type not in EXPERIMENTAL
        EXPERIMENTAL[op_type] = function
        return function

    return register
