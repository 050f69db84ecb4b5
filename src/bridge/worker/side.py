"""The parent's end of a verification worker: one model, loaded in a process of its own.

Requests are queued and answered in order, so that two sides work at the same time without threads.
docs/worker-protocol.md specifies the messages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bridge.errors import EnvironmentFailure
from bridge.worker import standalone
from bridge.worker.failures import from_record
from bridge.worker.process import WorkerProcess

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """An input as its model declares it: a dynamic axis is a name or None, an unknown rank `shape=None`."""

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Description:
    """What a worker has loaded: `what` says which object is run, in words.

    `outputs` is None where the model has no names for them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] | None
    what: str
    notes: tuple[str, ...]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Description:
        inputs = tuple(
            TensorSpec(each["name"], each["dtype"], None if each["shape"] is None else tuple(each["shape"]))
            for each in record["inputs"]
        )
        outputs = None if record["outputs"] is None else tuple(record["outputs"])
        return cls(inputs, outputs, record["what"], tuple(record["notes"]))


@dataclass(frozen=True)
class Run:
    """One answered run: the outputs in the model's order (mapped from their file), and its cost."""

    outputs: list[Array]
    seconds: float
    peak_bytes: int


class Side:
    """A worker process with one model; a context manager.

    `label` names it in messages. `threads` is how many threads its framework computes with, on the CPU:
    float32 on a GPU may be rounded to fewer bits, and differs from run to run.
    `python` is another interpreter, with numpy and the framework that the loader needs.
    Every method that waits raises EnvironmentFailure where the worker dies or `timeout` seconds pass,
    counted from the creation of the side.
    """

    def __init__(
        self, *, label: str, threads: int, timeout: float | None = None, python: str | None = None
    ) -> None:
        self.label = label
        self._python = python
        self._deadline = None if timeout is None else time.monotonic() + timeout
        count = str(threads)
        self._worker = WorkerProcess(
            [python or sys.executable, standalone.__file__],
            label=label,
            environment={
                "CUDA_VISIBLE_DEVICES": "-1",
                "GOMP_SPINCOUNT": "0",
                "MKL_NUM_THREADS": count,
                "OMP_NUM_THREADS": count,
                "OMP_WAIT_POLICY": "PASSIVE",
                "OPENBLAS_NUM_THREADS": count,
                "TF_NUM_INTEROP_THREADS": "1",
                "TF_NUM_INTRAOP_THREADS": count,
            },
        )
        self._sent = 0
        self._replies: dict[int, Mapping[str, Any]] = {}
        self._greeted = False

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.close()

    @property
    def scratch(self) -> Path:
        """A directory for tensor files; it is removed with the worker."""
        return self._worker.scratch

    def submit(self, operation: str, **arguments: Any) -> int:
        """Queue a request; the number is what `result` takes."""
        self._sent += 1
        self._worker.send({"id": self._sent, "op": operation, **arguments})
        return self._sent

    def result(self, number: int) -> Any:
        """Wait for the answer to a request.

        Raises what the worker raised, as `bridge.worker.failures.from_record` turns it into an error.
        """
        while number not in self._replies:
            message = self._worker.receive(deadline=self._deadline)
            if not self._greeted:
                self._check_greeting(message)
            elif isinstance(message.get("id"), int) and ("ok" in message or "error" in message):
                self._replies[message["id"]] = message
            else:
                raise EnvironmentFailure(f"the {self.label} answered a request that was not made")
        reply = self._replies.pop(number)
        if "error" in reply:
            raise from_record(reply["error"], label=self.label)
        return reply["ok"]

    def _check_greeting(self, message: Mapping[str, Any]) -> None:
        protocol = message.get("hello", {}).get("protocol")
        if protocol != standalone.PROTOCOL:
            raise EnvironmentFailure(
                f"the {self.label} speaks version {protocol} of the protocol, not {standalone.PROTOCOL}"
            )
        self._greeted = True

    def submit_load(self, loader: str, request: Any) -> int:
        """Queue loading a model with `loader` (`package.module:function`); the answer is a Description."""
        path = [os.getcwd()]
        if self._python is None:
            path += [os.path.abspath(entry) for entry in sys.path if entry]
        return self.submit("load", loader=loader, request=request, path=path)

    def description(self, number: int) -> Description:
        """Wait for the answer to a `load`."""
        return Description.from_json(self.result(number))

    def submit_run(self, inputs: Path, name: str, *, fp64: bool = False) -> int:
        """Queue a run with the tensors of the file `inputs`; `name` tells the runs of a side apart."""
        operation = "run_fp64" if fp64 else "run"
        return self.submit(operation, inputs=str(inputs), outputs=str(self._output_file(name, fp64)))

    def outputs(self, number: int, name: str, *, fp64: bool = False) -> Run:
        """Wait for the answer to a run."""
        reply = self.result(number)
        tensors = standalone.read_tensors(str(self._output_file(name, fp64)))
        arrays = [tensors[str(position)] for position in range(reply["count"])]
        return Run(arrays, reply["seconds"], reply["peak_bytes"])

    def _output_file(self, name: str, fp64: bool) -> Path:
        return self.scratch / f"{name}.{'fp64' if fp64 else 'out'}.safetensors"

    def submit_weights(self) -> int:
        """Queue writing the model's trained tensors to a file."""
        return self.submit("weights", file=str(self.scratch / "weights.safetensors"))

    def weights(self, number: int) -> dict[str, Array] | None:
        """Wait for the tensors, by the framework's own names; None where the side has no names for them."""
        if not self.result(number)["available"]:
            return None
        return standalone.read_tensors(str(self.scratch / "weights.safetensors"))
