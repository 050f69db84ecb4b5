"""The JSON Schema of reports, made of the model itself: `python -m bridge.verification.report.schema`.

docs/schema/report-2.json is what it prints.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from bridge.verification.report.json import REPORT_FORMAT, SUITE_FORMAT
from bridge.verification.report.model import SCHEMA, Report
from bridge.verification.report.suite import VERDICTS, SuiteReport

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER = {
    "description": "A number; what JSON has no number for is text.",
    "anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}],
}


def schema() -> dict[str, Any]:
    """The schema of the files of reports and of suites, in the dialect 2020-12."""
    (_, _), definitions = msgspec.json.schema_components([Report, SuiteReport], ref_template="#/$defs/{name}")
    definitions = {name: _adapted(each) for name, each in sorted(definitions.items())}
    passed = {"type": "boolean", "description": "Whether the verdict is equivalent."}
    verdict = {"enum": sorted(VERDICTS)}
    version = {"const": SCHEMA}
    _extend(definitions["Report"], format={"const": REPORT_FORMAT}, schema=version, passed=passed)
    _extend(
        definitions["SuiteReport"],
        format={"const": SUITE_FORMAT},
        schema=version,
        passed=passed,
        verdict=verdict,
    )
    _extend(definitions["PairReport"], verdict=verdict)
    return {
        "$schema": _DIALECT,
        "title": f"A report of bridge, version {SCHEMA}",
        "anyOf": [{"$ref": "#/$defs/Report"}, {"$ref": "#/$defs/SuiteReport"}],
        "$defs": {**definitions, "number": _NUMBER},
    }


def _extend(definition: dict[str, Any], **properties: Any) -> None:
    """Fields that the file has beyond those of the class."""
    definition["properties"] = {**properties, **definition["properties"]}
    definition["required"] = [*properties, *definition.get("required", ())]


def _adapted(value: Any) -> Any:
    """A definition in which numbers may be text. Fields may be added to the files, and old ones lack them."""
    if isinstance(value, list | tuple):
        return [_adapted(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "number":
        return {"$ref": "#/$defs/number"}
    result = {key: _adapted(each) for key, each in value.items() if key not in ("default", "title")}
    if isinstance(result.get("description"), str):
        result["description"] = inspect.cleandoc(result["description"])
    return result


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
