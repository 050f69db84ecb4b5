"""What phase A (tracing, in the source's own environment) hands to phase B (conversion to the hub).

A bundle is self-contained and simple enough to be written by a few lines of old Python. On disk it is
a directory with three files:

- `graph.pb`: a serialised `GraphDef` of the inference computation. Every trained variable is a
  `Placeholder` node; nothing in it refers to a resource.
- `weights.safetensors`: the values of those placeholders, keyed by node name.
- `signature.json`: one object, `version` 1, with the fields of `Bundle` other than the two above:
  `inputs` and `outputs` are lists of `{name, tensor, dtype, shape}` (`name` is what users see, `tensor`
  the TensorFlow tensor `node:index`, `dtype` numpy's name, `shape` a list with null for a dynamic axis,
  or null for an unknown rank); `weights` is a list of `{node, path, kind, trainable, aliases}`;
  `unused` the same for trained tensors that no output depends on (`node` empty, no values);
  `lifted` is missing or says whether `graph.pb` is what is said above. An old TensorFlow writes it false:
  then the graph is as it was traced, with the handles of variables as inputs;
  `scopes` maps a TensorFlow name scope to the module path `[[name, class, call], ...]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bridge.errors import InputError
from bridge.hub.scope import ScopeEntry
from bridge.worker.standalone import write_tensors

if TYPE_CHECKING:
    from bridge.hub.metadata import Scope, WeightKind

    Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1


@dataclass(frozen=True)
class Port:
    """An input or output of the model: the name users see, the tensor in the graph, its dtype and shape."""

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Weight:
    """A trained tensor: the placeholder that stands for it and its record in the source."""

    node: str
    path: str
    kind: WeightKind
    trainable: bool
    aliases: tuple[str, ...] = ()


@dataclass
class Bundle:
    """A traced model.

    `seconds` is the time that tracing took; `batched` says that axis 0 of all inputs is one batch. Where it
    is not `lifted`, the graph is as TensorFlow traced it: functions are called, and the placeholders of
    variables are handles (`lift_bundle`).
    """

    graph: tf.compat.v1.GraphDef
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: tuple[Weight, ...]
    values: Mapping[str, Array]
    format: str
    root_type: str = "Model"
    batched: bool = False
    unused: tuple[Weight, ...] = ()
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    lifted: bool = True

    def save(self, directory: str | Path) -> None:
        """Write the bundle's three files into a directory, which is made if missing."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "graph.pb").write_bytes(self.graph.SerializeToString(deterministic=True))
        write_tensors(str(folder / "weights.safetensors"), self.values)
        record = {
            "version": VERSION,
            "format": self.format,
            "root_type": self.root_type,
            "batched": self.batched,
            "inputs": [asdict(port) for port in self.inputs],
            "outputs": [asdict(port) for port in self.outputs],
            "weights": [asdict(weight) for weight in self.weights],
            "unused": [asdict(weight) for weight in self.unused],
            "scopes": {name: [list(entry) for entry in scope] for name, scope in self.scopes.items()},
            "notes": list(self.notes),
            "seconds": self.seconds,
            "lifted": self.lifted,
        }
        (folder / "signature.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> Bundle:
        """Read a bundle; raises InputError where it is incomplete or of another version."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(directory)
        try:
            record = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
            graph = tf.compat.v1.GraphDef.FromString((folder / "graph.pb").read_bytes())
            values = load_file(folder / "weights.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"this is not a traced model: {error}", where=str(directory)) from error
        if record.get("version") != VERSION:
            raise InputError(
                f"the traced model has version {record.get('version')!r}, bridge reads version {VERSION}",
                hint="trace it again with this version of bridge",
                where=str(directory),
            )
        return cls(
            graph=graph,
            inputs=tuple(_port(each) for each in record["inputs"]),
            outputs=tuple(_port(each) for each in record["outputs"]),
            weights=tuple(_weight(each) for each in record["weights"]),
            values=values,
            format=record["format"],
            root_type=record["root_type"],
            batched=record["batched"],
            unused=tuple(_weight(each) for each in record["unused"]),
            scopes={
                name: tuple(ScopeEntry(*entry) for entry in scope) for name, scope in record["scopes"].items()
            },
            notes=tuple(record["notes"]),
            seconds=record["seconds"],
            lifted=record.get("lifted", True),
        )


def _port(record: Mapping[str, Any]) -> Port:
    shape = record["shape"]
    return Port(record["name"], record["tensor"], record["dtype"], None if shape is None else tuple(shape))


def _weight(record: Mapping[str, Any]) -> Weight:
    return Weight(**{**record, "aliases": tuple(record["aliases"])})
