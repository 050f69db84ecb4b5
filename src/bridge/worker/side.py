"""The parent's end of a verification worker: one model, loaded in a process of its own.

Requests are queued and answered in order, so that two sides work at the same time without threads.
docs/worker-protocol.md specifies the messages.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from bridge.errors import BridgeError, EnvironmentFailure
from bridge.worker import standalone
from bridge.worker.failures import WorkerFailure, from_record
from bridge.worker.process import WorkerProcess

Array = np.ndarray[Any, np.dtype[Any]]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TensorSpec:
    """An input as its model declares it: a dynamic axis is a name or None, an unknown rank `shape=None`.

    `limit` is the exclusive upper bound of ids, where the graph shows one; an `optional` input has a default.
    `bounds` are the least and greatest sizes (None: unknown) of dynamic axes that do not take every size.
    """

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None
    limit: int | None = None
    optional: bool = False
    bounds: Mapping[int, tuple[int, int | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadCost:
    """What loading took: the framework's import and the model apart, in seconds and resident bytes.

    `import_bytes` are those of the process before the model was loaded, `loaded_bytes` those after, and
    `peak_bytes` the most in between.
    """

    import_seconds: float = 0.0
    load_seconds: float = 0.0
    import_bytes: int = 0
    loaded_bytes: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Description:
    """What a worker has loaded: `what` says which object is run, in words.

    `outputs` is None where the model has no names for them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] | None
    what: str
    notes: tuple[str, ...]
    cost: LoadCost = LoadCost()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Description:
        inputs = tuple(
            TensorSpec(
                each["name"],
                each["dtype"],
                None if each["shape"] is None else tuple(each["shape"]),
                each.get("limit"),
                each.get("optional", False),
                {axis: (least, most) for axis, least, most in each.get("bounds") or ()},
            )
            for each in record["inputs"]
        )
        outputs = None if record["outputs"] is None else tuple(record["outputs"])
        return cls(
            inputs, outputs, record["what"], tuple(record["notes"]), LoadCost(**record.get("cost", {}))
        )


@dataclass(frozen=True)
class HandedOver:
    """What a side wrote for the readers of this environment: where it is, its format, notes for the user."""

    path: str
    format: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One answered run: the outputs in the model's order (mapped from their file), and its cost."""

    outputs: list[Array]
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Gradients:
    """One answered vector-Jacobian product, in float64; a gradient that does not exist is absent.

    `buffers` are the weights that are known to be no parameters.
    """

    outputs: list[Array]
    inputs: dict[str, Array]
    weights: dict[str, Array]
    buffers: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Trained:
    """One answered training, in float64.

    `losses` and `gradient_norms` are those before each step, `state` all weights and statistics after the
    last, `trained` the names of the weights that had a gradient, `buffers` those that are known to be no
    parameters.
    """

    losses: Array
    gradient_norms: Array
    state: dict[str, Array]
    trained: tuple[str, ...]
    buffers: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class OpenTiming:
    """A model that is ready to be timed in one way.

    `timed` says in words what lies between two readings of the clock. `within` and `between` are the
    threads of one operator and those that run operators side by side, None where nobody knows.
    """

    number: int
    first_seconds: float
    timed: str
    device: str
    within: int | None
    between: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TimedBlock:
    """Calls that were timed one after the other: wall `seconds` of each, and what all of them took.

    `cpu` is the processor time of all threads, `waited` how long they were ready and had no processor (None
    where the system does not tell), `device_seconds` the calls on the accelerator's own clock.
    """

    seconds: tuple[float, ...]
    wall: float
    cpu: float
    waited: float | None
    device_seconds: tuple[float, ...] | None


_PATIENT = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait leave the processor to the other side, which computes at the same time."""


class Side:
    """A worker process with one model; a context manager.

    `label` names it in messages. `threads` is how many threads its framework computes with. It sees
    no GPU unless its `device` is another than the CPU.
    `python` is another interpreter, with numpy and the framework that the loader needs. `prepared` is the
    kind of prepared process that may be forked instead of starting one (`bridge.worker.launch`). `alone`: no
    other side computes at the same time, so that threads may wait as the framework has them wait.
    `environment` are more variables of the worker's environment.
    Every method that waits raises WorkerFailure where the worker dies or `timeout` seconds pass,
    counted from the creation of the side.
    """

    def __init__(
        self,
        *,
        label: str,
        threads: int,
        timeout: float | None = None,
        python: str | None = None,
        prepared: str | None = None,
        alone: bool = False,
        environment: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> None:
        self.label = label
        self._python = python
        self._alone = alone
        self._deadline = None if timeout is None else time.monotonic() + timeout
        count = str(threads)
        self._worker = WorkerProcess(
            [python or sys.executable, standalone.__file__],
            label=label,
            environment={
                **({"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {}),
                "MKL_NUM_THREADS": count,
                "OMP_NUM_THREADS": count,
                "OPENBLAS_NUM_THREADS": count,
                "TF_NUM_INTEROP_THREADS": "1",
                "TF_NUM_INTRAOP_THREADS": count,
                **({} if alone else _PATIENT),
                **(environment or {}),
            },
            program="side",
            prepared=prepared,
        )
        self._sent = 0
        self._replies: dict[int, Mapping[str, Any]] = {}
        self._greeted = False

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, whatever it is doing, and remove its files."""
        self._worker.close()

    @property
    def alive(self) -> bool:
        """Whether the worker's process is running."""
        return self._worker.alive

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
                raise WorkerFailure(f"the {self.label} answered a request that was not made")
        reply = self._replies.pop(number)
        if "error" in reply:
            raise self._error(reply["error"])
        return reply["ok"]

    def _error(self, record: Mapping[str, Any]) -> BridgeError:
        error = from_record(record, label=self.label)
        package = record.get("package")
        if self._python is None or not package or "ModuleNotFoundError" not in record["classes"]:
            return error
        missing = EnvironmentFailure(
            f"the environment of the {self.label} has no package {package!r}",
            hint="put it into the requirements, or name the interpreter of an environment that has it",
            where=self._python,
        )
        missing.__cause__ = error.__cause__
        return missing

    def _check_greeting(self, message: Mapping[str, Any]) -> None:
        protocol = message.get("hello", {}).get("protocol")
        if protocol != standalone.PROTOCOL:
            raise WorkerFailure(
                f"the {self.label} speaks version {protocol} of the protocol, not {standalone.PROTOCOL}"
            )
        self._greeted = True

    def restart_clock(self, timeout: float | None) -> None:
        """Count `timeout` seconds from now on."""
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def _answer(self, number: int, parse: Callable[[Any], Answer]) -> Answer:
        """What `parse` makes of an answer; an answer that it cannot read is the worker's failure."""
        reply = self.result(number)
        try:
            return parse(reply)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise WorkerFailure(
                f"the {self.label} gave an answer that cannot be read ({type(error).__name__}: {error})",
                hint="look at the model's code and at what its environment has installed",
            ) from error

    def submit_load(self, loader: str, request: Any) -> int:
        """Queue loading a model with `loader` (`package.module:function`); the answer is a Description."""
        path = [os.getcwd()]
        more: dict[str, Any] = {"settle": True} if self._alone else {}
        if self._python is not None:
            more["packages"] = standalone_packages()
        else:
            path += [os.path.abspath(entry) for entry in sys.path if entry]
        return self.submit("load", loader=loader, request=request, path=path, **more)

    def submit_hand_over(self, directory: Path) -> int:
        """Queue writing the model into an existing directory, in a form that this environment reads."""
        return self.submit("hand_over", directory=str(directory))

    def handed_over(self, number: int) -> HandedOver:
        """Wait for the answer to a `submit_hand_over`. Raises Unavailable where the side cannot do it."""
        return self._answer(
            number, lambda reply: HandedOver(str(reply["path"]), str(reply["format"]), tuple(reply["notes"]))
        )

    def description(self, number: int) -> Description:
        """Wait for the answer to a `load`."""
        return self._answer(number, Description.from_json)

    def submit_run(self, inputs: Path, name: str, *, fp64: bool = False) -> int:
        """Queue a run with the tensors of the file `inputs`; `name` tells the runs of a side apart."""
        operation = "run_fp64" if fp64 else "run"
        return self.submit(operation, inputs=str(inputs), outputs=str(self._output_file(name, fp64)))

    def outputs(self, number: int, name: str, *, fp64: bool = False) -> Run:
        """Wait for the answer to a run."""
        return self._run(number, self._output_file(name, fp64))

    def _run(self, number: int, file: Path) -> Run:
        def parse(reply: Mapping[str, Any]) -> Run:
            tensors = standalone.read_tensors(str(file))
            arrays = [tensors[str(position)] for position in range(reply["count"])]
            return Run(arrays, float(reply["seconds"]), int(reply["peak_bytes"]))

        return self._answer(number, parse)

    def _output_file(self, name: str, fp64: bool) -> Path:
        return self.scratch / f"{name}.{'fp64' if fp64 else 'out'}.safetensors"

    def submit_noisy(self, inputs: Path, name: str, *, unit: float, seed: int) -> int:
        """Queue a run in float64 with every result of every operation off by up to `unit`, relatively."""
        outputs = str(self.scratch / f"{name}.noisy.safetensors")
        return self.submit("run_noisy", inputs=str(inputs), outputs=outputs, unit=unit, seed=seed)

    def noisy(self, number: int, name: str) -> Run:
        """Wait for the answer to a `submit_noisy`. Raises Unavailable where the side cannot do it."""
        return self._run(number, self.scratch / f"{name}.noisy.safetensors")

    def submit_gradients(self, inputs: Path, cotangents: Path, name: str, *, training: bool = False) -> int:
        """Queue the gradients of all floating inputs and trainable weights, in float64.

        `cotangents` is a file of arrays by output position: what the gradients are multiplied with. An
        output without one takes no part. `training` is the mode of BatchNormalization.
        """
        return self.submit(
            "gradients",
            inputs=str(inputs),
            cotangents=str(cotangents),
            results=str(self.scratch / f"{name}.gradients.safetensors"),
            training=training,
        )

    def gradients(self, number: int, name: str) -> Gradients:
        """Wait for gradients. Raises Unavailable where the side cannot compute them."""

        def parse(reply: Mapping[str, Any]) -> Gradients:
            tensors = standalone.read_tensors(str(self.scratch / f"{name}.gradients.safetensors"))
            return Gradients(
                [tensors[f"output:{position}"] for position in range(reply["count"])],
                _with_prefix(tensors, "input:"),
                _with_prefix(tensors, "weight:"),
                tuple(reply["buffers"]),
                reply["seconds"],
            )

        return self._answer(number, parse)

    def submit_train(
        self,
        batches: Path,
        name: str,
        *,
        rate: float,
        momentum: float = 0.9,
        training: bool = True,
        start: Path | None = None,
        fixed: Sequence[str] = (),
    ) -> int:
        """Queue a training in float64 from the model's weights; the model has them again afterwards.

        `batches` is a file of arrays `input:STEP:NAME` and `target:STEP:POSITION`, `start` one of weights
        to assign first, `fixed` the weights that are not trained.
        """
        return self.submit(
            "train",
            batches=str(batches),
            results=str(self.scratch / f"{name}.train.safetensors"),
            rate=rate,
            momentum=momentum,
            training=training,
            start=None if start is None else str(start),
            fixed=list(fixed),
        )

    def trained(self, number: int, name: str) -> Trained:
        """Wait for the answer to a training. Raises Unavailable where the side cannot train."""

        def parse(reply: Mapping[str, Any]) -> Trained:
            tensors = standalone.read_tensors(str(self.scratch / f"{name}.train.safetensors"))
            return Trained(
                tensors["losses"],
                tensors["gradient_norms"],
                _with_prefix(tensors, "weight:"),
                tuple(reply["trained"]),
                tuple(reply["buffers"]),
                reply["seconds"],
            )

        return self._answer(number, parse)

    def open_timing(self, inputs: Path, *, training: bool = False, compiled: bool = False) -> OpenTiming:
        """Make the model ready to be timed on the tensors of the file `inputs`, calling it once.

        Raises Unavailable where the side cannot be run this way.
        """

        def parse(reply: Mapping[str, Any]) -> OpenTiming:
            within, between = reply["threads"]
            return OpenTiming(
                int(reply["timing"]),
                float(reply["first_seconds"]),
                reply["timed"],
                reply["device"],
                within,
                between,
                tuple(reply["notes"]),
            )

        number = self.submit("open_timing", inputs=str(inputs), training=training, compiled=compiled)
        return self._answer(number, parse)

    def time(self, timing: int, calls: int, group: int = 1) -> TimedBlock:
        """Time `calls` times `group` calls, each group as one."""

        def parse(reply: Mapping[str, Any]) -> TimedBlock:
            on_device = reply["device_seconds"]
            return TimedBlock(
                tuple(map(float, reply["seconds"])),
                float(reply["wall"]),
                float(reply["cpu"]),
                None if reply["waited"] is None else float(reply["waited"]),
                None if on_device is None else tuple(map(float, on_device)),
            )

        return self._answer(self.submit("time", timing=timing, calls=calls, group=group), parse)

    def close_timing(self, timing: int) -> tuple[int, int | None]:
        """End a timing; the most resident memory since it was opened, and the most on the accelerator."""
        return self._answer(
            self.submit("close_timing", timing=timing),
            lambda reply: (int(reply["peak_bytes"]), reply["device_peak_bytes"]),
        )

    def submit_weights(self) -> int:
        """Queue writing the model's trained tensors to a file."""
        return self.submit("weights", file=str(self.scratch / "weights.safetensors"))

    def weights(self, number: int) -> dict[str, Array] | None:
        """Wait for the tensors, by the framework's own names; None where the side has no names for them."""

        def parse(reply: Mapping[str, Any]) -> dict[str, Array] | None:
            if not reply["available"]:
                return None
            return standalone.read_tensors(str(self.scratch / "weights.safetensors"))

        return self._answer(number, parse)


def standalone_packages() -> dict[str, str]:
    """Where the modules of bridge lie that also run in an old environment, by package."""
    converters = importlib.util.find_spec("bridge_converters")
    assert converters is not None
    assert converters.submodule_search_locations is not None
    own = str(Path(__file__).resolve().parent.parent)
    return {"bridge": own, "bridge_converters": next(iter(converters.submodule_search_locations))}


def _with_prefix(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}
