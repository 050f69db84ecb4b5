"""The report as one HTML page without anything to download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bridge.verification.compare import Errors, OutputResult
from bridge.verification.gradients import GradientsResult
from bridge.verification.localise import Localisation
from bridge.verification.report.junit import legal
from bridge.verification.report.model import Report
from bridge.verification.report.text import gradients_line, training_line, weights_line
from bridge.verification.training import TrainingResult

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1.5rem; }
caption { text-align: left; font-weight: 600; padding: 0.5rem 0; }
th, td { border-bottom: 1px solid #767676; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; }
code { overflow-wrap: anywhere; }
.verdict { border-left: 0.5rem solid #595959; padding: 0.5rem 1rem; font-size: 1.25rem; }
.equivalent { border-color: #1a7f37; } .different { border-color: #b3261e; }
@media (prefers-color-scheme: dark) { body { background: #121212; color: #eeeeee; } }
"""


def render(report: Report) -> str:
    """The page; all text passes through the XML writer, which escapes it."""
    root = Element("html", lang="en")
    head = SubElement(root, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "title").text = f"bridge verify: {report.verdict}"
    SubElement(head, "style").text = _STYLE
    main = SubElement(SubElement(root, "body"), "main")
    SubElement(main, "h1").text = "Verification"
    verdict = SubElement(main, "p", {"class": f"verdict {report.verdict.split()[0]}", "role": "status"})
    SubElement(verdict, "strong").text = f"Verdict: {report.verdict}"
    _list(main, report.reasons)
    _table(
        main,
        "The two versions",
        ("", "path", "what was run"),
        [
            (name, side.path, side.what)
            for name, side in (("source", report.source), ("target", report.target))
        ],
    )
    SubElement(main, "p").text = f"Outputs are held against: {report.reference}."
    _table(
        main,
        "Outputs",
        ("output", "inputs", "source error", "target error", "tolerance", "apart in float64", "verdict"),
        [row for output in report.outputs for row in _output_rows(output)],
    )
    if report.localisation is not None:
        _localisation(main, report.localisation)
    SubElement(main, "h2").text = "Weights"
    SubElement(main, "p").text = legal(weights_line(report))
    if report.weights is not None and report.weights.differences:
        rows = [(each.target, each.reason) for each in report.weights.differences]
        _table(main, "Tensors that differ", ("tensor", "why"), rows)
    if report.matched_weights is not None and report.matched_weights.suspects:
        suspects = [(each.target, each.source, each.reason) for each in report.matched_weights.suspects]
        _table(main, "Tensors that are nearly equal", ("tensor", "of the source", "how"), suspects)
    if report.gradients is not None:
        _gradients(main, report.gradients)
    if report.training is not None:
        _training(main, report.training)
    shapes = [
        (draw.name, ", ".join(f"{each.name} {each.dtype}{list(each.shape)}" for each in draw.inputs))
        for draw in report.draws
    ]
    _table(main, f"Sets of inputs (seed {report.seed})", ("set", "inputs"), shapes)
    if report.notes:
        SubElement(main, "h2").text = "Notes"
        _list(main, report.notes)
    text: str = ElementTree.tostring(root, encoding="unicode", method="html")
    return "<!DOCTYPE html>\n" + text + "\n"


def _list(parent: Element, items: Iterable[str]) -> None:
    texts = list(items)
    if texts:
        listing = SubElement(parent, "ul")
        for text in texts:
            SubElement(listing, "li").text = legal(text)


def _table(parent: Element, caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = SubElement(parent, "table")
    SubElement(table, "caption").text = caption
    head = SubElement(SubElement(table, "thead"), "tr")
    for title in header:
        SubElement(head, "th", scope="col").text = title
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        SubElement(line, "th", scope="row").text = legal(row[0])
        for cell in row[1:]:
            SubElement(line, "td").text = legal(cell)


def _output_rows(output: OutputResult) -> list[tuple[str, ...]]:
    name = f"{output.name} ({output.dtype})"
    if output.varies is False:
        name += ", does not vary with the inputs"
    if not output.errors:
        return [(name, "all", "", "", "", "", output.verdict)]
    return [(name, *_error_cells(each), output.verdict) for each in output.errors]


def _error_cells(errors: Errors) -> tuple[str, ...]:
    def pair(first: float | None, second: float | None) -> str:
        return "none" if first is None or second is None else f"{first:.3g} (largest element {second:.3g})"

    rule = errors.rule if errors.held_against == "reference" else f"{errors.rule}, held against the source"
    return (
        rule,
        pair(errors.source_l2, errors.source_max),
        pair(errors.target_l2, errors.target_max),
        pair(errors.tolerance_l2, errors.tolerance_max),
        "not needed"
        if errors.function_l2 is None
        else f"{pair(errors.function_l2, errors.function_max)}, "
        f"at most {pair(errors.function_limit_l2, errors.function_limit_max)}",
    )


def _localisation(main: Element, found: Localisation) -> None:
    SubElement(main, "h2").text = "The first wrong node"
    SubElement(main, "p").text = legal(f"{found.summary()}.")
    rows = [
        (side, place.operator, place.name, place.scope or "", place.location or "")
        for side, places in (
            ("source", found.source_block or ((found.source,) if found.source else ())),
            ("target", found.target_block or (found.target,)),
        )
        for place in places
    ]
    _table(main, "Where it is", ("side", "operator", "value", "module", "line"), rows)
    _list(main, found.notes)


def _gradients(main: Element, gradients: GradientsResult) -> None:
    SubElement(main, "h2").text = "Gradients"
    SubElement(main, "p").text = legal(gradients_line(gradients))
    rows = [
        (
            each.name,
            each.kind,
            "" if each.error is None else f"{each.error:.3g}",
            each.verdict + (f": {each.reason}" if each.reason else ""),
        )
        for each in gradients.tensors
    ]
    if rows:
        caption = f"Relative errors in float64, at most {gradients.tolerance:.1g}"
        _table(main, caption, ("tensor", "kind", "error", "verdict"), rows)


def _training(main: Element, training: TrainingResult) -> None:
    SubElement(main, "h2").text = "Training"
    SubElement(main, "p").text = legal(training_line(training))
    steps = zip(training.source_losses, training.target_losses, strict=False)
    losses = [(str(step), f"{ours:.17g}", f"{theirs:.17g}") for step, (ours, theirs) in enumerate(steps, 1)]
    if losses:
        _table(main, "Losses in float64", ("step", "source", "target"), losses)
    rows = [
        (
            each.name,
            each.kind,
            "" if each.error is None else f"{each.error:.3g}",
            each.verdict + (f": {each.reason}" if each.reason else ""),
        )
        for each in training.tensors
    ]
    if rows:
        _table(main, "Tensors after training", ("tensor", "kind", "error", "verdict"), rows)
    _list(main, (*training.conventions, *training.notes))
