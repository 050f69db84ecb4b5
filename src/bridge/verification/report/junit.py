"""The report as JUnit XML, which CI services read."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bridge.verification.compare import Verdict
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.report.untrusted import lines, printable
from bridge.verification.report.words import weights_line


def render(report: Report) -> str:
    """A test suite: `different` is a failure, `could not be checked` an error."""
    return _document([_report_suite(report, "bridge verify", "bridge")])


def render_suite(suite: SuiteReport) -> str:
    """A test suite for each pair."""
    return _document([_pair_suite(suite, each) for each in suite.pairs])


def _document(suites: Iterable[Element]) -> str:
    root = Element("testsuites", name="bridge verify")
    root.extend(suites)
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(each.get(key, "0")) for each in root)))
    root.set("time", f"{sum(float(each.get('time', '0')) for each in root):.3f}")
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + text + "\n"


class _Cases:
    """The test cases of one suite, counted."""

    def __init__(self, name: str, class_name: str, seconds: float, started: str = "") -> None:
        self.element = Element("testsuite", name=printable(name), time=f"{seconds:.3f}")
        if started:
            # JUnit's dates have no zone; they are in UTC.
            self.element.set("timestamp", started.partition("+")[0])
        self._class_name = printable(class_name)
        self._counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        self._count()

    def properties(self, values: dict[str, str]) -> None:
        holder = SubElement(self.element, "properties")
        for name, value in values.items():
            SubElement(holder, "property", name=name, value=printable(value))

    def case(self, name: str, verdict: Verdict | None, reasons: Iterable[str]) -> None:
        """A verdict of None means that it was not checked and nobody asked for it."""
        element = SubElement(self.element, "testcase", classname=self._class_name, name=printable(name))
        told = [line for reason in reasons for line in lines(reason)]
        message, text = (told[0] if told else verdict or ""), "\n".join(told)
        self._counts["tests"] += 1
        if verdict == "different":
            self._counts["failures"] += 1
            SubElement(element, "failure", message=message, type="different").text = text
        elif verdict == "could not be checked":
            self._counts["errors"] += 1
            SubElement(element, "error", message=message, type="unchecked").text = text
        elif verdict is None:
            self._counts["skipped"] += 1
            SubElement(element, "skipped", message=message)
        self._count()

    def _count(self) -> None:
        for key, number in self._counts.items():
            self.element.set(key, str(number))


def _report_suite(report: Report, name: str, class_name: str) -> Element:
    cases = _Cases(name, class_name, report.timing.total_seconds, report.timing.started)
    cases.properties(
        {
            "source": report.source.path,
            "target": report.target.path,
            "verdict": report.verdict,
            "seed": str(report.seed),
        }
    )
    for output in report.outputs:
        cases.case(f"output {output.name}", output.verdict, output.reasons)
    weights = report.weights or report.matched_weights
    if weights is None:
        cases.case("weights", None, [report.weights_note])
    else:
        cases.case("weights", "equivalent" if weights.passed else "different", [weights_line(report)])
    if report.gradients is not None:
        cases.case("gradients", report.gradients.verdict, report.gradients.reasons)
    if report.training is not None:
        cases.case("training", report.training.verdict, report.training.reasons)
    for gate in () if report.speed is None else report.speed.gates:
        verdicts: dict[str, Verdict] = {"passed": "equivalent", "failed": "different"}
        verdict = verdicts.get(gate.state, "could not be checked")
        cases.case(f"{gate.kind} {gate.row}, at most {gate.limit}", verdict, [gate.reason])
    located = () if report.localisation is None else (report.localisation.summary(),)
    cases.case("verdict", report.verdict, (*report.reasons, *located))
    return cases.element


def _pair_suite(suite: SuiteReport, pair: PairReport) -> Element:
    if pair.report is not None:
        element = _report_suite(pair.report, pair.name, f"{suite.name}.{pair.name}")
        if not pair.regressions:
            return element
        cases = _Cases(pair.name, f"{suite.name}.{pair.name}", 0.0)
        cases.case("baseline", "different", pair.regressions)
        element.append(cases.element[0])
        for key in ("tests", "failures"):
            element.set(key, str(int(element.get(key, "0")) + 1))
        return element
    cases = _Cases(pair.name, f"{suite.name}.{pair.name}", pair.seconds)
    cases.properties({"source": pair.source, "target": pair.target, "verdict": pair.verdict})
    cases.case("verdict", pair.verdict, pair.reasons)
    return cases.element
