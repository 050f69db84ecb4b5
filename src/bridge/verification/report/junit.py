"""The report as JUnit XML, which CI services read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bridge.verification.report.model import Report
from bridge.verification.report.text import weights_line

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def render(report: Report) -> str:
    """A test suite: `different` is a failure, `could not be checked` an error."""
    suite = ElementTree.Element("testsuite", name="bridge verify")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}

    def case(name: str, verdict: str, text: str) -> None:
        element = ElementTree.SubElement(suite, "testcase", classname="bridge", name=legal(name))
        counts["tests"] += 1
        if verdict == "different":
            counts["failures"] += 1
            ElementTree.SubElement(element, "failure", message=legal(text), type="different").text = legal(
                text
            )
        elif verdict == "could not be checked":
            counts["errors"] += 1
            ElementTree.SubElement(element, "error", message=legal(text), type="unchecked").text = legal(text)
        elif verdict == "skipped":
            counts["skipped"] += 1
            ElementTree.SubElement(element, "skipped", message=legal(text))

    for output in report.outputs:
        case(f"output {output.name}", output.verdict, "\n".join(output.reasons))
    weights = report.weights or report.matched_weights
    if weights is None:
        case("weights", "skipped", report.weights_note)
    else:
        case("weights", "equivalent" if weights.passed else "different", weights_line(report))
    if report.gradients is not None:
        case("gradients", report.gradients.verdict, "\n".join(report.gradients.reasons))
    if report.training is not None:
        case("training", report.training.verdict, "\n".join(report.training.reasons))
    located = () if report.localisation is None else (report.localisation.summary(),)
    case("verdict", report.verdict, "\n".join((*report.reasons, *located)))
    for key, count in counts.items():
        suite.set(key, str(count))
    suite.set("time", f"{report.timing.total_seconds:.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + text + "\n"
