"""Run one version of a model once, in a worker of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.verification.parties import resolve
from bridge.verification.spellings import output_order, pair
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]


def run_once(
    version: str | Path | ReadRequest,
    arrays: Sequence[Any],
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    threads: int = 1,
    timeout: float | None = None,
    trust: bool = False,
) -> list[Array]:
    """The outputs of a model for arrays given by position.

    `inputs` and `outputs` are the caller's names in the caller's order, which decide the order of arrays
    and results: a SavedModel's signature sorts both by name. Without them it is the model's own.
    Raises InputError where the number of arrays does not fit, and EnvironmentFailure where the model
    fails on them, or the worker dies or takes longer than `timeout` seconds.
    """
    party = resolve(version, as_target=True, trust=trust)
    with Side(label="worker", threads=threads, timeout=timeout) as side:
        description = side.description(side.submit_load(party.loader, dict(party.request)))
        names = [each.name for each in description.inputs]
        if len(arrays) != len(names):
            raise InputError(
                f"the model takes {len(names)} inputs ({', '.join(names)}), not {len(arrays)}",
                hint="give one array for each",
            )
        if inputs is not None and len(inputs) == len(names):
            pairs = pair(inputs, names)
            names = [pairs[name] for name in inputs]
        file = side.scratch / "run.in.safetensors"
        write_tensors(str(file), dict(zip(names, (np.asarray(each) for each in arrays), strict=True)))
        run = side.outputs(side.submit_run(file, "run"), "run")
        results = [np.array(each) for each in run.outputs]
        if outputs is None or len(outputs) != len(results):
            return results
        return [results[position] for position in output_order(outputs, description.outputs, len(results))]
