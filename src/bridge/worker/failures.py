"""How an error crosses from a worker to its parent: as a record, and back as the same class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bridge import errors
from bridge.errors import BridgeError, EnvironmentFailure, UnsupportedOp, UnsupportedOps

_EXTRAS = {"torch": "torch", "tensorflow": "tf", "keras": "tf", "tf2onnx": "tf"}


class WorkerTraceback(Exception):
    """The cause of an error that came from a worker: the worker's own traceback, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the worker:\n{self.text}"


def to_record(error: BaseException, trace: str) -> dict[str, Any]:
    """The JSON record of an error; an error that is not bridge's own keeps its class name and text."""
    record: dict[str, Any] = {"traceback": trace}
    if isinstance(error, BridgeError):
        known = next(each for each in type(error).__mro__ if getattr(errors, each.__name__, None) is each)
        record |= {
            "class": known.__name__,
            "message": error.message,
            "hint": error.hint,
            "where": error.where,
        }
        if isinstance(error, UnsupportedOps):
            record |= {"ops": [asdict(op) for op in error.ops], "target": error.target}
    else:
        record |= {"other": type(error).__name__, "message": str(error)}
        if isinstance(error, ModuleNotFoundError) and error.name:
            record["package"] = error.name.partition(".")[0]
        record["memory"] = isinstance(error, MemoryError)
    return record


def from_record(record: Mapping[str, Any], *, label: str) -> BridgeError:
    """The error of a record, with the worker's traceback as its cause.

    What is not a BridgeError becomes an EnvironmentFailure: the worker could not do its task for a
    reason that bridge does not know.
    """
    error = _own(record) if "class" in record else _foreign(record, label)
    error.__cause__ = WorkerTraceback(str(record.get("traceback", "")))
    return error


def _own(record: Mapping[str, Any]) -> BridgeError:
    if "ops" in record:
        ops = [UnsupportedOp(**{**op, "scopes": tuple(op["scopes"])}) for op in record["ops"]]
        error: BridgeError = UnsupportedOps(ops, target=record["target"], hint=record["hint"])
        error.where = record["where"]
        return error
    kind = getattr(errors, record["class"])
    error = kind.__new__(kind, record["message"])
    BridgeError.__init__(error, record["message"], hint=record["hint"], where=record["where"])
    return error


def _foreign(record: Mapping[str, Any], label: str) -> BridgeError:
    package = record.get("package")
    if package in _EXTRAS:
        return errors.MissingPackage(package, extra=_EXTRAS[package], why=f"the {label}")
    if record.get("memory"):
        return EnvironmentFailure(
            f"the {label} ran out of memory",
            hint="free some memory or use a machine with more",
        )
    message = str(record["message"]).strip().partition("\n")[0]
    return EnvironmentFailure(
        f"the {label} failed: {record['other']}: {message}".rstrip(": "),
        hint="run again with --debug to see where",
    )
