"""The errors a user can meet: what failed, where, why, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; a CI job tells "wrong" from "could not run" by them."""

    OK = 0
    DIFFERENT = 1
    CANNOT = 2
    ENVIRONMENT = 3


class BridgeError(Exception):
    """A request that cannot be done: bad input, unsupported operator, bad usage.

    `message` is one sentence without a final full stop, `hint` says what to do next (a command or a
    snippet where there is one), `where` names the file, node or source line.
    """

    exit_code = ExitCode.CANNOT

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\nhint: {self.hint}" if self.hint else text


class InputError(BridgeError):
    """The file, object or argument that the user gave cannot be read as what it should be."""


class TrustError(InputError):
    """Reading the file would run code that is stored in it, and the user did not say `--trust`."""


class OutputError(BridgeError):
    """The output cannot be written where the user asked."""


@dataclass(frozen=True)
class UnsupportedOp:
    """One kind of node that cannot be lowered: its operator, why, how often, and where."""

    op_type: str
    domain: str
    reason: str
    count: int
    scopes: tuple[str, ...] = ()


class UnsupportedOps(BridgeError):
    """Every operator of a model that the target cannot express, all at once."""

    def __init__(self, ops: Sequence[UnsupportedOp], *, target: str, hint: str | None = None) -> None:
        self.ops = tuple(ops)
        self.target = target
        lines = [f"{len(self.ops)} kind(s) of operator cannot be converted to {target}:"]
        for op in self.ops:
            name = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
            places = f" in {', '.join(op.scopes[:3])}" if op.scopes else ""
            lines.append(f"  {name} x{op.count}{places}: {op.reason}")
        super().__init__("\n".join(lines), hint=hint)


class EnvironmentFailure(BridgeError):
    """Something outside bridge failed: a missing package, no memory, a worker that died."""

    exit_code = ExitCode.ENVIRONMENT


class MissingPackage(EnvironmentFailure):
    """A framework is needed and not installed."""

    def __init__(self, package: str, *, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed",
            hint=f"pip install 'bridge-ml[{extra}]'",
        )
