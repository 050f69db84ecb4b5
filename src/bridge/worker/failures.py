"""How an error of a worker becomes one of its parent: the same class, with the worker's traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridge import errors
from bridge.errors import BridgeError, EnvironmentFailure, UnsupportedOp, UnsupportedOps

_OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
_ALLOCATION = re.compile("can't allocate memory|bad_alloc|Failed to allocate memory", re.IGNORECASE)
_EXTRAS = {"torch": "torch", "tensorflow": "tf", "keras": "tf", "tf2onnx": "tf"}


class WorkerTraceback(Exception):
    """The cause of an error that came from a worker: the worker's own traceback, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the worker:\n{self.text}"


class WorkerFailure(EnvironmentFailure):
    """A worker that could not do its task: it died, hung, ran out of memory or answered nonsense.

    The hint ends with the worker's last output.
    """


class TaskFailure(WorkerFailure):
    """An exception in a worker that is not bridge's own: `text` is its class and first line."""

    def __init__(self, text: str, *, label: str) -> None:
        super().__init__(f"the {label} failed: {text}", hint="run again with --debug to see where")
        self.text = text


class Unavailable(TaskFailure):
    """An operation that a side does not offer (NotImplementedError): `reason` says why."""

    def __init__(self, reason: str, *, label: str) -> None:
        super().__init__(f"NotImplementedError: {reason}".rstrip(": "), label=label)
        self.reason = reason


def from_record(record: Mapping[str, Any], *, label: str) -> BridgeError:
    """The error that `bridge.worker.standalone.error_record` describes, its traceback as its cause.

    A BridgeError of any kind keeps its class, or the nearest of its base classes that `bridge.errors`
    has. Everything else becomes an EnvironmentFailure: the worker could not do its task for a reason
    that bridge does not know. `label` names the worker.
    """
    kinds = (getattr(errors, name, None) for name in record["classes"])
    kind = next((each for each in kinds if isinstance(each, type) and issubclass(each, BridgeError)), None)
    error = _foreign(record, label) if kind is None else _own(kind, record)
    error.__cause__ = WorkerTraceback(str(record["traceback"]))
    return error


def _own(kind: type[BridgeError], record: Mapping[str, Any]) -> BridgeError:
    if kind is UnsupportedOps:
        ops = [UnsupportedOp(**{**op, "scopes": tuple(op["scopes"])}) for op in record["ops"]]
        error: BridgeError = UnsupportedOps(ops, target=record["target"], hint=record["hint"])
        error.where = record["where"]
        return error
    error = kind.__new__(kind, record["message"])
    BridgeError.__init__(error, record["message"], hint=record["hint"], where=record["where"])
    return error


def _foreign(record: Mapping[str, Any], label: str) -> BridgeError:
    package = record.get("package")
    if package in _EXTRAS and "ModuleNotFoundError" in record["classes"]:
        return errors.MissingPackage(package, extra=_EXTRAS[package], why=f"the {label}")
    message = str(record["message"]).strip().partition("\n")[0]
    if not _OUT_OF_MEMORY.isdisjoint(record["classes"]) or _ALLOCATION.search(message):
        return WorkerFailure(
            f"the {label} ran out of memory", hint="free some memory, or use a machine with more"
        )
    if "NotImplementedError" in record["classes"]:
        return Unavailable(message, label=label)
    return TaskFailure(f"{record['classes'][0]}: {message}".rstrip(": "), label=label)
