"""What came of one case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "random", "rounding", "wrong", "refused", "failed", "timed out", "crashed"]
VERDICTS: tuple[Verdict, ...] = (
    "passed",
    "random",
    "rounding",
    "wrong",
    "refused",
    "failed",
    "timed out",
    "crashed",
)
PASSES: tuple[Verdict, ...] = ("passed", "random")


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    `passed`: type, shape and values are right; `random`: type and shape are, and the values are drawn at
    random; `rounding`: values are beyond the case's tolerance, and at least as near to the exact ones as
    the case's own, which is no pass; `wrong`: an output is not right, without an error; `refused`: the
    engine says that it cannot; `failed`: an error that is no refusal; the last two are the end of the
    worker.
    `excluded` is why a mode's bar does not count the case; `seconds` is the time to convert it,
    `peer_seconds` a peer's in the same process.
    """

    case: str
    verdict: Verdict
    reason: str = ""
    excluded: str = ""
    seconds: float | None = None
    peer_seconds: float | None = None

    @property
    def passes(self) -> bool:
        return self.verdict in PASSES
