"""Conversions with a fault in them, made as `bridge convert` makes them. Imports the target framework."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from bridge.emit import preflight, registry
from bridge.emit.formatting import Formatter
from bridge.emit.writer import FILE_NAME, Emitted, emit
from bridge.hub.arrays import contiguous
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors
from scripts.proof.plants import graph_faults, text_faults
from scripts.proof.plants.faults import Fault


class Conversion:
    """One model on its way from the hub to a target, many times: the honest one, and one for each fault."""

    def __init__(self, hub: Path, target: registry.TargetName) -> None:
        self._target = target
        self._dialect = registry.dialect(target)
        self._table = registry.table(target)
        self._table.find("Identity", version=1)
        self._canonical = pipeline.canonicalise(ir.load(hub))
        self._honest = self._emit(None)

    def faults(self) -> list[Fault]:
        """Every fault that can be planted."""
        return graph_faults.sites(self._canonical) + text_faults.sites(self._honest, self._target)

    def names(self, fault: Fault) -> tuple[str, ...]:
        """The hub values that stand for the fault's node: itself, in any layout, or what it is fused into.

        A node that the fault puts behind it is part of it.
        """
        anchored = {each.hub for each in self._honest.anchors.anchors}
        if fault.kind == "swapped_outputs":
            return self._honest.outputs.names
        there = tuple(each for each in _in_any_layout(fault.node) if each in anchored)
        if there:
            added = (name for each in graph_faults.inserted(fault) for name in _in_any_layout(each))
            return (*there, *added)
        node = next(each for each in self._canonical.graph if each.outputs[0].name == fault.node)
        while node.outputs[0].name not in anchored:
            users = node.outputs[0].consumers()
            if len(users) != 1:
                return (fault.node,)
            node = users[0]
        return (node.outputs[0].name or fault.node,)

    def build(self, fault: Fault | None, directory: Path) -> None:
        """Write the converted model with the fault to an existing directory."""
        emitted = self._emit(fault if fault is not None and fault.kind in graph_faults.GRAPH_FAULTS else None)
        source = emitted.source
        if fault is not None and fault.kind not in graph_faults.GRAPH_FAULTS:
            source = text_faults.plant(emitted, fault, self._target)
        (directory / FILE_NAME).write_text(source, encoding="utf-8")
        emitted.weights.save(directory / "weights.json")
        emitted.anchors.save(directory / "anchors.json")
        write_tensors(str(directory / "model.safetensors"), emitted.tensors, contiguous)
        if self._target == "tf":
            registry.saver(self._target)(directory, emitted.inputs, emitted.outputs)

    def _emit(self, fault: Fault | None) -> Emitted:
        model = self._canonical.clone(deep_copy=True)
        if fault is not None:
            graph_faults.plant(model, fault)
            model = graph_faults.shaped(model)
        prepared = pipeline.prepare(model, target=self._target)
        preflight.check(prepared, self._table)
        with Formatter(FILE_NAME) as formatter:
            return emit(prepared, self._table, self._dialect, formatter)


def _in_any_layout(name: str) -> tuple[str, ...]:
    """A value's name, and those that the layout pass may give it."""
    return name, f"{name}.channels_first", f"{name}.channels_last"
