"""The part of a worker that runs anywhere: Python 3.7 or newer, the standard library, and numpy.

As a program, `python standalone.py REPLY_FD`, it is a side of a verification: one loaded model that is
asked for its signature, its weights and its outputs. docs/worker-protocol.md is its specification. It
imports nothing of bridge itself, so that it also runs inside the environment of an old framework; what
knows a framework is the loader that the first request names.
"""

from __future__ import annotations

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
}
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


class Side:
    """A loaded model behind the requests of the protocol; each method answers one of them."""

    def __init__(self) -> None:
        self._model: Any = None

    def load(self, loader: str, request: Any, path: list[str]) -> dict[str, Any]:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        module, _, function = loader.partition(":")
        self._model = getattr(importlib.import_module(module), function)(request)
        return self.describe()

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": self._model.inputs,
            "outputs": self._model.outputs,
            "what": self._model.what,
            "notes": self._model.notes,
        }

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

    def _run(self, function: Any, inputs: str, outputs: str) -> dict[str, Any]:
        feeds = read_tensors(inputs, writable=True)
        started = time.perf_counter()
        results = function(feeds)
        seconds = time.perf_counter() - started
        write_tensors(outputs, {str(position): result for position, result in enumerate(results)})
        return {"seconds": seconds, "count": len(results), "peak_bytes": peak_memory()}


_OPERATIONS = ("load", "describe", "weights", "run", "run_fp64")


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
