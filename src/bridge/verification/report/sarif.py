"""The findings as SARIF 2.1.0, which code scanning services read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
GitHub shows a result only if it has a place: one without a better place has the target's first line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridge.verification.report.findings import (
    RULES,
    CodePlace,
    Finding,
    findings,
    pair_findings,
    repository_path,
)
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.report.untrusted import lines, printable

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = list(RULES)


def render(report: Report) -> str:
    """A log of one run; without results where the versions are equivalent."""
    pair = f"{report.source.path} and {report.target.path}"
    results = (_result(each, report.target.path, pair) for each in findings(report))
    return _log(results, bridge=None if report.environment is None else report.environment.bridge)


def render_suite(suite: SuiteReport) -> str:
    """A log of one run with the results of all pairs."""
    return _log(result for pair in suite.pairs for result in _pair_results(pair))


def _pair_results(pair: PairReport) -> Iterator[dict[str, Any]]:
    for each in pair_findings(pair):
        yield _result(each, pair.target, pair.name, f"{printable(pair.name)}: ")


def _log(results: Iterable[dict[str, Any]], *, bridge: str | None = None) -> str:
    run = {
        "tool": {
            "driver": {
                "name": "bridge",
                "version": bridge or version("bridge-ml"),
                "rules": [
                    {"id": rule, "shortDescription": {"text": text}, "help": {"text": f"{text}."}}
                    for rule, text in RULES.items()
                ],
            }
        },
        "automationDetails": {"id": "bridge verify/"},
        "columnKind": "unicodeCodePoints",
        "results": list(results),
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _result(finding: Finding, target: str, pair: str, prefix: str = "") -> dict[str, Any]:
    place = finding.place or CodePlace(target, 1, "the target")
    print_of = hashlib.sha256(
        "\n".join((finding.rule, pair, place.path, place.what)).encode(errors="replace")
    )
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": _RULES.index(finding.rule),
        "level": finding.level,
        "message": {"text": prefix + "\n".join(lines(finding.text))},
        "locations": [_location(place)],
        "partialFingerprints": {"bridgeFinding/v1": print_of.hexdigest()},
    }
    if finding.related:
        result["relatedLocations"] = [
            {**_location(each), "id": number, "message": {"text": printable(each.what)}}
            for number, each in enumerate(finding.related, 1)
        ]
    return result


def _location(place: CodePlace) -> dict[str, Any]:
    path = repository_path(place.path)
    uri = Path(path).as_uri() if Path(path).is_absolute() else quote(path, errors="replace")
    region = {"startLine": max(place.line, 1)}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
