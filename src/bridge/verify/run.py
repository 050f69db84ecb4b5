"""Running one model once, in a worker of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import InputError
from bridge.verify.parties import resolve
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]


def run_once(path: Path, arrays: Sequence[Any], *, timeout: float | None = 600) -> list[Array]:
    """The outputs of the model at `path` for arrays in the order of its inputs.

    Raises InputError if the number of arrays is not that of the inputs.
    """
    party = resolve(path)
    with Side(label="worker", threads=os.cpu_count() or 1, timeout=timeout) as side:
        described = side.description(side.submit_load(party.loader, dict(party.request)))
        if len(arrays) != len(described.inputs):
            names = ", ".join(each.name for each in described.inputs)
            raise InputError(
                f"the model takes {len(described.inputs)} input(s), not {len(arrays)}", hint=names
            )
        file = side.scratch / "inputs.safetensors"
        tensors = {spec.name: np.asarray(each) for spec, each in zip(described.inputs, arrays, strict=True)}
        write_tensors(str(file), tensors)
        return [array.copy() for array in side.outputs(side.submit_run(file, "run"), "run").outputs]
