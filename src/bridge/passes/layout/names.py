"""Names for the values that the layout pass adds."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.layout.graph import subgraphs


class ValueNames:
    """The value names of a graph and its subgraphs."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken: set[str] = {value.name for value in graph.inputs if value.name is not None}
        self._add(graph)

    def _add(self, graph: ir.Graph) -> None:
        self._taken.update(graph.initializers)
        for node in graph:
            self._taken.update(value.name for value in node.outputs if value.name is not None)
            for inner in subgraphs(node):
                self._taken.update(value.name for value in inner.inputs if value.name is not None)
                self._add(inner)

    def derived(self, name: str | None, suffix: str) -> str:
        """A new name, `name.suffix`, numbered where that is taken."""
        candidate = stem = f"{name or 'value'}.{suffix}"
        number = 2
        while candidate in self._taken:
            candidate = f"{stem}_{number}"
            number += 1
        self._taken.add(candidate)
        return candidate

    def rename(self, value: ir.Value, name: str) -> None:
        self._taken.add(name)
        value.name = name
