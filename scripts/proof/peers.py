"""The planted faults through the checks of Polygraphy and of `torch.onnx.verification`, beside ours.

    pip install polygraphy
    python -m scripts.proof.peers DIRECTORY

DIRECTORY is that of `scripts.proof.planted_faults`. The two can load the faults of a converted model's graph,
as ONNX: the planted hub graph against the honest one under onnxruntime (Polygraphy, whose
comparison fails where an element is off by more than both atol and rtol, 1e-5 each), or against the exported
program that it was made from (`verify_onnx_program`, which gives differences and leaves judging them to the
user: the same two tolerances are applied to them). Localised: with all values marked as outputs, the first
one beyond the tolerances is that of the planted node.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException
from polygraphy import constants
from polygraphy.backend.onnx import ModifyOutputs
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator, CompareFunc
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER
from torch.onnx.verification import verify_onnx_program

from bridge.hub import metadata
from bridge.passes import pipeline
from bridge.tasks import HUB_FILE
from scripts.proof.planted_faults import counts, read_results
from scripts.proof.plants import effects, graph_faults
from scripts.proof.plants.architectures import Input
from scripts.proof.plants.catalog import HONEST, MODELS, Model, plants

TOLERANCE = 1e-5
_FAILURES = (RuntimeError, PolygraphyException, Fail, InvalidArgument, InvalidGraph, RuntimeException)
"""What a planted model that does not run raises."""


def check(directory: Path, model: Model) -> list[dict[str, Any]]:
    """What both say to the honest graph, and to every fault that they can load."""
    hub = ir.external_data.load_to_model(ir.load(directory / model.name / HUB_FILE))
    canonical = pipeline.canonicalise(hub)
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        honest = Path(scratch) / "honest.onnx"
        _save(canonical.clone(deep_copy=True), honest)
        order = [value.name for node in canonical.graph for value in node.outputs]
        for plant in [None, *plants(directory, model.name)]:
            if plant is not None and plant.fault.kind not in graph_faults.GRAPH_FAULTS:
                continue
            planted = canonical.clone(deep_copy=True)
            if plant is not None:
                graph_faults.plant(planted, plant.fault)
                planted = graph_faults.shaped(planted)
            file = Path(scratch) / "planted.onnx"
            _save(planted, file)
            first = _polygraphy(honest, file, order)
            record = {
                "model": model.name,
                "label": HONEST if plant is None else plant.fault.label,
                "polygraphy": first,
            }
            if model.source == "torch":
                record["torch"] = _torch(model, directory, planted)
            if plant is not None:
                record["kind"] = plant.fault.kind
                record["names"] = [plant.fault.node, *plant.names]
            records.append(record)
    return records


def _save(model: ir.Model, path: Path) -> None:
    proto = ir.to_proto(model)
    onnx.save(proto, path)


def _polygraphy(honest: Path, planted: Path, order: Sequence[str | None]) -> dict[str, Any]:
    """Whether the outputs differ, and the first value that does; a planted model that fails differs."""
    try:
        return {
            "detected": bool(_differing(honest, planted, outputs=None)),
            "first": _first(order, _differing(honest, planted, outputs=constants.MARK_ALL)),
        }
    except _FAILURES as error:
        return {"detected": True, "first": None, "failed": f"{type(error).__name__}: {str(error)[:200]}"}


def _differing(honest: Path, planted: Path, outputs: Any) -> set[str]:
    runners = []
    for path in (honest, planted):
        model = onnx.load(str(path))
        marked = model if outputs is None else ModifyOutputs(model, outputs=outputs)
        runners.append(OnnxrtRunner(SessionFromOnnx(_serialized(marked)), name=path.stem))
    compare = CompareFunc.simple(atol=TOLERANCE, rtol=TOLERANCE)
    return {
        name
        for result in Comparator.compare_accuracy(Comparator.run(runners), compare_func=compare)
        for iterations in result.values()
        for iteration in iterations
        for name, matched in iteration.items()
        if not matched
    }


def _serialized(model: Any) -> bytes:
    loaded: onnx.ModelProto = model if isinstance(model, onnx.ModelProto) else model()
    return bytes(loaded.SerializeToString())


def _first(order: Sequence[str | None], differing: set[str]) -> str | None:
    return next((name for name in order if name in differing), None)


def _torch(model: Model, directory: Path, planted: ir.Model) -> dict[str, Any]:
    """The same by `verify_onnx_program`, whose values have the names of the exported program's nodes."""
    program = torch.export.load(model.source_path(directory))
    renamed, names = _by_source_names(planted)
    onnx_program = torch.onnx.ONNXProgram(renamed, program)
    arguments = _arguments(model.inputs)
    try:
        outputs = verify_onnx_program(onnx_program, arguments)
        values = verify_onnx_program(onnx_program, arguments, compare_intermediates=True)
    except _FAILURES as error:
        return {"detected": True, "first": None, "failed": f"{type(error).__name__}: {str(error)[:200]}"}
    first = next((names[each.name] for each in values if _beyond(each)), None)
    return {"detected": any(map(_beyond, outputs)), "first": first}


def _beyond(info: Any) -> bool:
    absolute, relative = float(info.max_abs_diff), float(info.max_rel_diff)
    return not (absolute <= TOLERANCE or relative <= TOLERANCE)


def _by_source_names(model: ir.Model) -> tuple[ir.Model, dict[str, str]]:
    """The values under the names that the exporter gave them, and the hub's names by those."""
    renamed = model.clone(deep_copy=True)
    names: dict[str, str] = {}
    outputs = set(renamed.graph.outputs)
    for node in renamed.graph:
        for value in node.outputs:
            source = metadata.source_value(value)
            if source is not None and source not in names:
                names[source] = value.name or ""
                if value not in outputs:
                    value.name = source
    return renamed, names


def _arguments(inputs: Sequence[Input]) -> tuple[torch.Tensor, ...]:
    generator = np.random.default_rng(0)
    arrays = [
        generator.integers(0, each.limit or 9, (2, *each.shape))
        if each.dtype == "int64"
        else generator.standard_normal((2, *each.shape)).astype(np.float32)
        for each in inputs
    ]
    return tuple(map(torch.from_numpy, arrays))


def table(directory: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """For the plants that count: loaded, detected and localised by each, in all and by kind."""
    ours = {(each["model"], each["label"]): each for each in read_results(directory)}
    wanted = []
    lines = []
    for each in records:
        own = ours.get((each["model"], each["label"]))
        if each["label"] == HONEST:
            said = {peer: each[peer]["detected"] for peer in ("polygraphy", "torch") if peer in each}
            lines.append(f"  {each['model']:24} {said}")
        elif own is not None:
            errors = ours[each["model"], HONEST]["source_errors"]
            if counts(effects.load(directory, each["model"])[each["label"]], errors):
                wanted.append((each, own))
    counted = sum(
        counts(effects.load(directory, model)[label], ours[model, HONEST]["source_errors"])
        for model, label in ours
        if label != HONEST
    )
    lines = ["honest graphs that are called different", *lines, ""]
    lines.append(f"of {counted} plants that count, loaded / detected / localised")
    lines.append(f"  {'kind':24} {'bridge':>15} {'polygraphy':>15} {'torch.onnx':>15}")
    for kind in [*sorted({each["kind"] for each, _ in wanted}), "all"]:
        group = [pair for pair in wanted if kind in (pair[0]["kind"], "all")]
        cells = [_cell([(own["verdict"] == "different", bool(own.get("named"))) for _, own in group])]
        for peer in ("polygraphy", "torch"):
            cells.append(_cell([_said(each, peer) for each, _ in group if peer in each]))
        lines.append(f"  {kind:24} " + " ".join(f"{each:>15}" for each in cells))
    return "\n".join(lines)


def _said(record: Mapping[str, Any], peer: str) -> tuple[bool, bool]:
    return record[peer]["detected"], record[peer]["first"] in record["names"]


def _cell(said: Sequence[tuple[bool, bool]]) -> str:
    return f"{len(said)} / {sum(one for one, _ in said)} / {sum(one and other for one, other in said)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    arguments = parser.parse_args()
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    records = []
    for model in map(MODELS.__getitem__, arguments.models):
        if model.made == "converted" and (arguments.directory / model.name / "plants.json").is_file():
            records += check(arguments.directory, model)
    (arguments.directory / "peers.json").write_text(json.dumps(records, indent=1) + "\n")
    print(table(arguments.directory, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
