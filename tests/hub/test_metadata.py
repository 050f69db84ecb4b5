"""Records ride on onnx-ir objects, through files and clones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.hub import metadata
from bridge.hub.metadata import ScopeEntry, SourceInfo, SourceTensor, WeightInfo

TEXT = st.text(max_size=12)
SCOPES = st.lists(st.builds(ScopeEntry, TEXT, TEXT, st.integers(0, 9)), max_size=3)


def model() -> ir.Model:
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((2, 3), np.float32), name="w"))
    x = ir.Value(name="x", shape=ir.Shape(["N", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("MatMul", [x, weight])
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[weight], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=11)


@settings(max_examples=50, deadline=None)
@given(scope=SCOPES, location=TEXT, source=TEXT, path=TEXT, aliases=st.lists(TEXT, max_size=2))
def test_records_survive_serialisation(
    scope: list[ScopeEntry], location: str, source: str, path: str, aliases: list[str]
) -> None:
    hub = model()
    node, weight = hub.graph[0], hub.graph.initializers["w"]
    info = WeightInfo(path, "buffer", False, tuple(aliases))
    metadata.set_scope(node, scope)
    metadata.set_location(node, location)
    metadata.set_source_value(node.outputs[0], source)
    metadata.set_weight_info(weight, info)
    metadata.set_permutation(node.outputs[0], [1, 0])
    metadata.set_recipe_record(weight, {"source": path})
    metadata.set_layout(node, "channels_last")
    metadata.set_source_info(hub, SourceInfo("tf", "keras", inputs=(source,), notes=(location,)))
    metadata.set_source_tensors(hub, {path: SourceTensor((2, 3), "float32", info)})
    again = ir.from_proto(ir.to_proto(hub))
    node, weight = again.graph[0], again.graph.initializers["w"]
    assert metadata.scope_of(node) == tuple(scope)
    assert metadata.location_of(node) == location
    assert metadata.source_value(node.outputs[0]) == source
    assert metadata.weight_info(weight) == info
    assert metadata.permutation_of(node.outputs[0]) == (1, 0)
    assert metadata.recipe_record(weight) == {"source": path}
    assert metadata.layout_of(node) == "channels_last"
    assert metadata.source_info(again) == SourceInfo("tf", "keras", inputs=(source,), notes=(location,))
    assert metadata.source_tensors(again) == {path: SourceTensor((2, 3), "float32", info)}


def test_records_survive_external_data(tmp_path: Path) -> None:
    hub = model()
    metadata.set_weight_info(hub.graph.initializers["w"], WeightInfo("layer/kernel", "parameter", True))
    ir.save(hub, tmp_path / "hub.onnx", external_data="hub.data", size_threshold_bytes=0)
    again = ir.load(tmp_path / "hub.onnx")
    value = again.graph.initializers["w"]
    assert isinstance(value.const_value, ir.ExternalTensor)
    assert metadata.weight_info(value) == WeightInfo("layer/kernel", "parameter", True)


def test_absent_records() -> None:
    hub = model()
    node = hub.graph[0]
    assert metadata.scope_of(node) is None
    assert metadata.layout_of(node) == "channels_first"
    assert metadata.permutation_of(node.outputs[0]) is None
    assert metadata.weight_info(node.outputs[0]) is None
    assert metadata.source_tensors(hub) == {}
    with pytest.raises(KeyError):
        metadata.source_info(hub)


def test_records_can_be_taken_away() -> None:
    hub = model()
    node = hub.graph[0]
    metadata.set_scope(node, [ScopeEntry("a", "A")])
    metadata.set_scope(node, None)
    assert metadata.scope_of(node) is None
    assert not node.metadata_props


def test_path_of_a_scope() -> None:
    assert metadata.scope_path(()) == ""
    assert (
        metadata.scope_path((ScopeEntry("layers", "ModuleList"), ScopeEntry("0", "Block", 2))) == "layers.0"
    )
