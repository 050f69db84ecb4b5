"""The part of a worker that runs anywhere: Python 3.7 or newer, the standard library, and numpy.

As a program, `python standalone.py REPLY_FD`, it is a side of a verification: one loaded model that is
asked for its signature, its weights and its outputs. docs/worker-protocol.md is its specification. It
imports nothing of bridge itself, so that it also runs inside the environment of an old framework; what
knows a framework is the loader that the first request names.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import select
import signal
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Mapping
from typing import Any

PROTOCOL = 1
"""The version of the protocol; a change that an older peer would misread increases it."""

_SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "BRIDGE_F8_E4M3FNUZ": "float8_e4m3fnuz",
    "BRIDGE_F8_E5M2FNUZ": "float8_e5m2fnuz",
    "BRIDGE_F6_E2M3": "float6_e2m3fn",
    "BRIDGE_F6_E3M2": "float6_e3m2fn",
    "BRIDGE_F4_E2M1": "float4_e2m1fn",
    "BRIDGE_I4": "int4",
    "BRIDGE_U4": "uint4",
    "BRIDGE_I2": "int2",
    "BRIDGE_U2": "uint2",
}
"""Codes of safetensors, and for what workers exchange those that it lacks, one element to a byte."""
_LARGEST_HEADER = 100 * 2**20


def end_with_parent(reply_fd: int) -> None:
    """End this process group as soon as nobody can read the reply pipe any more.

    The parent cannot promise to end its workers (it may be killed itself), the pipe can.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(reply_fd, 0)  # an error or a hang-up is reported in any case
        poll.poll()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if os.getpgrp() == os.getpid():
        threading.Thread(target=watch, daemon=True).start()


def detach_stdin() -> None:
    """Make later reads of stdin see its end, so that no code of a model waits for input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def peak_memory() -> int:
    """The largest resident size this process has had, in bytes.

    Linux carries `ru_maxrss` over from the process that forked this one, so the high-water mark of
    this program is read from /proc where there is one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int:
    """The resident size of this process now, in bytes; where /proc does not tell, the largest so far."""
    try:
        with open("/proc/self/statm", encoding="ascii") as status:
            return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory()


def restart_peak_memory() -> bool:
    """Let `peak_memory` count from now on; False where the system cannot do that (Linux can)."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as switch:
            switch.write("5")
        return True
    except OSError:
        return False


def return_memory() -> None:
    """Give what nothing refers to any more back to the system, as far as the C library can (glibc)."""
    import ctypes

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def waiting_time() -> float | None:
    """Seconds that the threads of this process have been ready to run and had no processor.

    None where the system does not tell; see Documentation/scheduler/sched-stats in the sources of Linux.
    """
    found = []
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        return None
    for thread in threads:
        try:
            with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as statistics:
                found.append(int(statistics.read().split()[1]))
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
    return sum(found) / 1e9 if found else None


def error_record(error: BaseException) -> dict[str, Any]:
    """An error as a JSON object: the names of its classes, its text, and the traceback as text.

    What bridge's own errors carry (`message`, `hint`, `where`, `ops`, `target`) is kept.
    """
    record: dict[str, Any] = {
        "classes": [each.__name__ for each in type(error).__mro__[:-2]],
        "message": str(getattr(error, "message", error)),
        "hint": getattr(error, "hint", None),
        "where": getattr(error, "where", None),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }
    if isinstance(error, ImportError):
        record["package"] = (error.name or "").split(".")[0]
    if hasattr(error, "ops") and hasattr(error, "target"):
        record["ops"] = [vars(op) for op in error.ops]
        record["target"] = error.target
    return record


def dtype_named(name: str) -> Any:
    """The numpy dtype of a name; those that numpy lacks need the package ml_dtypes."""
    import numpy as np

    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def write_tensors(path: str, tensors: Mapping[str, Any], contiguous: Any = None) -> None:
    """Write numpy arrays to a safetensors file, copying one at a time if it is not in C order.

    `contiguous` is the function that copies, by default numpy's. Raises TypeError for a dtype that the
    format lacks.
    """
    import numpy as np

    if contiguous is None:
        contiguous = np.ascontiguousarray

    codes = {name: code for code, name in _SAFETENSORS_DTYPES.items()}
    header = {}
    blocks = []
    offset = 0
    for name, value in tensors.items():
        array = np.asarray(value)
        if array.dtype.name not in codes:
            raise TypeError(f"{name!r} has the dtype {array.dtype}, which safetensors lacks")
        end = offset + array.nbytes
        header[name] = {
            "dtype": codes[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        blocks.append(array)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for block in blocks:
            array = contiguous(block.astype(block.dtype.newbyteorder("<"), copy=False))
            file.write(array.tobytes() if block.ndim == 0 else array.reshape(-1).view(np.uint8).data)


def read_tensors(path: str, writable: bool = False) -> dict[str, Any]:
    """The numpy arrays of a safetensors file, mapped from it, or copied into memory if `writable`.

    Raises ValueError on a file that is not one.
    """
    import numpy as np

    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _LARGEST_HEADER):
            raise ValueError(f"{path} is not a safetensors file")
        header = json.loads(file.read(length).decode("utf-8"))
    first = 8 + length
    data = np.memmap(path, np.uint8, "r", offset=first) if size > first else np.empty(0, np.uint8)
    tensors = {}
    for name, record in header.items():
        if name == "__metadata__":
            continue
        if record["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError("{}: {!r} has the unknown dtype {}".format(path, name, record["dtype"]))
        dtype = dtype_named(_SAFETENSORS_DTYPES[record["dtype"]])
        shape = tuple(record["shape"])
        low, high = record["data_offsets"]
        count = 1
        for extent in shape:
            count *= extent
        if not (0 <= low <= high <= data.size and high - low == count * dtype.itemsize):
            raise ValueError(f"{path}: {name!r} does not fit into the file")
        array = np.asarray(data[low:high])
        # Views of a misaligned buffer are slow in some kernels and refused by others.
        array = array.view(dtype) if not writable and low % dtype.itemsize == 0 else array.copy().view(dtype)
        tensors[name] = array.reshape(shape)
    return tensors


def make_package(name: str, directory: str) -> None:
    """Let the modules of a directory be imported as a package, and nothing else that lies beside it.

    The package's own `__init__` is not run. In an old environment the directory that holds bridge holds
    packages for another interpreter too, which must not be found.
    """
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [directory]
        sys.modules[name] = package


class Side:
    """A loaded model behind the requests of the protocol; each method answers one of them."""

    def __init__(self) -> None:
        self._model: Any = None
        self._timings: dict[int, Any] = {}

    def load(
        self,
        loader: str,
        request: Any,
        path: list[str],
        packages: Mapping[str, str] | None = None,
        settle: bool = False,
    ) -> dict[str, Any]:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        for name, directory in (packages or {}).items():
            make_package(name, directory)
        module, _, function = loader.partition(":")
        started = time.perf_counter()
        load = getattr(importlib.import_module(module), function)
        imported = time.perf_counter()
        if settle:
            return_memory()
        before = resident_memory()
        restart_peak_memory()
        loading = time.perf_counter()
        self._model = load(request)
        loaded = time.perf_counter()
        # A user's module imports its framework while the model is loaded.
        late = getattr(self._model, "late_import", None) or (0.0, before)
        cost = {
            "import_seconds": imported - started + late[0],
            "load_seconds": loaded - loading - late[0],
            "import_bytes": late[1],
            "loaded_bytes": resident_memory(),
            "peak_bytes": peak_memory(),
        }
        return dict(self.describe(), cost=cost)

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": self._model.inputs,
            "outputs": self._model.outputs,
            "what": self._model.what,
            "notes": self._model.notes,
        }

    def hand_over(self, directory: str) -> dict[str, Any]:
        """Write the model in a form that another version of its framework reads; the reply says which."""
        method = self._optional("hand_over", "be handed over")
        return dict(method(directory))

    def environment(self) -> dict[str, Any]:
        """The versions of the interpreter, and of the imported packages that a verification rests on."""
        found = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
        packages = {name: version for name, version in found.items() if isinstance(version, str)}
        return {"python": platform.python_version(), "packages": packages}

    def weights(self, file: str) -> dict[str, Any]:
        tensors = self._model.weights()
        if tensors is None:
            return {"available": False}
        write_tensors(file, tensors)
        return {"available": True}

    def run(self, inputs: str, outputs: str) -> dict[str, Any]:
        return self._run(self._model.run, inputs, outputs)

    def run_fp64(self, inputs: str, outputs: str) -> dict[str, Any]:
        return self._run(self._model.run_fp64, inputs, outputs)

    def run_noisy(self, inputs: str, outputs: str, unit: float, seed: int) -> dict[str, Any]:
        noisy = self._optional("run_noisy", "perturb the results of its operations")
        return self._run(lambda feeds: noisy(feeds, unit, seed), inputs, outputs)

    def gradients(self, inputs: str, cotangents: str, results: str, training: bool) -> dict[str, Any]:
        vjp = self._optional("vjp", "compute gradients")
        given = {int(position): array for position, array in read_tensors(cotangents).items()}
        feeds = read_tensors(inputs, writable=True)
        started = time.perf_counter()
        # In training the statistics move; they are to be there for what is asked next.
        before = self._copied_state(vjp, feeds) if training else {}
        try:
            outputs, by_input, by_weight = vjp(feeds, lambda found: _given_cotangents(found, given), training)
        finally:
            if before:
                self._model.assign(before)
        seconds = time.perf_counter() - started
        tensors = {f"output:{position}": output for position, output in enumerate(outputs)}
        tensors.update((f"input:{name}", gradient) for name, gradient in by_input.items())
        tensors.update((f"weight:{name}", gradient) for name, gradient in by_weight.items())
        write_tensors(results, tensors)
        return {
            "seconds": seconds,
            "count": len(outputs),
            "buffers": self._buffers(),
            "peak_bytes": peak_memory(),
        }

    def train(
        self,
        batches: str,
        results: str,
        rate: float,
        momentum: float,
        training: bool,
        start: str | None = None,
        fixed: list[str] | None = None,
    ) -> dict[str, Any]:
        """Stochastic gradient descent on the float64 form, which is left with the weights it had."""
        import numpy as np

        vjp = self._optional("vjp", "compute gradients")
        read_state = self._optional("state", "tell its weights in float64")
        assign = self._optional("assign", "change its weights")
        steps = _batches(read_tensors(batches, writable=True))
        started = time.perf_counter()
        before = self._copied_state(vjp, steps[0][0])
        try:
            if start is not None:
                assign(read_tensors(start, writable=True))
            losses, norms, trained = _descend(
                vjp,
                {name: np.array(array) for name, array in read_state().items()},
                assign,
                steps,
                rate,
                momentum,
                training,
                set(fixed or ()),
            )
            tensors = {f"weight:{name}": np.array(array) for name, array in read_state().items()}
        finally:
            assign(before)
        tensors["losses"] = np.array(losses, np.float64)
        tensors["gradient_norms"] = np.array(norms, np.float64)
        write_tensors(results, tensors)
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "trained": trained,
            "buffers": self._buffers(),
            "peak_bytes": peak_memory(),
        }

    def _copied_state(self, vjp: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        read_state = self._optional("state", "tell its weights in float64")
        try:
            state = read_state()
        except NotImplementedError:
            # The side makes its float64 form with the first inputs that it runs on.
            vjp(feeds, lambda outputs: [None] * len(outputs), False)
            state = read_state()
        return {name: np.array(array) for name, array in state.items()}

    def _buffers(self) -> list[str]:
        buffers = getattr(self._model, "buffers", None)
        return [] if buffers is None else sorted(buffers())

    def intermediates(
        self, inputs: str, values: str, cotangents: str | None = None, own: bool = False
    ) -> dict[str, Any]:
        """Write every value that the float64 form computes; `records[i]` tells about the tensor `i`.

        With `cotangents` the tensor `i:gradient` is the gradient, where there is one. With `own` the model
        computes in its own precision, and there are no gradients.
        """
        method = self._optional("intermediates", "show the values inside it")
        feeds = read_tensors(inputs, writable=True)
        if own:
            found = [(record, value, None) for record, value in method(feeds, own=True)]
        elif cotangents is None:
            found = [(record, value, None) for record, value in method(feeds)]
        else:
            given = {int(position): array for position, array in read_tensors(cotangents).items()}
            found = list(method(feeds, lambda outputs: _given_cotangents(outputs, given)))
        tensors: dict[str, Any] = {}
        records: list[Any] = []
        for record, value, gradient in found:
            if value.dtype.name not in _SAFETENSORS_DTYPES.values():
                continue
            tensors[str(len(records))] = value
            if gradient is not None:
                tensors[f"{len(records)}:gradient"] = gradient
            records.append(record)
        write_tensors(values, tensors)
        return {"records": records, "peak_bytes": peak_memory()}

    def extract(self, inputs: str, wanted: str, given: list[str], tensors: str) -> dict[str, Any]:
        """Write what the `lines` of Python need that compute the value `wanted` from the values `given`."""
        method = self._optional("extract", "show its operators")
        lines, needed = method(read_tensors(inputs, writable=True), wanted, set(given))
        names = list(needed)
        write_tensors(tensors, {str(position): needed[name] for position, name in enumerate(names)})
        return {"lines": lines, "names": names}

    def open_timing(self, inputs: str, training: bool, compiled: bool) -> dict[str, Any]:
        """Make the model ready to be timed on these inputs, and call it for the first time."""
        feeds = read_tensors(inputs, writable=True)
        prepare = getattr(self._model, "timing", None)
        return_memory()
        restart_peak_memory()
        started = time.perf_counter()
        if prepare is not None:
            timing = prepare(feeds, training, compiled)
        elif training or compiled:
            raise NotImplementedError(f"{self._model.what} can only be timed as it runs")
        else:
            timing = ArrayTiming(self._model.run, feeds)
        try:
            timing.call()
        except BaseException:
            timing.close()
            raise
        seconds = time.perf_counter() - started
        number = len(self._timings)
        self._timings[number] = timing
        gc.collect()
        gc.freeze()  # what exists now is not looked at again by the collections between the blocks
        return {
            "timing": number,
            "first_seconds": seconds,
            "timed": timing.timed,
            "device": timing.device,
            "threads": timing.threads(),
            "notes": timing.notes,
        }

    def time(self, timing: int, calls: int, group: int) -> dict[str, Any]:
        """Time `calls` times `group` calls, each group as one, without collecting garbage meanwhile."""
        chosen = self._timings[timing]
        gc.collect()
        gc.disable()
        try:
            return time_calls(chosen, calls, group)
        finally:
            gc.enable()

    def close_timing(self, timing: int) -> dict[str, Any]:
        """The most memory since the timing was opened; what it held is given back."""
        chosen = self._timings[timing]
        self._timings[timing] = None
        memory = {"peak_bytes": peak_memory(), "device_peak_bytes": chosen.device_peak_bytes()}
        chosen.close()
        del chosen
        gc.unfreeze()
        return_memory()
        return memory

    def _optional(self, name: str, does: str) -> Any:
        method = getattr(self._model, name, None)
        if method is None:
            raise NotImplementedError(f"{self._model.what} has no means to {does}")
        return method

    def _run(self, function: Any, inputs: str, outputs: str) -> dict[str, Any]:
        feeds = read_tensors(inputs, writable=True)
        started = time.perf_counter()
        results = function(feeds)
        seconds = time.perf_counter() - started
        write_tensors(outputs, {str(position): result for position, result in enumerate(results)})
        return {"seconds": seconds, "count": len(results), "peak_bytes": peak_memory()}


class ArrayTiming:
    """A timing of a model that knows no better: the conversion from and to numpy is part of it."""

    device = "cpu"

    def __init__(self, run: Any, feeds: Mapping[str, Any]) -> None:
        self._run = run
        self._feeds = feeds
        self.timed = "a run from numpy arrays to numpy arrays"
        self.notes: list[str] = []

    def call(self) -> None:
        self._run(self._feeds)

    def device_seconds(self) -> float | None:
        return None

    def device_peak_bytes(self) -> int | None:
        return None

    def threads(self) -> list[int | None]:
        return [None, None]

    def close(self) -> None:
        self._feeds = {}


def time_calls(timing: Any, calls: int, group: int, clock: Any = time.perf_counter) -> dict[str, Any]:
    """The wall seconds of each group of calls, and what the whole block took of the machine."""
    call = timing.call
    seconds = []
    on_device = []
    waited = waiting_time()
    cpu = time.process_time()
    started = clock()
    for _ in range(calls):
        begun = clock()
        for _ in range(group):
            call()
        seconds.append((clock() - begun) / group)
        elapsed = timing.device_seconds()
        if elapsed is not None:
            on_device.append(elapsed)
    wall = clock() - started
    cpu = time.process_time() - cpu
    waiting = waiting_time()
    return {
        "seconds": seconds,
        "wall": wall,
        "cpu": cpu,
        # What a thread that has ended had waited is not counted any more.
        "waited": None if waited is None or waiting is None else max(waiting - waited, 0.0),
        "device_seconds": on_device or None,
    }


def _given_cotangents(outputs: list[Any], given: Mapping[int, Any]) -> list[Any]:
    """The cotangents that the parent gave, None for an output without one; ValueError if one does not fit."""
    for position, cotangent in given.items():
        if position >= len(outputs) or cotangent.shape != outputs[position].shape:
            raise ValueError(f"the cotangent {position}, of the shape {cotangent.shape}, fits no output")
    return [given.get(position) for position in range(len(outputs))]


def _batches(tensors: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[int, Any]]]:
    """The inputs by name and the targets by output position, for every step of a training."""
    steps: dict[int, tuple[dict[str, Any], dict[int, Any]]] = {}
    for key, array in tensors.items():
        kind, step, name = key.split(":", 2)
        feeds, targets = steps.setdefault(int(step), ({}, {}))
        if kind == "input":
            feeds[name] = array
        else:
            targets[int(name)] = array
    return [steps[step] for step in sorted(steps)]


def _half_mean_squares(outputs: list[Any], targets: Mapping[int, Any]) -> tuple[float, list[Any]]:
    """The loss, the sum over the outputs that have a target of 0.5 * mean((y - t)^2), and its gradients."""
    import numpy as np

    loss = 0.0
    gradients: list[Any] = [None] * len(outputs)
    for position, target in targets.items():
        output = np.asarray(outputs[position])
        if output.shape != target.shape:
            raise ValueError(f"output {position} has the shape {output.shape}, its target {target.shape}")
        difference = output.astype(np.float64) - target
        loss += 0.5 * float(np.mean(difference * difference))
        gradients[position] = difference / difference.size
    return loss, gradients


def _descend(
    vjp: Any,
    weights: dict[str, Any],
    assign: Any,
    batches: list[tuple[dict[str, Any], dict[int, Any]]],
    rate: float,
    momentum: float,
    training: bool,
    fixed: set[str],
) -> tuple[list[float], list[float], list[str]]:
    """v = momentum * v + gradient; w = w - rate * v, once a batch, on the weights with a gradient.

    Returns the loss and the norm of the whole gradient before every step, and the names of the trained
    weights. A gradient that is absent is zero.
    """
    import numpy as np

    velocities: dict[str, Any] = {}
    losses = []
    norms = []
    for feeds, targets in batches:

        def cotangents(outputs: list[Any], targets: Mapping[int, Any] = targets) -> list[Any]:
            loss, gradients = _half_mean_squares(outputs, targets)
            losses.append(loss)
            return gradients

        _, _, found = vjp(feeds, cotangents, training)
        gradients = {name: gradient for name, gradient in found.items() if name not in fixed}
        norms.append(float(np.sqrt(sum(float(np.sum(np.square(each))) for each in gradients.values()))))
        for name in set(gradients) - set(velocities):
            velocities[name] = np.zeros_like(weights[name])
        for name, velocity in velocities.items():
            velocity *= momentum
            if name in gradients:
                velocity += gradients[name]
            weights[name] -= rate * velocity
        if rate:
            assign({name: weights[name] for name in velocities})
    return losses, norms, sorted(velocities)


_PACKAGES = ("jax", "keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf_keras", "torch")

_OPERATIONS = (
    "load",
    "describe",
    "environment",
    "hand_over",
    "weights",
    "run",
    "run_fp64",
    "run_noisy",
    "intermediates",
    "extract",
    "gradients",
    "train",
    "open_timing",
    "time",
    "close_timing",
)


def _answer(side: Side, line: str) -> tuple[Any | None, dict[str, Any]]:
    number = None
    try:
        request = json.loads(line)
        number = request.pop("id")
        operation = request.pop("op")
        if operation not in _OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}")
        return number, {"ok": getattr(side, operation)(**request)}
    except (Exception, SystemExit) as error:
        return number, {"error": error_record(error)}


def serve(reply_fd: int) -> None:
    """Answer requests from stdin, one JSON object a line, until `close` or the end of stdin."""
    os.set_inheritable(reply_fd, False)
    end_with_parent(reply_fd)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    detach_stdin()
    replies = os.fdopen(reply_fd, "w", encoding="utf-8")
    hello = {
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "operations": list(_OPERATIONS),
    }

    def send(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    send({"hello": hello})
    side = Side()
    for line in requests:
        if '"close"' in line and json.loads(line).get("op") == "close":
            break
        number, reply = _answer(side, line)
        send(dict(reply, id=number))


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    serve(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks take long to shut down and sometimes crash doing so; nothing is left to be done.
    os._exit(0)
