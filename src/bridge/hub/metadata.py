"""What bridge knows about a hub graph beyond ONNX, carried as `metadata_props` of onnx-ir objects.

Everything is stored as JSON strings, so it survives saving the hub to an `.onnx` file and loading it
in another process. This module is the only place that knows the keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bridge.hub.scope import ScopeEntry as ScopeEntry
from bridge.hub.scope import scope_path as scope_path

if TYPE_CHECKING:
    import onnx_ir as ir

_SCOPE = "bridge.scope"
_LOCATION = "bridge.location"
_HELD_ROW = "bridge.held_row"
_LAYOUT = "bridge.layout"
_STOPS_GRADIENT = "bridge.stops_gradient"
_ATTENTION_DROPOUT = "bridge.attention_dropout"
_WEIGHT = "bridge.weight"
_SOURCE_VALUE = "bridge.source_value"
_SOURCE_PERMUTATION = "bridge.source_permutation"
_PERMUTATION = "bridge.permutation"
_RECIPE = "bridge.recipe"
_SOURCE = "bridge.source"
_STRUCTURE = "bridge.structure"
_TENSORS = "bridge.source_tensors"
_TRAINS_AS = "bridge.trains_as"

WeightKind = Literal["parameter", "buffer", "constant"]
Layout = Literal["channels_first", "channels_last"]


Scope = tuple[ScopeEntry, ...]
"""The path of a node in the module tree from below the root (the root itself is the empty tuple)."""


@dataclass(frozen=True)
class WeightInfo:
    """Where a trained tensor (an initializer) came from.

    `path` is the source's own name (`layer1.0.conv1.weight`, `block1/conv/kernel`). `kind` is
    `parameter` (trained by gradient), `buffer` (state such as running statistics) or `constant`.
    `aliases` are the further paths of a tied tensor.
    """

    path: str
    kind: WeightKind
    trainable: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceTensor:
    """A trained tensor of the source as it was read, whether or not the hub graph still holds it as such."""

    shape: tuple[int, ...]
    dtype: str
    info: WeightInfo


@dataclass(frozen=True)
class SourceInfo:
    """What was read: one record per hub model.

    `framework` is `torch`, `tf` or `onnx`; `format` the file format as bridge names it (`pt2`,
    `keras`, `saved_model`, ...). `root_type` is the class name of the root module. `inputs` and
    `outputs` are the names users see, in the source's order; they equal the graph's value names.
    `notes` are sentences the user should read (a batch that is fixed, a fallback that was taken).
    `exporter_seconds` is the time spent in the framework's own exporter. `unused_weights` are the
    paths of trained tensors that no output depends on.
    """

    framework: Literal["torch", "tf", "onnx"]
    format: str
    root_type: str = "Model"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exporter_seconds: float = 0.0
    unused_weights: tuple[str, ...] = field(default=())


def _load(props: dict[str, str], key: str) -> Any:
    text = props.get(key)
    return None if text is None else json.loads(text)


def _store(props: dict[str, str], key: str, value: Any) -> None:
    if value is None:
        props.pop(key, None)
    else:
        props[key] = json.dumps(value, separators=(",", ":"), sort_keys=isinstance(value, dict))


def scope_of(node: ir.Node) -> Scope | None:
    """The module path a node came from; None where the reader could not tell."""
    entries = _load(node.metadata_props, _SCOPE)
    return None if entries is None else tuple(ScopeEntry(*entry) for entry in entries)


def set_scope(node: ir.Node, scope: Iterable[ScopeEntry] | None) -> None:
    _store(node.metadata_props, _SCOPE, None if scope is None else [list(entry) for entry in scope])


def location_of(node: ir.Node) -> str | None:
    """`file.py:11`, the line of the user's own source that made the node, where known."""
    location: str | None = _load(node.metadata_props, _LOCATION)
    return location


def set_location(node: ir.Node, location: str | None) -> None:
    _store(node.metadata_props, _LOCATION, location)


def layout_of(node: ir.Node) -> Layout:
    """The layout in which a layout-sensitive node computes; the layout pass sets `channels_last`."""
    layout: Layout | None = _load(node.metadata_props, _LAYOUT)
    return layout or "channels_first"


def set_layout(node: ir.Node, layout: Layout) -> None:
    _store(node.metadata_props, _LAYOUT, layout)


def attention_dropout(node: ir.Node) -> float:
    """The part of the weights that an Attention drops in training; inference uses them all."""
    return float(_load(node.metadata_props, _ATTENTION_DROPOUT) or 0.0)


def set_attention_dropout(node: ir.Node, ratio: float) -> None:
    _store(node.metadata_props, _ATTENTION_DROPOUT, ratio or None)


def held_row(node: ir.Node) -> int | None:
    """The row of a table to which a Gather passes no gradient, that of padding; None if there is none."""
    row: int | None = _load(node.metadata_props, _HELD_ROW)
    return row


def set_held_row(node: ir.Node, row: int | None) -> None:
    _store(node.metadata_props, _HELD_ROW, row)


def stops_gradient(node: ir.Node) -> bool:
    """Whether an Identity passes no gradient on, as `detach` and `stop_gradient` do."""
    return bool(_load(node.metadata_props, _STOPS_GRADIENT))


def set_stops_gradient(node: ir.Node, stops: bool) -> None:
    _store(node.metadata_props, _STOPS_GRADIENT, stops or None)


def weight_info(value: ir.Value) -> WeightInfo | None:
    """The record of a trained tensor; None for a plain constant and for anything computed."""
    record = _load(value.metadata_props, _WEIGHT)
    return None if record is None else _weight_info(record)


def _weight_info(record: dict[str, Any]) -> WeightInfo:
    return WeightInfo(**{**record, "aliases": tuple(record.get("aliases", ()))})


def set_weight_info(value: ir.Value, info: WeightInfo | None) -> None:
    _store(value.metadata_props, _WEIGHT, None if info is None else asdict(info))


def source_value(value: ir.Value) -> str | None:
    """The name of this tensor in the source's own graph (an fx node, a TensorFlow tensor)."""
    name: str | None = _load(value.metadata_props, _SOURCE_VALUE)
    return name


def set_source_value(value: ir.Value, name: str | None) -> None:
    _store(value.metadata_props, _SOURCE_VALUE, name)


def source_permutation(value: ir.Value) -> tuple[int, ...] | None:
    """How the hub holds the tensor that `source_value` names: hub axis i is source axis `permutation[i]`.

    None if both have the same layout. An exporter changes layouts around convolutions.
    """
    permutation = _load(value.metadata_props, _SOURCE_PERMUTATION)
    return None if permutation is None else tuple(permutation)


def set_source_permutation(value: ir.Value, permutation: Iterable[int] | None) -> None:
    axes = None if permutation is None else list(permutation)
    identity = axes is None or axes == list(range(len(axes)))
    _store(value.metadata_props, _SOURCE_PERMUTATION, None if identity else axes)


def permutation_of(value: ir.Value) -> tuple[int, ...] | None:
    """How the layout pass stores a value: stored axis i is hub axis `permutation[i]`; None if unchanged."""
    permutation = _load(value.metadata_props, _PERMUTATION)
    return None if permutation is None else tuple(permutation)


def set_permutation(value: ir.Value, permutation: Iterable[int] | None) -> None:
    _store(value.metadata_props, _PERMUTATION, None if permutation is None else list(permutation))


def recipe_record(value: ir.Value) -> Any:
    """The JSON form of an initializer's recipe (see `bridge.hub.recipe`); None if it has none."""
    return _load(value.metadata_props, _RECIPE)


def set_recipe_record(value: ir.Value, record: Any) -> None:
    _store(value.metadata_props, _RECIPE, record)


def source_info(model: ir.Model) -> SourceInfo:
    """The record the reader left; raises KeyError on a model that no reader made."""
    record = json.loads(model.metadata_props[_SOURCE])
    for name in ("inputs", "outputs", "notes", "unused_weights"):
        record[name] = tuple(record.get(name, ()))
    return SourceInfo(**record)


def set_source_info(model: ir.Model, info: SourceInfo) -> None:
    _store(model.metadata_props, _SOURCE, asdict(info))


def trains_as(model: ir.Model) -> Literal["torch", "tf"] | None:
    """The framework whose rules of training are to be kept exactly; None where the target's own will do."""
    found: Literal["torch", "tf"] | None = _load(model.metadata_props, _TRAINS_AS)
    return found


def set_trains_as(model: ir.Model, framework: Literal["torch", "tf"] | None) -> None:
    _store(model.metadata_props, _TRAINS_AS, framework)


def source_tensors(model: ir.Model) -> dict[str, SourceTensor]:
    """All trained tensors of the source by path, the unused ones included; empty before canonicalisation."""
    records = _load(model.metadata_props, _TENSORS) or {}
    return {
        path: SourceTensor(tuple(record["shape"]), record["dtype"], _weight_info(record["info"]))
        for path, record in records.items()
    }


def set_source_tensors(model: ir.Model, tensors: dict[str, SourceTensor]) -> None:
    _store(model.metadata_props, _TENSORS, {path: asdict(tensor) for path, tensor in tensors.items()})


def structure(model: ir.Model) -> Any:
    """How the source's nested inputs and outputs were flattened; None where nothing is nested or known.

    `{"inputs": [...], "keyword_inputs": {...}, "outputs": ...}`: tuples are lists, dicts are objects,
    tensors the names of graph inputs and outputs, values that are no tensors null.
    """
    return _load(model.metadata_props, _STRUCTURE)


def set_structure(model: ir.Model, record: Any) -> None:
    _store(model.metadata_props, _STRUCTURE, record)
