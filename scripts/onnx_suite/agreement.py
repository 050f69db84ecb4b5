"""Whether both targets give the same outputs wherever both pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.onnx_suite.cases import SuiteCase, read_value
from scripts.onnx_suite.compare import difference
from scripts.onnx_suite.outcome import Outcome


def agreement(
    known: Mapping[str, SuiteCase],
    first: Sequence[Outcome],
    second: Sequence[Outcome],
    stores: tuple[Path, Path],
) -> list[Outcome]:
    """For every case that both targets pass whether their stored outputs agree within its tolerance."""
    passed = {each.case for each in second if each.verdict == "passed"}
    both = [each.case for each in first if each.verdict == "passed" and each.case in passed]
    return [_compared(known[name], stores) for name in both]


def _compared(case: SuiteCase, stores: tuple[Path, Path]) -> Outcome:
    outputs = case.model.graph.output
    for number, _ in enumerate(case.data_sets()):
        values = [
            [
                read_value(store / f"{case.name}-{number}-{index}.pb", output.type)
                for index, output in enumerate(outputs)
            ]
            for store in stores
        ]
        found = difference(values[0], values[1], rtol=case.rtol, atol=case.atol)
        if found is not None:
            return Outcome(case.name, "wrong", found)
    return Outcome(case.name, "passed")
