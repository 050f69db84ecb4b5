"""The table of a target's coverage, operator by operator, as Markdown."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from scripts.onnx_suite.cases import CATEGORIES, SuiteCase, operator_of
from scripts.onnx_suite.outcome import VERDICTS, Outcome

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "coverage"
TITLES = {"torch": "PyTorch", "tf": "TensorFlow"}
_NAMED = 3
"""Cases named beside a reason; the others are counted."""


def write(target: str, known: Mapping[str, SuiteCase], outcomes: Sequence[Outcome]) -> Path:
    """Write the page of a target. It depends on the outcomes alone, not on when they came."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"onnx_to_{target}.md"
    file.write_text(page(target, known, outcomes), encoding="utf-8")
    return file


def page(target: str, known: Mapping[str, SuiteCase], outcomes: Sequence[Outcome]) -> str:
    """The page of a target: counts, what does not pass and why, then every operator."""
    by_operator: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        by_operator[operator_of(known[each.case], dict(known))].append(each)
    operators = sorted(by_operator, key=lambda name: (name in CATEGORIES, "." in name, name.lower()))
    lines = [
        f"# ONNX operators in {TITLES[target]}",
        "",
        f"The ONNX standard's own test suite (onnx {onnx.__version__}) on what bridge emits.",
        "A case passes if type, shape and values are right within its tolerance; a random one, if type and",
        "shape are.",
        "",
        f"`scripts/conformance --target {target} --docs` writes this page.",
        "",
        *_counts(known, outcomes),
        "",
        "## What does not pass",
        "",
        *_reasons(operators, by_operator),
        "",
        "## Operator by operator",
        "",
        "Operators of other domains carry the domain's name. Models that are about no single operator are",
        "listed under the suite's category at the end.",
        "",
        "| operator | passed | of |",
        "| --- | ---: | ---: |",
    ]
    for name in operators:
        group = by_operator[name]
        lines.append(f"| {name} | {sum(each.passes for each in group)} | {len(group)} |")
    return "\n".join(lines) + "\n"


def counts(known: Mapping[str, SuiteCase], outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """How many cases of each category, each kind of values and in all ended how."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for each in outcomes:
        case = known[each.case]
        for group in (case.category, f"on {case.kind}", "all"):
            found[group][each.verdict] += 1
    order = [*CATEGORIES, "on tensors", "on strings", "on sequences", "on training", "all"]
    return {group: found[group] for group in order if found[group]}


def _counts(known: Mapping[str, SuiteCase], outcomes: Sequence[Outcome]) -> list[str]:
    verdicts = [each for each in VERDICTS if any(one.verdict == each for one in outcomes)]
    lines = [f"| | {' | '.join(verdicts)} | of |", f"| --- |{' ---: |' * (len(verdicts) + 1)}"]
    for group, numbers in counts(known, outcomes).items():
        cells = " | ".join(str(numbers[each]) for each in verdicts)
        lines.append(f"| {group} | {cells} | {numbers.total()} |")
    return lines


def _reasons(operators: Sequence[str], by_operator: Mapping[str, Sequence[Outcome]]) -> list[str]:
    lines = ["| operator | cases | why |", "| --- | --- | --- |"]
    for operator in operators:
        grouped: dict[str, list[str]] = defaultdict(list)
        for each in by_operator[operator]:
            if not each.passes:
                grouped[f"{each.verdict}: {_cell(each.reason)}"].append(each.case.removeprefix("test_"))
        for reason, names in sorted(grouped.items()):
            shown = ", ".join(sorted(names)[:_NAMED])
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"| {operator} | {shown}{more} | {reason} |")
    return lines if len(lines) > 2 else ["Everything passes."]


def _cell(reason: str) -> str:
    """A reason on one line of a table, without what only this run has in it."""
    return re.sub(r"/tmp/\S+", "…", reason).replace("|", "\\|")[:200]
