"""Which operators a target must express or refuse: all of the standard, in every version of a hub."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from bridge_converters._refusals import Refusals

from bridge.emit.lowering import LoweringTable
from bridge.hub.opset import HUB_OPSET
from bridge.passes.classical import EXPRESSED

REWRITTEN = {("", "Constant"), *EXPRESSED}
"""Operators that passes take out of the graph before anything is emitted."""

_DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


def _versions() -> Iterator[tuple[str, str, int]]:
    """Domain, operator and version of everything that a hub may hold.

    Older graphs of the standard's own domain are brought to the hub's opset; what is deprecated there
    has been replaced on the way.
    """
    for schema in onnx.defs.get_all_schemas_with_history():
        oldest = HUB_OPSET if schema.domain == "" else 1
        version = max(schema.since_version, oldest)
        if not onnx.defs.get_schema(schema.name, version, schema.domain).deprecated:
            yield schema.domain, schema.name, version


OPERATORS = sorted(set(_versions()))
KNOWN = {(domain, op_type) for domain, op_type, _ in OPERATORS}


def missing(table: LoweringTable, refusals: Refusals) -> list[str]:
    """The operators that are neither expressed nor refused."""
    return [
        f"{domain}::{op_type} of version {version}"
        for domain, op_type, version in OPERATORS
        if (domain, op_type) not in REWRITTEN
        and (domain, op_type) not in refusals
        and table.find(op_type, domain, version=version) is None
    ]


def idle_refusals(table: LoweringTable, refusals: Refusals) -> list[tuple[str, str]]:
    """Refusals of operators that do not exist, or that are expressed."""
    return [
        (domain, op_type)
        for domain, op_type in refusals
        if (domain, op_type) not in KNOWN
        or (domain, op_type) in REWRITTEN
        or table.find(op_type, domain, version=10**6) is not None
    ]


def unknown_lowerings(table: LoweringTable) -> list[tuple[str, str]]:
    """Lowerings of operators that the standard does not have."""
    return [
        (each.domain, each.op_type)
        for each in table
        if each.domain in _DOMAINS and (each.domain, each.op_type) not in KNOWN
    ]
