"""A directory that shows a fault without bridge: the wrong node, its inputs, what it should give and gave."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import BridgeError, OutputError
from bridge.verification.localise.alike import nearest
from bridge.verification.localise.divergence import Divergence
from bridge.verification.localise.locate import Case, Evidence
from bridge.verification.localise.result import Localisation
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Side
from bridge.worker.standalone import read_tensors
from bridge.worker.tasks import run_task

Array = np.ndarray[Any, np.dtype[Any]]

_EXTRACT = "bridge.verification.localise.hub_values:extract"

_COMPARE = '''"""Shows the difference that fault.json describes; needs numpy{needs}."""

import json
from pathlib import Path

import numpy as np

here = Path(__file__).parent
fault = json.loads((here / "fault.json").read_text(encoding="utf-8"))
inputs, expected, got = (np.load(here / f"{{each}}.npz") for each in ("inputs", "expected", "got"))


def distance(array, reference):
    return np.abs(array - reference).max() / np.abs(reference).max()


print("target:", fault["target"])
print("source:", fault["source"])
if expected.files:
    print("target is away from the source by", distance(got["arr_0"], expected["arr_0"]))
'''

_RUN = """
import onnxruntime

session = onnxruntime.InferenceSession(str(here / "node.onnx"), providers=["CPUExecutionProvider"])
kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
feeds = {
    each.name: inputs[f"arr_{position}"].astype(kinds.get(each.type, inputs[f"arr_{position}"].dtype))
    for position, each in enumerate(session.get_inputs())
}
result = session.run(None, feeds)[0]
if expected.files:
    print("node.onnx is away from the source by", distance(result, expected["arr_0"]))
print("node.onnx is away from the target by", distance(result, got["arr_0"]))
"""


_CALLS = '''"""The {label}'s value, one operator after another; needs numpy and {framework}."""

from pathlib import Path

import numpy as np
import {framework}{alias}

given, values = (np.load(Path(__file__).with_name(f"{label}_{{each}}.npz")) for each in ("given", "values"))
names = {names}
wanted = {name!r}
t = {{name: {tensor}(given[f"arr_{{position}}"]) for position, name in enumerate(names)}}
{lines}
for name, value in values.items():
    distance = np.abs(t[wanted].numpy() - value).max() / np.abs(value).max()
    print("away from the value of the", name, distance)
'''


def write_reproduction(
    out: Path,
    found: Localisation,
    evidence: Evidence,
    case: Case,
    sides: tuple[Side, Side] | None = None,
) -> Path:
    """Write the values at the wrong node, and a script that shows their difference, to a new directory.

    It holds `fault.json`, `inputs.npz`, `expected.npz`, `got.npz`, `reproduce.py`, and perhaps `node.onnx`.
    The inputs are the last equal values, the source's; in the order of `last_equal`, or of the inputs of
    `node.onnx`: the wrong node as the hub has it, or the source's nodes where that is an ONNX file. Tensors
    are float64. If `sides` have the two models loaded, neither converted by bridge, `source.py` and
    `target.py` compute the value by calls of their frameworks' operators, in the models' own precisions.
    A side that cannot spell them has none: ONNX files, and operators with bodies (loops, branches). The
    directory appears whole or not at all. Raises OutputError where it exists or cannot be written.
    """
    if out.exists():
        raise OutputError(
            "the directory for the reproduction exists", where=str(out), hint="name another one"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputError(f"it cannot be written: {error.strerror}", where=str(out)) from error
    try:
        _fill(made, found, evidence, case)
        if sides is not None and evidence.divergence is not None and not evidence.anchors:
            _write_calls(made, evidence, evidence.divergence, case, sides)
        made.chmod(0o755)
        made.rename(out)
    except OSError as error:
        raise OutputError(f"it cannot be written: {error.strerror}", where=str(out)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out


def _fill(directory: Path, found: Localisation, evidence: Evidence, case: Case) -> None:
    inputs = _inputs(directory, found, evidence, case)
    got, expected = _values(evidence)
    for name, arrays in (("inputs", inputs), ("expected", expected), ("got", got)):
        with (directory / f"{name}.npz").open("wb") as file:
            np.savez(file, *arrays)
    has_node = (directory / "node.onnx").is_file()
    text = _COMPARE.format(needs=" and onnxruntime" if has_node else "") + (_RUN if has_node else "")
    (directory / "reproduce.py").write_text(text, encoding="utf-8")
    record = json.dumps(found.to_json(), indent=1)
    (directory / "fault.json").write_text(record + "\n", encoding="utf-8")


def _write_calls(
    directory: Path, evidence: Evidence, divergence: Divergence, case: Case, sides: tuple[Side, Side]
) -> None:
    """A script for each side that calls its framework's operators from the last equal values on."""
    if divergence.source is None:
        return
    ours = evidence.source.values[divergence.source]
    theirs = evidence.target.values[_nearest_to(ours.array, evidence, divergence)]
    for label, side, inputs, value, other, given in (
        ("source", sides[0], case.inputs, ours, theirs, [first for first, _ in divergence.last_equal]),
        (
            "target",
            sides[1],
            case.target_inputs,
            theirs,
            ours,
            [second for _, second in divergence.last_equal],
        ),
    ):
        trace = evidence.source if label == "source" else evidence.target
        tensors = side.scratch / "extract.safetensors"
        number = side.submit(
            "extract",
            inputs=str(inputs),
            wanted=value.name,
            given=[trace.values[each].name for each in given],
            tensors=str(tensors),
        )
        try:
            answer = side.result(number)
        except TaskFailure:
            # The values alone show the difference too.
            continue
        moved = nearest(other.array, value.array)
        shown = {label: value.array}
        if moved is not None:
            shown["target" if label == "source" else "source"] = moved[0]
        arrays = read_tensors(str(tensors))
        with (directory / f"{label}_given.npz").open("wb") as file:
            np.savez(file, *(arrays[str(position)] for position in range(len(answer["names"]))))
        with (directory / f"{label}_values.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **shown)
        is_torch = any("torch.ops." in line for line in answer["lines"])
        text = _CALLS.format(
            label=label,
            name=value.name,
            framework="torch" if is_torch else "tensorflow",
            alias="" if is_torch else " as tf",
            tensor="torch.from_numpy" if is_torch else "tf.constant",
            names=answer["names"],
            lines="\n".join(answer["lines"]),
        )
        (directory / f"{label}.py").write_text(text, encoding="utf-8")


def _nearest_to(right: Array, evidence: Evidence, divergence: Divergence) -> int:
    """The value of the wrong block that comes nearest to the right one: what its first node leads to."""
    distances = {
        position: found[1]
        for position in (divergence.target, *divergence.target_block)
        if (found := nearest(right, evidence.target.values[position].array)) is not None
    }
    return min(distances, key=lambda each: distances[each], default=divergence.target)


def _values(evidence: Evidence) -> tuple[list[Array], list[Array]]:
    """The wrong value, and the right one in its order of axes; each where it is known."""
    divergence = evidence.divergence
    if divergence is None:
        return [], []
    value = evidence.target.values[divergence.target]
    if divergence.source is None:
        return [value.array], []
    right = evidence.source.values[divergence.source].array
    anchor = evidence.anchors.get(value.name)
    if anchor is not None and anchor.source_permutation is not None:
        right = right.transpose(anchor.source_permutation)
    elif anchor is None:
        moved = nearest(right, value.array)
        right = right if moved is None else moved[0]
    return [value.array], [right] if right.shape == value.array.shape else []


def _inputs(directory: Path, found: Localisation, evidence: Evidence, case: Case) -> Sequence[Array]:
    if evidence.node is not None:
        (directory / "node.onnx").write_bytes(evidence.node)
        return evidence.fed
    by_name = {value.name: value.array for value in evidence.source.values}
    names = list(dict.fromkeys(name for name, _ in found.last_equal))
    if case.request is not None and case.request.format == "onnx" and found.source is not None:
        request = {
            "file": case.request.path,
            "inputs": names,
            "output": found.source.name,
            "out": str(directory / "node.onnx"),
        }
        try:
            names = run_task("bridge.verification.localise.hub_values:extract", request, label="worker")[
                "inputs"
            ]
        except BridgeError:
            # The values alone show the difference too.
            (directory / "node.onnx").unlink(missing_ok=True)
    return [by_name[name] for name in names]
