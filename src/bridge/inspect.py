"""What is in a model: format, signature, weights, operators, modules, and what would not convert."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import UnsupportedOp, UnsupportedOps
from bridge.formats.artifacts import Target
from bridge.formats.detect import FORMATS, locate
from bridge.formats.request import InputSpec, ReadRequest

if TYPE_CHECKING:
    import onnx_ir as ir

    from bridge.hub.metadata import WeightInfo

_SHOWN_DEPTH = 4
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its name, numpy dtype, and shape with a name for each dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        axes = "?" if self.shape is None else " x ".join(str(axis) for axis in self.shape)
        return f"{self.name}: {self.dtype}[{axes}]"


@dataclass(frozen=True)
class WeightTotals:
    """How many tensors of a kind there are, and how many numbers and bytes they hold."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class ModuleInfo:
    """A module of the source: its path and class, the nodes in it and below, its own trained elements."""

    path: tuple[str, ...]
    type: str
    nodes: int
    elements: int


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found. `unsupported` is empty if `to` is None."""

    path: str
    format: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    trainable: WeightTotals
    frozen: WeightTotals
    buffers: WeightTotals
    operators: tuple[tuple[str, int], ...]
    modules: tuple[ModuleInfo, ...]
    notes: tuple[str, ...]
    to: Target | None = None
    unsupported: tuple[UnsupportedOp, ...] = ()

    @property
    def title(self) -> str:
        """What the format is called."""
        return FORMATS[self.format].title

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {**asdict(self), "operators": dict(self.operators)}

    def summary(self) -> str:
        """The findings as text."""
        return "\n".join(_lines(self))


def inspect(
    source: str | Path,
    *,
    to: Target | None = None,
    inputs: Sequence[str] | Path | None = None,
    model: str | None = None,
    custom_objects: str | None = None,
    trust: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Inspection:
    """Read a model in a worker process and describe it; with `to`, also what would not convert.

    The other parameters are those of `bridge.convert`. Raises what reading raises: InputError for a
    file that cannot be read, TrustError for a pickle without `trust`.
    """
    from bridge.worker.tasks import run_task

    location = locate(source)
    request = ReadRequest(
        path=str(location.path),
        format=location.format,
        model=model,
        inputs=() if inputs is None or isinstance(inputs, Path) else tuple(map(InputSpec.parse, inputs)),
        examples=str(inputs) if isinstance(inputs, Path) else None,
        trust=trust,
        custom_objects=custom_objects,
    )
    with tempfile.TemporaryDirectory(prefix="bridge-") as scratch:
        run_task(
            "bridge.tasks:read",
            {"read": request.to_json(), "out": scratch},
            label="reader",
            on_progress=on_progress,
        )
        found = run_task(
            "bridge.inspect:examine",
            {"hub": scratch, "to": to, "path": str(source), "format": location.format},
            label="inspector",
            on_progress=on_progress,
        )
    return _from_json(found)


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """The task of the worker: describe the hub file in the directory `hub`, prepared for the target `to`."""
    import onnx_ir as ir

    from bridge.hub import metadata
    from bridge.passes import pipeline
    from bridge.tasks import HUB_FILE

    hub = ir.load(Path(request["hub"]) / HUB_FILE)
    info = metadata.source_info(hub)
    unsupported: Sequence[UnsupportedOp] = ()
    try:
        model = pipeline.canonicalise(hub)
    except UnsupportedOps as error:
        model, unsupported = hub, error.ops
    else:
        if request["to"] in ("torch", "tf"):
            unsupported = _unsupported(model, request["to"])
    weights = [
        (weight, value.const_value)
        for value in hub.graph.initializers.values()
        if (weight := metadata.weight_info(value)) is not None and value.const_value is not None
    ]
    found = Inspection(
        path=request["path"],
        format=request["format"],
        inputs=tuple(_tensor_info(value) for value in model.graph.inputs),
        outputs=tuple(_tensor_info(value) for value in model.graph.outputs),
        trainable=_totals(tensor for weight, tensor in weights if weight.trainable),
        frozen=_totals(tensor for info, tensor in weights if info.kind == "parameter" and not info.trainable),
        buffers=_totals(tensor for weight, tensor in weights if weight.kind == "buffer"),
        operators=_operators(model),
        modules=_modules(model, weights),
        notes=info.notes,
        to=request["to"],
        unsupported=tuple(unsupported) if request["to"] else (),
    )
    return {"inspection": asdict(found)}


def _unsupported(model: ir.Model, to: Any) -> Sequence[UnsupportedOp]:
    from bridge.emit import preflight, registry
    from bridge.passes import pipeline

    prepared = pipeline.prepare(model, target=to, io_layout="source")
    return preflight.find_unsupported(prepared.graph, registry.table(to))


def _from_json(answer: dict[str, Any]) -> Inspection:
    record = answer["inspection"]
    return Inspection(
        path=record["path"],
        format=record["format"],
        inputs=tuple(_tensor_from_json(each) for each in record["inputs"]),
        outputs=tuple(_tensor_from_json(each) for each in record["outputs"]),
        trainable=WeightTotals(**record["trainable"]),
        frozen=WeightTotals(**record["frozen"]),
        buffers=WeightTotals(**record["buffers"]),
        operators=tuple((name, count) for name, count in record["operators"]),
        modules=tuple(ModuleInfo(**{**each, "path": tuple(each["path"])}) for each in record["modules"]),
        notes=tuple(record["notes"]),
        to=record["to"],
        unsupported=tuple(
            UnsupportedOp(**{**each, "scopes": tuple(each["scopes"])}) for each in record["unsupported"]
        ),
    )


def _tensor_from_json(record: dict[str, Any]) -> TensorInfo:
    shape = record["shape"]
    return TensorInfo(record["name"], record["dtype"], None if shape is None else tuple(shape))


def _tensor_info(value: ir.Value) -> TensorInfo:
    shape = None
    if value.shape is not None:
        shape = tuple(axis if isinstance(axis, int) else (axis.value or "?") for axis in value.shape)
    dtype = "?" if value.dtype is None else value.dtype.name.lower()
    return TensorInfo(str(value.name), {"float": "float32", "double": "float64"}.get(dtype, dtype), shape)


def _totals(tensors: Iterator[ir.TensorProtocol]) -> WeightTotals:
    listed = list(tensors)
    return WeightTotals(len(listed), sum(each.size for each in listed), sum(each.nbytes for each in listed))


def _operators(model: ir.Model) -> tuple[tuple[str, int], ...]:
    """Operators by falling count, then by name."""
    from bridge.hub.graph import all_nodes

    counts = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in all_nodes(model)
    )
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _modules(
    model: ir.Model, weights: Sequence[tuple[WeightInfo, ir.TensorProtocol]]
) -> tuple[ModuleInfo, ...]:
    """The modules in the order in which they are first called; a parent before what it contains."""
    from bridge.emit.plan import split_path
    from bridge.hub import metadata
    from bridge.hub.graph import all_nodes

    framework = metadata.source_info(model).framework
    types: dict[tuple[str, ...], str] = {}
    nodes: Counter[tuple[str, ...]] = Counter()
    for node in all_nodes(model):
        scope = metadata.scope_of(node) or ()
        names = tuple(entry.name for entry in scope)
        for depth, entry in enumerate(scope, start=1):
            types.setdefault(names[:depth], entry.type)
            nodes[names[:depth]] += 1
    elements: Counter[tuple[str, ...]] = Counter()
    for info, tensor in weights:
        path = tuple(split_path(info.path, framework))
        owner = next((path[:depth] for depth in range(len(path), 0, -1) if path[:depth] in types), None)
        if owner is not None:
            elements[owner] += tensor.size
    return tuple(ModuleInfo(path, kind, nodes[path], elements[path]) for path, kind in types.items())


def _lines(found: Inspection) -> Iterator[str]:
    yield f"{found.path}: {found.title}"
    yield "inputs:  " + "; ".join(str(each) for each in found.inputs)
    yield "outputs: " + "; ".join(str(each) for each in found.outputs)
    yield "weights:"
    for name in ("trainable", "frozen", "buffers"):
        totals: WeightTotals = getattr(found, name)
        if totals.tensors:
            yield f"  {name}: {totals.elements:,} in {totals.tensors} tensors ({_size(totals.bytes)})"
    yield "operators: " + ", ".join(f"{name} x{count}" for name, count in found.operators)
    if found.modules:
        yield "modules:"
        yield from _tree(found.modules, (), "  ")
    yield from (f"note: {note}" for note in found.notes)
    if found.to is not None and not found.unsupported:
        yield f"converts to {found.to}: every operator is supported"
    elif found.to is not None:
        yield f"does not convert to {found.to}:"
        for op in found.unsupported:
            name = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
            places = f" in {', '.join(op.scopes)}" if op.scopes else ""
            yield f"  {name} x{op.count}{places}: {op.reason}"


def _tree(modules: Sequence[ModuleInfo], parent: tuple[str, ...], indent: str) -> Iterator[str]:
    depth = len(parent) + 1
    below = [each for each in modules if each.path[: depth - 1] == parent and len(each.path) >= depth]
    if depth > _SHOWN_DEPTH:
        if below:
            yield f"{indent}… {len(below)} modules"
        return
    for module in below:
        if len(module.path) == depth:
            own = f", {module.elements:,} weights" if module.elements else ""
            yield f"{indent}{module.path[-1]} ({module.type}{own})"
            yield from _tree(below, module.path, indent + "  ")


def _size(count: int) -> str:
    size = float(count)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
