"""What a conversion does inside worker processes: reading in one framework, building in the other."""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.emit import preflight, registry
from bridge.emit.dialect import Signature
from bridge.emit.formatting import Formatter
from bridge.emit.training import training_notes
from bridge.emit.writer import FILE_NAME, emit, signature_of
from bridge.errors import BridgeError, MissingPackage
from bridge.formats.detect import FORMATS
from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.arrays import contiguous
from bridge.passes import pipeline
from bridge.passes.recurrent import composed_notes
from bridge.passes.spread_masks import spread_masks
from bridge.worker import progress
from bridge.worker.standalone import write_tensors

_READERS = {
    "torch": "bridge_converters.torch_to_onnx.reader",
    "tf": "bridge_converters.tf_to_onnx.reader",
    "onnx": "bridge.formats.onnx_reader",
}
_REQUIRED = {"torch": ("torch",), "tf": ("tensorflow", "tf2onnx"), "onnx": ()}

HUB_FILE = "hub.onnx"

_ONE_FILE = 1_900_000_000
"""Bytes of weights that go into the `.onnx` file itself; protobuf's limit is 2 GiB."""


def read(request: dict[str, Any]) -> dict[str, Any]:
    """Read a model into a hub file. `request`: `read` (a ReadRequest), `out` (a directory)."""
    wanted = ReadRequest.from_json(request["read"])
    framework = FORMATS[wanted.format].framework
    for package in _REQUIRED[framework]:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, extra=framework, why=f"reading a {FORMATS[wanted.format].title}")
    progress.report(f"reading {FORMATS[wanted.format].title}")
    model: ir.Model = importlib.import_module(_READERS[framework]).read(wanted)
    save_hub(model, Path(request["out"]) / HUB_FILE)
    info = metadata.source_info(model)
    return {"exporter_seconds": info.exporter_seconds}


def save_hub(model: ir.Model, path: Path) -> None:
    """Write a hub model with its weights beside it, so that the next process can map them."""
    ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=1024)


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Make the target from a hub file.

    `request`: `hub` (the file), `out` (an existing directory to fill), `target`, `io_layout`,
    `artifact` (whether the framework's own artifact is wanted: `no`, `if_possible`, `required`),
    `exact_training` (whether to keep the source's rules of training).
    Returns the seconds of each step, the notes for the user, and the names of inputs and outputs that are
    lists or may be None, with which only model.py can be run.
    """
    target: registry.TargetName = request["target"]
    out = Path(request["out"])
    timings: dict[str, float] = {}
    with Formatter(FILE_NAME) as formatter:
        started = time.perf_counter()
        dialect, table = registry.dialect(target), registry.table(target)
        table.find("Identity", version=1)
        timings["load the framework"] = time.perf_counter() - started

        started = time.perf_counter()
        progress.report("bringing the graph to canonical form")
        model = pipeline.canonicalise(ir.load(request["hub"]))
        exact = request.get("exact_training", False)
        prepared = pipeline.prepare(
            model, target=target, io_layout=request["io_layout"], exact_training=exact
        )
        preflight.check(prepared, table)
        timings["passes"] = time.perf_counter() - started

        started = time.perf_counter()
        progress.report("writing the source")
        emitted = emit(prepared, table, dialect, formatter)
    (out / FILE_NAME).write_text(emitted.source, encoding="utf-8")
    emitted.weights.save(out / "weights.json")
    emitted.anchors.save(out / "anchors.json")
    timings["emit"] = time.perf_counter() - started

    started = time.perf_counter()
    progress.report("saving the weights")
    write_tensors(str(out / "model.safetensors"), emitted.tensors, contiguous)
    notes = [
        *composed_notes(prepared, target),
        *training_notes(emitted.weights, exact_training=exact),
    ]
    inputs, outputs, info = emitted.inputs, emitted.outputs, _info(prepared)
    del model, prepared, emitted
    if request["artifact"] != "no":
        progress.report("saving the artifact")
        required = request["artifact"] == "required"
        notes += _save_artifact(target, out, inputs, outputs, required=required)
    timings["save"] = time.perf_counter() - started
    others = [*inputs.others, *outputs.others]
    return {"timings": timings, "notes": notes, "info": info, "others": others}


def _save_artifact(
    target: registry.TargetName, out: Path, inputs: Signature, outputs: Signature, *, required: bool
) -> list[str]:
    others = (*inputs.others, *outputs.others)
    if others and (target == "tf" or not required):
        reason = f"artifacts have tensors only: {', '.join(others)} are lists or may be None"
        return [f"model.py comes without an artifact, as {reason}"]
    try:
        return registry.saver(target)(out, inputs, outputs)
    except BridgeError as error:
        if required:
            raise
        where = f" ({error.where})" if error.where else ""
        return [f"{error.message}{where}"]


def build_onnx(request: dict[str, Any]) -> dict[str, Any]:
    """Write the canonical hub graph as a plain ONNX file. `request`: `hub`, `out` (the file)."""
    started = time.perf_counter()
    progress.report("bringing the graph to canonical form")
    model = spread_masks(pipeline.canonicalise(ir.load(request["hub"])))
    info = _info(model)
    out = Path(request["out"])
    tensors = [value for value in model.graph.initializers.values() if value.const_value is not None]
    if sum(value.const_value.nbytes for value in tensors if value.const_value is not None) > _ONE_FILE:
        ir.save(model, out, external_data=f"{out.name}.data")
    else:
        for value in tensors:
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(np.array(value.const_value.numpy()), name=value.name)
        ir.save(model, out)
    return {"timings": {"passes": time.perf_counter() - started}, "notes": [], "info": info}


def build_with_onnx2torch(request: dict[str, Any]) -> dict[str, Any]:
    """Make `model.pt2` of an ONNX file with onnx2torch.

    `request`: `read` (a ReadRequest of an ONNX file), `hub` (what was read from it), `out` (a directory).
    """
    started = time.perf_counter()
    progress.report("converting with onnx2torch")
    registry.dialect("torch")
    engine = importlib.import_module("bridge_converters.onnx_to_torch._onnx2torch")
    model = ir.load(request["hub"])
    source = Path(ReadRequest.from_json(request["read"]).path)
    notes = engine.build(source, Path(request["out"]), signature_of(model.graph.inputs))
    return {"timings": {"convert": time.perf_counter() - started}, "notes": notes, "info": _info(model)}


def _info(model: ir.Model) -> dict[str, Any]:
    return {**metadata.source_info(model).__dict__}
