"""Running sources for verification: names and order of the hub, double precision, intermediate values."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.decompose import as_the_hub_names_it
from bridge_converters.torch_to_onnx.double import fp64_program
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.interpret import Interpreted
from bridge_converters.torch_to_onnx.load import load_runnable
from bridge_converters.torch_to_onnx.program import DETACHED
from bridge_converters.torch_to_onnx.reader import read
from bridge_converters.torch_to_onnx.scopes import module_path
from bridge_converters.torch_to_onnx.translate import translate
from bridge_converters.torch_to_onnx.user_code import location_of_node

from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata


def relative(got: torch.Tensor, reference: torch.Tensor) -> float:
    return float((got.double() - reference).norm() / reference.norm())


def test_a_source_runs_under_the_names_of_its_hub(nets: ModuleType) -> None:
    module = nets.Clashes()
    pair = {"left": torch.ones(2, 3), "right": torch.zeros(2, 3)}
    export_module(module, (torch.randn(2, 3), pair), "net.pt2")
    runnable = load_runnable(ReadRequest("net.pt2", "pt2"))
    info = metadata.source_info(read(ReadRequest("net.pt2", "pt2")))
    assert (runnable.input_names, runnable.output_names) == (info.inputs, info.outputs)
    tensors = [torch.full((5, 3), float(value)) for value in (1, 2, 3)]
    assert [each.flatten()[0].item() for each in runnable(*tensors)] == [9.0, 2.0, 9.0, 2.0]
    with pytest.raises(ValueError, match="2 inputs were given"):
        runnable(*tensors[:2])


def test_double_precision_is_close_and_double_throughout(nets: ModuleType) -> None:
    torch.save(nets.Tangle().state_dict(), "net.pt")
    request = ReadRequest(
        "net.pt", "state_dict", model="reader_nets:Tangle", inputs=(InputSpec.parse("1x3x9x9"),)
    )
    runnable = load_runnable(request)
    reference = runnable.double()
    image = torch.randn(3, 3, 9, 9)
    for got, want in zip(runnable(image), reference(image), strict=True):
        assert want.dtype == torch.float64
        assert 0 < relative(got, want) < 1e-6
    assert all(each.dtype == torch.float32 for each in runnable.module.parameters())  # type: ignore[attr-defined]


def test_double_precision_reaches_dtypes_written_in_the_code() -> None:
    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            position = torch.arange(x.shape[1], dtype=torch.float32) / 3
            return x.float() * torch.full((1,), 0.1) + position.sin() + torch.tensor(1 / 3)

    program = torch.export.export(Writes(), (torch.randn(2, 7),))
    x = torch.randn(2, 7, dtype=torch.float64)
    exact = x * np.float64(np.float32(0.1)) + (torch.arange(7, dtype=torch.float64) / 3).sin()
    result = fp64_program(program)(x)
    assert result.dtype == torch.float64
    # 0.1 is a number in the graph and exact in double; the tensor 1 / 3 was stored in single precision.
    exact = x * 0.1 + (torch.arange(7, dtype=torch.float64) / 3).sin() + float(np.float32(1 / 3))
    assert torch.allclose(result, exact, rtol=1e-15, atol=1e-15)


def test_double_precision_trains_tied_and_frozen_weights_as_the_source_does(nets: ModuleType) -> None:
    module = nets.Tangle().eval()
    program = torch.export.export(module, (torch.randn(2, 3, 9, 9),))
    double = fp64_program(program)
    double(torch.randn(2, 3, 9, 9))["sum"].sum().backward()
    parameters = dict(double.module.named_parameters())
    assert parameters["fc.weight"].requires_grad is False
    assert parameters["fc2.weight"].grad is not None
    assert "fc3.weight" not in parameters
    assert parameters["stem.weight"].grad is not None


def test_intermediate_values_have_the_hubs_source_names(nets: ModuleType) -> None:
    export_module(nets.Tangle(), "1x3x9x9", "net.pt2")
    request = ReadRequest("net.pt2", "pt2")
    runnable, model = load_runnable(request), read(request)
    named = {metadata.source_value(value): value for node in model.graph for value in node.outputs}
    named.pop(None, None)
    for value in named.values():
        if not value.is_graph_output():
            model.graph.outputs.append(value)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    image = torch.randn(2, 3, 9, 9)
    found = dict(
        zip(
            (each.name for each in session.get_outputs()),
            session.run(None, {"image": image.numpy()}),
            strict=True,
        )
    )
    interpreted = Interpreted(
        as_the_hub_names_it(runnable.program), runnable.input_names, {}, {}, torch.float32
    )
    traced = {each.name: each.value.detach() for each in interpreted.recorded([image])[1]}
    assert len(named) > 20
    for source, value in named.items():
        np.testing.assert_allclose(found[value.name], traced[source].numpy(), rtol=1e-4, atol=1e-5)
    assert len(runnable(image)) == 2


def test_translation_keeps_the_program_usable(nets: ModuleType) -> None:
    program = torch.export.export(nets.linear, (torch.randn(2, 2),))
    assert translate(program).seconds > 0
    assert program.module()(torch.randn(2, 2)).shape == (2, 1)


def test_parts_without_gradients_keep_their_scopes_and_lines() -> None:
    class Rotary(torch.nn.Module):
        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                shifted = x + 1
            return shifted.cos() * 2

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rotary = Rotary()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rotary(x) + x

    program = torch.export.export(Net(), (torch.randn(2, 2),))
    before = program.graph_module.code
    decomposed = as_the_hub_names_it(program)
    assert program.graph_module.code == before
    nodes = {node.name: node for node in decomposed.graph.nodes if node.op == "call_function"}
    assert module_path(nodes["cos"]) == "rotary"
    assert str(location_of_node(nodes["cos"])).startswith("test_runnable.py:")
    detached = {name for name, node in nodes.items() if (node.meta.get("custom") or {}).get(DETACHED)}
    assert "cos" in detached
    assert {node.name for node in decomposed.graph.output_node().all_input_nodes}.isdisjoint(detached)


class Region(torch.nn.Module):
    """Casts inside a region of its own, as rotary positions of transformers do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            angles = x.to(torch.float32) * torch.ones(3, dtype=torch.float32)
        return x + angles


def test_regions_of_a_program_stay_as_they_are() -> None:
    program = torch.export.export(Region(), (torch.ones(2, 3),))
    runnable = program.module()
    assert fp64_program(program)(torch.ones(2, 3)).dtype is torch.float64
    assert runnable(torch.ones(2, 3)).dtype is torch.float32
    assert program.module()(torch.ones(2, 3)).dtype is torch.float32
