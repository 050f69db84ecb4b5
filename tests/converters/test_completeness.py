"""Every operator of the standard has a lowering on each target, is rewritten, or is refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import onnx
import pytest
from bridge_converters import _refusals

from bridge.emit import registry
from bridge.emit.lowering import LoweringTable
from bridge.hub.opset import HUB_OPSET
from bridge.passes.classical import EXPRESSED

REFUSALS = {"torch": _refusals.TORCH, "tf": _refusals.TF}
REWRITTEN = {("", "Constant"), *EXPRESSED}
"""Operators that passes take out of the graph before anything is emitted."""


def versions() -> Iterator[tuple[str, str, int]]:
    """Domain, operator and version of everything that a hub may hold.

    Older graphs of the standard's own domain are brought to the hub's opset; what is deprecated there
    has been replaced on the way.
    """
    for schema in onnx.defs.get_all_schemas_with_history():
        oldest = HUB_OPSET if schema.domain == "" else 1
        version = max(schema.since_version, oldest)
        if not onnx.defs.get_schema(schema.name, version, schema.domain).deprecated:
            yield schema.domain, schema.name, version


OPERATORS = sorted(set(versions()))


@cache
def table(target: str) -> LoweringTable:
    return registry.table(target)


@pytest.mark.parametrize("target", ["torch", "tf"])
def test_every_operator_is_expressed_or_refused(target: str) -> None:
    missing = [
        f"{domain}::{op_type} of version {version}"
        for domain, op_type, version in OPERATORS
        if (domain, op_type) not in REWRITTEN
        and (domain, op_type) not in REFUSALS[target]
        and table(target).find(op_type, domain, version=version) is None
    ]
    assert missing == []


@pytest.mark.parametrize("target", ["torch", "tf"])
def test_refusals_are_of_operators_that_exist_and_have_no_lowering(target: str) -> None:
    known = {(domain, op_type) for domain, op_type, _ in OPERATORS}
    for domain, op_type in REFUSALS[target]:
        assert (domain, op_type) in known
        assert (domain, op_type) not in REWRITTEN
        assert table(target).find(op_type, domain, version=10**6) is None


@pytest.mark.parametrize("target", ["torch", "tf"])
def test_lowerings_are_of_operators_that_exist(target: str) -> None:
    known = {(domain, op_type) for domain, op_type, _ in OPERATORS}
    for each in table(target):
        if each.domain in ("", "ai.onnx.ml", "ai.onnx.preview"):
            assert (each.domain, each.op_type) in known
