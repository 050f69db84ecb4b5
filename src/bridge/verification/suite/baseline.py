"""What the pairs of a suite came to once, and whether they are worse now. docs/suite.md has the rules."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bridge.errors import InputError, OutputError
from bridge.verification.compare import Errors, OutputResult
from bridge.verification.report import Report
from bridge.verification.report.suite import SuiteReport
from bridge.verification.suite.file import Suite
from bridge.verification.suite.identity import model_hash

SCHEMA = 1
ERROR_FACTOR = 2.0
"""How many times the recorded error an output of the target may have."""
EPSILONS = 4.0
"""How many units of the output's precision that may be more in any case."""
FLOAT64_SLACK = 1e-10
"""The same for gradients and losses, which are computed in float64."""
SPEED_MARGIN = 1.1
"""How many times the recorded ratio of times the whole interval must be above to be slower."""
_DIGITS = 2


@dataclass(frozen=True)
class Recorded:
    """One pair of a baseline.

    `source` and `target` are SHA-256 of all their files, None where a version has none. `errors` are the
    target's by output and kind of inputs (`logits, typical inputs`), the larger of both norms. `gradients`
    and `training` are the largest relative errors in float64, `speed` the ratios of times, target through
    source, by the row that was measured. What was not compared is None or missing.
    """

    source: str | None = None
    target: str | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    gradients: float | None = None
    training: float | None = None
    speed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """All pairs of a baseline file by name."""

    pairs: Mapping[str, Recorded] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One pair against its record, in sentences. `regressions` are failures, the others are not."""

    regressions: tuple[str, ...] = ()
    improvements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(path: Path, *, new: bool = False) -> Baseline:
    """Read a baseline file; with `new` it may be missing. Raises InputError where it is not one."""
    if new and not path.exists():
        return Baseline()
    hint = "make one with --baseline FILE --update-baseline"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the baseline cannot be read: {error.strerror}", hint=hint, where=str(path)
        ) from error
    except ValueError as error:
        raise InputError(f"this is no baseline: {error}", hint=hint, where=str(path)) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise InputError(f"this is no baseline of version {SCHEMA}", hint=hint, where=str(path))
    try:
        return msgspec.convert(record, Baseline, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            f"the baseline does not fit its form: {error}", hint=hint, where=str(path)
        ) from error


def with_records(baseline: Baseline, records: Mapping[str, object]) -> Baseline:
    """A baseline with further pairs, or others in their place, each as of `plain`."""
    return Baseline({**baseline.pairs, **msgspec.convert(records, dict[str, Recorded], strict=False)})


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline, sorted and rounded, so that its diffs are short. Raises OutputError."""
    pairs = {name: plain(baseline.pairs[name]) for name in sorted(baseline.pairs)}
    text = json.dumps({"schema": SCHEMA, "pairs": pairs}, indent=2, ensure_ascii=False) + "\n"
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise OutputError(
            f"the baseline cannot be written: {error.strerror}",
            hint="check the directory of --baseline",
            where=str(path),
        ) from error


def record(report: Report, source: str | None = None, target: str | None = None) -> Recorded:
    """What a baseline keeps of a report; `source` and `target` are the hashes of both models."""
    gradients = report.gradients
    compared = [] if gradients is None else [each.error for each in gradients.tensors]
    training = None if report.training is None else report.training.loss_error
    return Recorded(
        source,
        target,
        {name: _rounded(error) for name, error, _ in _errors(report)},
        None
        if gradients is None
        else _rounded(max((each for each in compared if each is not None), default=0.0)),
        None if training is None else _rounded(training),
        {name: round(value, 2) for name, (value, _, _) in _ratios(report).items()},
    )


def compare(report: Report, recorded: Recorded) -> Comparison:
    """Hold the errors and the speed of an equivalent pair against what was recorded."""
    worse: list[str] = []
    better: list[str] = []
    notes: list[str] = []
    now = {name: (error, slack) for name, error, slack in _errors(report)}
    found = record(report)
    for name, once in recorded.errors.items():
        if name not in now:
            notes.append(f"the baseline has an error of {name}, which was not compared now")
            continue
        error, slack = now[name]
        _judge(f"error of {name}", error, once, slack, worse, better)
    for what, value, once_or_none in (
        ("largest error of a gradient", found.gradients, recorded.gradients),
        ("largest error of a loss in training", found.training, recorded.training),
    ):
        if once_or_none is not None and value is None:
            notes.append(f"the baseline has a {what}, which was not compared now")
        elif once_or_none is not None and value is not None:
            _judge(what, value, once_or_none, FLOAT64_SLACK, worse, better)
    ratios = _ratios(report)
    for name, once in recorded.speed.items():
        if name not in ratios:
            notes.append(f"the baseline has the speed of {name}, which was not measured now")
            continue
        _, low, high = ratios[name]
        interval = f"{low:.2f} to {high:.2f} times the source's time, recorded {once:.2f}"
        if low > once * SPEED_MARGIN:
            worse.append(f"{name}: slower than the baseline: {interval}")
        elif high < once / SPEED_MARGIN:
            better.append(f"{name}: faster than the baseline: {interval}")
    return Comparison(tuple(worse), tuple(better), tuple(notes))


def hold_against(
    result: SuiteReport, baseline: Baseline, suite: Suite, *, partly: bool = False
) -> SuiteReport:
    """The result of a suite with the regressions of its pairs, and with notes of what improved.

    `partly`: the suite is only some of the pairs of its file.
    """
    pairs = []
    notes = list(result.notes)
    for each in result.pairs:
        recorded = baseline.pairs.get(each.name)
        if recorded is None:
            notes.append(f"{each.name}: not in the baseline; --update-baseline records it")
        elif each.report is not None and each.report.passed:
            comparison = compare(each.report, recorded)
            each = dataclasses.replace(each, regressions=comparison.regressions)
            said = (
                *comparison.improvements,
                *comparison.notes,
                *_changes(each.source, each.target, recorded, suite),
            )
            notes += [f"{each.name}: {text}" for text in said]
        pairs.append(each)
    known = {each.name for each in suite.pairs}
    if not partly:
        notes += [
            f"{name}: in the baseline, but not in the suite" for name in baseline.pairs if name not in known
        ]
    return dataclasses.replace(result, pairs=tuple(pairs), notes=tuple(notes))


def update(result: SuiteReport, baseline: Baseline, path: Path, suite: Suite, *, partly: bool) -> SuiteReport:
    """Record the pairs that are equivalent; the others, and with `partly` those not run, stay as they were.

    Returns the result with notes of what changed.
    """
    pairs = dict(baseline.pairs) if partly else {}
    notes = list(result.notes)
    for each in result.pairs:
        before = baseline.pairs.get(each.name)
        if each.report is None or not each.report.passed:
            if before is not None:
                pairs[each.name] = before
            notes.append(f"{each.name}: not recorded in the baseline, since it is not equivalent")
            continue
        hashes = [model_hash(version, suite.directory) for version in (each.source, each.target)]
        pairs[each.name] = record(each.report, *hashes)
        if before is None:
            notes.append(f"{each.name}: new in the baseline")
            continue
        comparison = compare(each.report, before)
        notes += [
            f"{each.name}: {text}"
            for text in (*comparison.regressions, *comparison.improvements, *comparison.notes)
        ]
    gone = [name for name in baseline.pairs if name not in pairs]
    notes += [f"{name}: removed from the baseline" for name in gone]
    write(path, Baseline(pairs))
    return dataclasses.replace(result, notes=(*notes, f"the baseline {path} has {len(pairs)} pairs"))


def _judge(what: str, error: float, once: float, slack: float, worse: list[str], better: list[str]) -> None:
    text = f"{error:.2g} instead of the recorded {once:.2g}"
    if not error <= ERROR_FACTOR * once + slack:
        worse.append(f"the {what} is {text}")
    elif error * ERROR_FACTOR + slack < once:
        better.append(f"the {what} is better: {text}")


def _changes(source: str, target: str, recorded: Recorded, suite: Suite) -> Iterator[str]:
    for what, version, once in (("source", source, recorded.source), ("target", target, recorded.target)):
        if once is not None and model_hash(version, suite.directory) != once:
            yield f"the {what} has changed since the baseline was recorded"


def _errors(report: Report) -> Iterator[tuple[str, float, float]]:
    """The target's errors by output and kind of inputs, each with what it may be more in any case."""
    for output in report.outputs:
        for each in output.errors:
            yield f"{output.name}, {each.rule} inputs", _larger(each), EPSILONS * _epsilon(output)


def _larger(errors: Errors) -> float:
    return max(errors.target_l2, errors.target_max)


def _epsilon(output: OutputResult) -> float:
    import ml_dtypes
    import numpy as np

    try:
        return float(ml_dtypes.finfo(output.dtype).eps)
    except (ValueError, TypeError):
        return float(np.finfo(np.float32).eps)


def _ratios(report: Report) -> dict[str, tuple[float, float, float]]:
    """The ratios of times with the ends of their intervals, by the row that was measured."""
    if report.speed is None:
        return {}
    return {
        row.label: (row.ratio.estimate.value, row.ratio.estimate.low, row.ratio.estimate.high)
        for row in report.speed.rows
        if row.ratio is not None
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value


def plain(recorded: Recorded) -> dict[str, object]:
    """The record without what is missing; infinities, which JSON lacks, as text."""
    result: dict[str, object] = {}
    for key, value in dataclasses.asdict(recorded).items():
        if isinstance(value, dict):
            if value:
                result[key] = {name: _json(value[name]) for name in sorted(value)}
        elif value is not None:
            result[key] = _json(value)
    return result


def _json(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
