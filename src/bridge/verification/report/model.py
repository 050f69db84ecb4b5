"""The result of a verification: one typed model that every rendering reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import ExitCode
from bridge.verification.compare import OutputResult, Verdict
from bridge.verification.gradients import GradientsResult
from bridge.verification.localise import Localisation
from bridge.verification.matching import Suspect, ValueMatch
from bridge.verification.report.depth import Depth
from bridge.verification.report.environment import Environment
from bridge.verification.report.structure import Structure
from bridge.verification.speed.result import SpeedResult
from bridge.verification.training import TrainingResult
from bridge.verification.weights import WeightsResult

SCHEMA = 2
"""The version of the JSON form; a change that a reader of it would misread increases it."""


@dataclass(frozen=True)
class SideReport:
    """One version of the model: where it is, and which object was run, in words."""

    path: str
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputReport:
    """An input of a draw."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DrawReport:
    """One set of inputs that both versions were run with."""

    name: str
    rule: str
    inputs: tuple[InputReport, ...]


@dataclass(frozen=True)
class Timing:
    """Wall seconds, peak resident bytes, and when it started (ISO 8601, UTC), empty where that is not known.

    With `Report.speed` it is the only part of a report that differs between equal runs.
    """

    total_seconds: float
    source_seconds: float
    target_seconds: float
    source_peak_bytes: int
    target_peak_bytes: int
    started: str = ""


@dataclass(frozen=True)
class MatchedWeights:
    """Weights of two models that bridge did not convert, matched by their values.

    `tensors` of the target have a counterpart of equal bits, up to an order of axes or elements. `suspects`
    nearly have one; where they `decide`, they are differences.
    """

    tensors: int
    elements: int
    rearranged: tuple[str, ...]
    ambiguous: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    unmatched_source: tuple[str, ...]
    unmatched_target: tuple[str, ...]

    @classmethod
    def of(cls, match: ValueMatch | None) -> MatchedWeights | None:
        if match is None:
            return None
        return cls(
            match.matched,
            match.elements,
            match.rearranged,
            match.ambiguous,
            match.suspects,
            match.unmatched_source,
            match.unmatched_target,
        )

    @property
    def passed(self) -> bool:
        return not any(each.decides for each in self.suspects)


@dataclass(frozen=True)
class Report:
    """Whether two versions of a model are equivalent, and what that rests on.

    `reference` says what the outputs were held against, `reasons` why the verdict is not "equivalent".
    `weights` is the comparison through the weight map of a converted model, `matched_weights` that by
    values of two models that bridge did not convert; where both are None, `weights_note` says why.
    `gradients`, `training` and `speed` are None where they were not asked for, `localisation` where nothing
    differs or the first wrong node could not be found. `depth` has the errors of the values inside, where
    they were looked at; `structure` the names of weights and modules on both sides, `environment` what it
    ran in and the hashes of what was compared. Both are None where a worker failed before.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    source: SideReport
    target: SideReport
    seed: int
    reference: str
    outputs: tuple[OutputResult, ...] = ()
    draws: tuple[DrawReport, ...] = ()
    weights: WeightsResult | None = None
    matched_weights: MatchedWeights | None = None
    weights_note: str = ""
    gradients: GradientsResult | None = None
    training: TrainingResult | None = None
    localisation: Localisation | None = None
    speed: SpeedResult | None = field(compare=False, default=None)
    depth: Depth | None = None
    structure: Structure | None = None
    environment: Environment | None = None
    notes: tuple[str, ...] = ()
    timing: Timing = field(compare=False, default=Timing(0.0, 0.0, 0.0, 0, 0))

    @property
    def passed(self) -> bool:
        return self.verdict == "equivalent"

    @property
    def exit_code(self) -> ExitCode:
        """What the command line exits with: a difference is never the same as "could not be checked"."""
        codes: dict[Verdict, ExitCode] = {
            "equivalent": ExitCode.OK,
            "different": ExitCode.DIFFERENT,
            "could not be checked": ExitCode.ENVIRONMENT,
        }
        return codes[self.verdict]

    def summary(self) -> str:
        """The report as text for a terminal, without colours."""
        from bridge.verification.report.text import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; docs/reports.md describes the schema."""
        from bridge.verification.report.json import to_dict

        return to_dict(self)

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read what `to_json` wrote. Raises InputError where that is not what the file holds."""
        from bridge.verification.report.json import read_report

        return read_report(Path(path))

    def to_json(self, path: str | Path) -> None:
        """Write the report as JSON. Equal inputs, versions and seed give equal bytes but for `timing`."""
        from bridge.verification.report.json import dump

        Path(path).write_text(dump(self.to_dict()), encoding="utf-8")

    def to_junit(self, path: str | Path) -> None:
        """Write the report as JUnit XML: a test case an output, and one for the weights."""
        from bridge.verification.report.junit import render

        Path(path).write_text(render(self), encoding="utf-8")

    def to_markdown(self, path: str | Path) -> None:
        """Write the report as a comment for a pull request, within GitHub's limit of its length."""
        from bridge.verification.report.markdown import render

        Path(path).write_text(render(self), encoding="utf-8")

    def to_sarif(self, path: str | Path) -> None:
        """Write what differs as SARIF 2.1.0, for code scanning, at the first wrong node's line."""
        from bridge.verification.report.sarif import render

        Path(path).write_text(render(self), encoding="utf-8")

    def to_html(self, path: str | Path) -> None:
        """Write the report as one self-contained HTML page."""
        from bridge.verification.report.html import render

        Path(path).write_text(render(self), encoding="utf-8")

    def annotations(self) -> str:
        """What differs as workflow commands, which GitHub shows at the line of the first wrong node."""
        from bridge.verification.report.github import render

        return render(self)
