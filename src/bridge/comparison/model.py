"""What a comparison of one model in two frameworks finds: a typed model that every rendering reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bridge.errors import ExitCode
from bridge.verification.report.model import Report

SCHEMA = 1
FORMAT = "bridge.comparison"

Metric = Literal["accuracy", "mean absolute error"]
Choice = Literal["first", "second", "either", "depends", "open"]
"""Which framework to take: `either` where both are as fast, `depends` where each is faster at something."""


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Accuracy:
    """How well both versions do on data, and how often they agree.

    `samples` is how many there are, `output` which output was looked at. `agreement` is the share of samples
    for which both predict the same class; None where the output is no classification. `largest_difference`
    is between elements, relative to the largest of the source. `metric` is None without labels; then so are
    the rest. `p_value` is that of the difference: McNemar's exact test for classes, None for other metrics.
    `sentence` says what was found.
    """

    samples: int
    output: str
    largest_difference: float
    agreement: Interval | None
    metric: Metric | None
    first: Interval | None
    second: Interval | None
    p_value: float | None
    sentence: str


@dataclass(frozen=True)
class Conclusion:
    """The answer: `sentence` has it with its uncertainty, `points` what it rests on."""

    choice: Choice
    sentence: str
    points: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """One model in two frameworks, on this machine.

    `first` and `second` are what to call them; `report` is the verification of the second against the first,
    with the speed and memory of both, whose source is `first` and target `second`. `made` is what bridge
    converted for this, by its name. `accuracy` is None without data.
    """

    model: str
    first: str
    second: str
    made: tuple[str, ...]
    report: Report
    accuracy: Accuracy | None
    conclusion: Conclusion
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def exit_code(self) -> ExitCode:
        """That of the verification: two models that differ are not one model in two frameworks."""
        return self.report.exit_code

    def summary(self) -> str:
        """The comparison as text for a terminal."""
        from bridge.comparison.text import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values; its report is as of its own file."""
        rest = dataclasses.asdict(dataclasses.replace(self, report=None))  # type: ignore[arg-type]
        return {"format": FORMAT, "schema": SCHEMA, **rest, "report": self.report.to_dict()}

    def to_json(self, path: str | Path) -> None:
        """Write the comparison as JSON."""
        from bridge.verification.report.json import dump

        Path(path).write_text(dump(self.to_dict()), encoding="utf-8")

    def to_html(self, path: str | Path) -> None:
        """Write the comparison as one self-contained HTML page."""
        from bridge.verification.report.html import render_comparison

        Path(path).write_text(render_comparison(self), encoding="utf-8")
