"""Rows of tables that take no gradient."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from pass_graphs import floats, hub, node_of, operators

from bridge.hub import metadata
from bridge.passes.held_rows import hold_rows
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes


def lookup(row: int | None) -> ir.Model:
    model = hub(
        "(int64[N,3] ids) => (float y) { rows = Gather(table, ids) y = Neg(rows) }",
        trained={"table": floats(5, 2)},
    )
    metadata.set_held_row(node_of(model, "Gather"), row)
    return infer_shapes(attach_recipes(model))


@pytest.mark.parametrize("target", ["torch", "tf"])
def test_a_table_that_is_trained_throughout_is_left_alone(target: str) -> None:
    assert operators(hold_rows(lookup(None), target)) == ["Gather", "Neg"]


def test_pytorch_has_an_embedding_with_padding() -> None:
    found = hold_rows(lookup(0), "torch")
    assert operators(found) == ["Embedding", "Neg"]
    assert node_of(found, "Embedding").attributes["padding_idx"].as_int() == 0


def test_tensorflow_stops_the_gradient_of_what_was_read() -> None:
    found = hold_rows(lookup(4), "tf")
    assert operators(found) == ["Gather", "HoldRow", "Neg"]
    hold = node_of(found, "HoldRow")
    assert hold.attributes["row"].as_int() == 4
    assert hold.outputs[0].name == "rows"
    assert metadata.source_value(hold.outputs[0]) == "source of rows"
    assert hold.inputs[1] is found.graph.inputs[0]
