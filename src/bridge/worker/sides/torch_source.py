"""The side of a PyTorch file of any format: the object it holds, run by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from bridge_converters.torch_to_onnx.load import Runnable, load_runnable
from bridge_converters.torch_to_onnx.shapes import input_values
from torch import fx, nn

from bridge.formats.request import ReadRequest
from bridge.worker.sides.torch_arrays import to_array, to_tensor

Array = np.ndarray[Any, np.dtype[Any]]


def load(request: Mapping[str, Any]) -> TorchSide:
    """Load the model of a ReadRequest (as JSON). Raises what the PyTorch reader raises while loading."""
    return TorchSide(load_runnable(ReadRequest.from_json(request)))


class TorchSide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, runnable: Runnable) -> None:
        self._runnable = runnable
        self._double: Runnable | None = None
        self.inputs = [
            {
                "name": name,
                "dtype": str(value.dtype).removeprefix("torch."),
                "shape": [size if isinstance(size, int) else str(size) for size in value.shape],
            }
            for name, value in zip(runnable.input_names, input_values(runnable.program), strict=True)
        ]
        self.outputs = list(runnable.output_names)
        ran = "exported program" if isinstance(runnable.module, fx.GraphModule) else "module"
        self.what = f"{ran} under PyTorch {torch.__version__}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        """Parameters and buffers, tied ones under every name, and a program's constants."""
        program = self._runnable.program
        tensors: dict[str, Any] = {**program.constants, **program.state_dict}
        if isinstance(self._runnable.module, nn.Module):
            tensors.update(self._runnable.module.named_buffers(remove_duplicate=False))
            tensors.update(self._runnable.module.named_parameters(remove_duplicate=False))
        return {name: to_array(each) for name, each in tensors.items() if isinstance(each, torch.Tensor)}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self._run(self._runnable, feeds)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._double is None:
            self._double = self._runnable.double()
        return self._run(self._double, feeds)

    def _run(self, runnable: Runnable, feeds: Mapping[str, Array]) -> list[Array]:
        results = runnable(*(to_tensor(feeds[name]) for name in runnable.input_names))
        return [to_array(each if isinstance(each, torch.Tensor) else torch.tensor(each)) for each in results]
