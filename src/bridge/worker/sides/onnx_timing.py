"""What is timed of an ONNX model: a run of its session on values that are on the session's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from bridge.worker import device

Array = np.ndarray[Any, np.dtype[Any]]


class OnnxTiming:
    """See docs/worker-protocol.md for what a timing answers. Inputs and outputs are bound to the device."""

    def __init__(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> None:
        provider = session.get_providers()[0]
        self.device = "cpu" if device.is_cpu() else f"cuda:{device.index()}"
        self.timed = f"a run of the session ({provider}) with inputs and outputs bound to the device"
        self.notes: list[str] = []
        self._session = session
        kind, index = ("cpu", 0) if device.is_cpu() else ("cuda", device.index())
        self._binding = session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), kind, index)
            self._binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, kind, index)

    def call(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def device_seconds(self) -> float | None:
        return None

    def device_peak_bytes(self) -> int | None:
        return None

    def threads(self) -> list[int | None]:
        options = self._session.get_session_options()
        sequential = options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        return [options.intra_op_num_threads or None, 1 if sequential else options.inter_op_num_threads]

    def close(self) -> None:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
