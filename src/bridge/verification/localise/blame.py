"""Which part of a conversion is at fault: what the reader made, a pass changed, or the writer wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.formats.request import ReadRequest
from bridge.verification.localise.alike import relative_error
from bridge.verification.localise.result import Blame
from bridge.verification.localise.trace import Value
from bridge.worker.standalone import read_tensors
from bridge.worker.tasks import run_task

Array = np.ndarray[Any, np.dtype[Any]]

HUB_FILE = "hub.onnx"


@dataclass(frozen=True)
class Blamed:
    """The part at fault, or None and a sentence why it is not known.

    `node` is the hub's node that computes the value, as an ONNX model of its own, `fed` what it takes.
    """

    part: Blame | None
    note: str | None
    node: bytes | None = None
    fed: tuple[Array, ...] = ()


def blame(
    request: ReadRequest,
    inputs: Path,
    target: Value,
    source: Value,
    permutation: Sequence[int] | None,
    *,
    timeout: float | None = None,
) -> Blamed:
    """Read the source again, and see on which side the hub graph's value is, under onnxruntime.

    `target` is the wrong value, under the hub's name and in its order of axes, `source` the right one, whose
    axes `permutation` brings into that order. `timeout` is in seconds, for each of two workers.
    """
    with tempfile.TemporaryDirectory(prefix="bridge-blame-") as directory:
        run_task(
            "bridge.tasks:read",
            {"read": request.to_json(), "out": directory},
            label="read worker",
            timeout=timeout,
        )
        results, node = Path(directory) / "values.safetensors", Path(directory) / "node.onnx"
        run_task(
            "bridge.verification.localise.hub_values:compute",
            {
                "hub": str(Path(directory) / HUB_FILE),
                "inputs": str(inputs),
                "name": target.name,
                "source": source.name,
                "results": str(results),
                "node": str(node),
            },
            label="hub worker",
            timeout=timeout,
        )
        values = {name: np.array(array) for name, array in read_tensors(str(results)).items()}
        model = node.read_bytes() if node.is_file() else None
    right = source.array if permutation is None else source.array.transpose(tuple(permutation))
    part, note = judge(values, right, target.array)
    fed = tuple(array for name, array in values.items() if name.startswith("input:"))
    return Blamed(part, note, model, fed)


def judge(hub: Mapping[str, Array], right: Array, wrong: Array) -> tuple[Blame | None, str | None]:
    """The part at fault, by what the hub's value is nearer to; `hub` has `canonical` and perhaps `reader`.

    The canonical graph's value decides about the writer. If it is wrong, the reader's value does
    between the reader and the passes.
    """
    if "canonical" not in hub:
        return None, "the hub graph that is read from the source now has no value of this name"
    if _is_right(hub["canonical"], right, wrong):
        return "writer", None
    if "reader" not in hub:
        return None, "the hub graph is wrong before it is written; what was read has no value to tell more"
    return ("pass" if _is_right(hub["reader"], right, wrong) else "reader"), None


def _is_right(value: Array, right: Array, wrong: Array) -> bool:
    return relative_error(right, value) < relative_error(wrong, value)
