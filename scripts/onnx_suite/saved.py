"""SavedModels of the suite's cases, loaded where there is only TensorFlow, and run in two batch sizes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from bridge_converters.onnx_to_tf import _saver

from bridge.worker.process import WorkerProcess
from scripts.onnx_suite import engines
from scripts.onnx_suite.batches import batched
from scripts.onnx_suite.boundary import Value, taken
from scripts.onnx_suite.modes import Converted, Departure, expect

_SECONDS = 120.0
ANOTHER_BATCH = "in another batch size too"


class SavedModel:
    """Written by bridge's saver and loaded in a process without bridge, it gives what the case says.

    Where a batch has a meaning (see `batches`), the model is converted with a dynamic one, and must also give
    what the oracle gives in another size.
    """

    def __init__(self) -> None:
        self._checker: WorkerProcess | None = None

    def __call__(self, converted: Converted) -> str:
        case = converted.case
        runs = [(inputs, expected, "") for inputs, expected in case.data_sets()]
        larger = None if case.is_random or case.kind not in ("tensors", "training") else batched(case)
        emitted, directory = converted.emitted, converted.directory
        if larger is not None:
            directory = directory / "dynamic"
            directory.mkdir()
            emitted = engines.convert(larger.model, "tf", directory)
            runs.append((larger.inputs, larger.expected, "another batch: "))
        _saver.save(directory, emitted.inputs, emitted.outputs)
        asked = []
        for number, (inputs, _, _) in enumerate(runs):
            tensors = engines.tf_arguments(inputs)
            files = [directory / f"input-{number}-{index}" for index in range(len(tensors))]
            for file, tensor in zip(files, tensors, strict=True):
                file.write_bytes(tf.io.serialize_tensor(tensor).numpy())
            asked.append(
                [(str(file), tensor.dtype.name) for file, tensor in zip(files, tensors, strict=True)]
            )
        reply = self._ask({"path": str(directory), "runs": asked, "out": str(directory)})
        if "error" in reply:
            raise Departure(str(reply["error"]))
        for (_, expected, label), result in zip(runs, reply["results"], strict=True):
            tensors = [_parsed(*result[name]) for name in emitted.outputs.names]
            outputs: list[Value] = taken(tuple(tensors), emitted.outputs, engines.tf_array)
            tolerances = {"rtol": case.rtol, "atol": case.atol, "values": not case.is_random}
            expect(outputs, expected, label=label, **tolerances)
        return ANOTHER_BATCH if larger is not None else ""

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._checker is None or not self._checker.alive:
            program = Path(__file__).with_name("saved_checker.py")
            command = [sys.executable, "-I", str(program)]
            self._checker = WorkerProcess(command, label="SavedModel checker")
        self._checker.send(json.loads(json.dumps(request)))
        return self._checker.receive(deadline=time.monotonic() + _SECONDS)


def _parsed(file: str, dtype: str) -> Any:
    return tf.io.parse_tensor(Path(file).read_bytes(), tf.as_dtype(dtype))
