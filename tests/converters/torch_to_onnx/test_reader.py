"""Reading PyTorch's formats: weights, scopes, names, dynamic batch, and the errors for what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.reader import read
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

from bridge.errors import BridgeError, InputError, TrustError, UnsupportedOps
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata

IMAGE = (InputSpec.parse("1x3x10x10"),)


def nodes(model: ir.Model, op_type: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op_type]


def weights(model: ir.Model) -> dict[str, metadata.WeightInfo]:
    found = (metadata.weight_info(value) for value in model.graph.initializers.values())
    return {info.path: info for info in found if info is not None}


def assert_same(
    model: ir.Model, module: Any, *shapes: tuple[int, ...], batches: tuple[int, ...] = (1, 3, 17)
) -> None:
    """Compare onnxruntime on the hub with the module, at several batch sizes."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    for batch in batches:
        tensors = [torch.randn(batch, *shape) for shape in shapes]
        feeds = {
            each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), tensors, strict=True)
        }
        with torch.no_grad():
            expected = pytree.tree_leaves(module(*tensors))
        for got, want in zip(session.run(None, feeds), expected, strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_tangled_module_keeps_everything(nets: ModuleType) -> None:
    module = nets.Tangle().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert export_module(module, torch.randn(1, 3, 10, 10), "net.pt2") == ()
    assert all(each.training for each in module.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())

    model = read(ReadRequest("net.pt2", "pt2"))
    assert_same(model, module.eval(), (3, 10, 10))

    info = metadata.source_info(model)
    assert (info.framework, info.format, info.root_type) == ("torch", "pt2", "Tangle")
    assert info.inputs == ("image",)
    assert info.outputs == ("logits", "sum")
    assert info.unused_weights == ("unused.weight", "unused.bias")
    assert info.notes == ()
    assert info.exporter_seconds > 0
    assert [str(size) for size in model.graph.inputs[0].shape] == ["batch", "3", "10", "10"]
    assert metadata.structure(model)["outputs"] == {"logits": "logits", "sum": "sum"}

    known = weights(model)
    persistent = {name for name in before if "num_batches" not in name and not name.startswith("unused")}
    assert set(known) == (persistent - {"fc3.weight"}) | {"shift", "lifted_tensor_0"}
    assert known["fc2.weight"] == metadata.WeightInfo("fc2.weight", "parameter", True, ("fc3.weight",))
    assert known["fc.weight"].trainable is False
    assert known["scale"] == metadata.WeightInfo("scale", "buffer", False)
    assert known["lifted_tensor_0"].kind == "constant"
    for name in persistent - {"fc3.weight"}:
        assert np.array_equal(model.graph.initializers[name].const_value.numpy(), before[name].numpy())
    assert list(known)[:2] == ["gain", "stem.weight"]

    scopes = [metadata.scope_of(node) for node in nodes(model, "Conv")]
    assert [[(each.name, each.type, each.call) for each in scope] for scope in scopes] == [
        [("stem", "Conv2d", 0)],
        [("layers", "Sequential", 0), ("0", "Block", 0), ("conv", "Conv2d", 0)],
        [("layers", "Sequential", 0), ("1", "Sequential", 0), ("0", "Block", 0), ("conv", "Conv2d", 0)],
        [("blocks", "ModuleList", 0), ("0", "Block", 0), ("conv", "Conv2d", 0)],
        [("blocks", "ModuleList", 0), ("0", "Block", 1), ("conv", "Conv2d", 1)],
    ]
    assert all(len(node.inputs) == 2 for node in nodes(model, "Conv")[1:])
    norms = nodes(model, "BatchNormalization")
    assert {round(node.attributes["momentum"].as_float(), 6) for node in norms} == {0.7}
    ratios = [ir.convenience.get_const_tensor(node.inputs[1]) for node in nodes(model, "Dropout")]
    assert [ratio.numpy().item() for ratio in ratios if ratio is not None] == pytest.approx([0.3, 0.25])
    assert all(len(node.outputs) == 1 and len(node.inputs) == 2 for node in nodes(model, "Dropout"))
    line = (
        Path("reader_nets.py")
        .read_text()
        .splitlines()
        .index("        return self.act(self.bn(self.conv(x))) + x")
    )
    assert metadata.location_of(nodes(model, "Conv")[1]) == f"reader_nets.py:{line + 1}"
    assert metadata.source_value(nodes(model, "Conv")[0].outputs[0]) == "conv2d"


@pytest.mark.parametrize(
    "format", ["pt2", "torchscript", "traced", "pickle_module", "state_dict", "safetensors"]
)
def test_a_linear_model_is_the_same_in_every_format(nets: ModuleType, format: str) -> None:
    module = nets.linear
    inputs = (InputSpec.parse("1x2"),)
    request = ReadRequest("model.pt", format, inputs=inputs)
    match format:
        case "pt2":
            export_module(module, "1x2", "model.pt2")
            request = ReadRequest("model.pt2", format)
        case "torchscript":
            torch.jit.script(module).save("model.pt")
        case "traced":
            torch.jit.trace(module, torch.randn(2, 2)).save("model.pt")
            request = replace(request, format="torchscript")
        case "pickle_module":
            torch.save(module, "model.pt")
            request = replace(request, trust=True)
        case "state_dict":
            torch.save(module.state_dict(), "model.pt")
            request = replace(request, model="reader_nets:linear")
        case "safetensors":
            save_file(module.state_dict(), "model.pt")
            request = replace(request, model="reader_nets:linear")
    model = read(request)
    assert_same(model, module, (2,))
    assert weights(model) == {
        "weight": metadata.WeightInfo("weight", "parameter", True),
        "bias": metadata.WeightInfo("bias", "parameter", True),
    }
    info = metadata.source_info(model)
    assert (info.root_type, info.inputs, info.outputs) == ("Linear", ("input",), ("output",))
    assert [node.op_type for node in model.graph] == ["Gemm"]
    assert metadata.scope_of(next(iter(model.graph))) == ()


def test_traced_torchscript_keeps_scopes_and_kinds(nets: ModuleType) -> None:
    module = nets.Tangle().eval()
    torch.jit.trace(module, torch.randn(2, 3, 10, 10), strict=False).save("net.pt")
    model = read(ReadRequest("net.pt", "torchscript", inputs=IMAGE))
    assert_same(model, module, (3, 10, 10))
    known = weights(model)
    assert known["fc2.weight"].aliases == ("fc3.weight",)
    assert known["fc.weight"].trainable is False
    assert known["scale"].kind == "buffer"
    last = metadata.scope_of(nodes(model, "Conv")[-1])
    assert last is not None
    assert [tuple(each) for each in last] == [
        ("blocks", "ModuleList", 0),
        ("0", "Block", 1),
        ("conv", "Conv2d", 1),
    ]
    assert len(nodes(model, "Dropout")) == 2


def test_scripted_control_flow_is_followed(nets: ModuleType) -> None:
    module = nets.Scripted().eval()
    torch.jit.script(module).save("net.pt")
    model = read(ReadRequest("net.pt", "torchscript", inputs=(InputSpec.parse("1x4x6x6"),)))
    assert_same(model, module, (4, 6, 6))
    assert metadata.source_info(model).outputs == ("output_0", "output_1_mean")
    assert {metadata.location_of(node) for node in nodes(model, "Conv")} == {
        f"reader_nets.py:{line}"
        for line, text in enumerate(Path("reader_nets.py").read_text().splitlines(), 1)
        if "self.act(self.bn(self.conv(x)))" in text
    }
    paths = {
        metadata.scope_path(scope) for node in nodes(model, "Conv") if (scope := metadata.scope_of(node))
    }
    assert paths == {"layers.0.conv", "layers.1.conv", "more.0.conv", "more.1.conv"}


def test_torchscript_traced_in_training_mode_is_evaluated_with_a_note(nets: ModuleType) -> None:
    module = nets.Tangle().train()
    torch.jit.trace(module, torch.randn(2, 3, 10, 10), strict=False, check_trace=False).save("net.pt")
    model = read(ReadRequest("net.pt", "torchscript", inputs=IMAGE))
    assert "training mode" in metadata.source_info(model).notes[0]
    assert len(nodes(model, "Dropout")) == 2


def test_names_that_clash_and_results_that_are_no_tensors(nets: ModuleType) -> None:
    module = nets.Clashes()
    pair = {"left": torch.ones(2, 3), "right": torch.zeros(2, 3)}
    export_module(module, (torch.randn(2, 3), pair), "net.pt2")
    model = read(ReadRequest("net.pt2", "pt2"))
    info = metadata.source_info(model)
    assert info.inputs == ("x", "pair_left", "pair_right")
    assert info.outputs == ("output_0", "output_1", "output_4_0", "output_4_1")
    assert info.notes == ("outputs that are no tensors are left out: output_2, output_3",)
    assert metadata.structure(model) == {
        "inputs": ["x", {"left": "pair_left", "right": "pair_right"}],
        "keyword_inputs": {},
        "outputs": ["output_0", "output_1", None, None, ["output_4_0", "output_4_1"]],
    }
    assert set(weights(model)) == {"x", "mul"}
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    feeds = {name: np.full((5, 3), 2.0, np.float32) for name in info.inputs}
    results = session.run(None, feeds)
    assert [float(each.flat[0]) for each in results] == [14.0, 2.0, 14.0, 2.0]


def test_a_batch_that_the_code_fixes_is_said_to_be_fixed(nets: ModuleType) -> None:
    notes = export_module(nets.FixedBatch(), torch.randn(4, 6), "net.pt2")
    assert len(notes) == 1
    assert "one size only (x: 4x6)" in notes[0]
    model = read(ReadRequest("net.pt2", "pt2"))
    assert metadata.source_info(model).notes == notes
    assert [str(size) for size in model.graph.inputs[0].shape] == ["4", "sequence"]


def test_a_static_program_says_how_to_export_it_dynamic(nets: ModuleType) -> None:
    torch.export.save(torch.export.export(nets.linear, (torch.randn(2, 2),)), "net.pt2")
    (note,) = metadata.source_info(read(ReadRequest("net.pt2", "pt2"))).notes
    assert 'dynamic_shapes={"input": {0: batch}}' in note


def test_a_program_in_training_mode_is_evaluated_with_a_note(nets: ModuleType) -> None:
    module = nets.Channels().train()
    torch.export.save(torch.export.export(module, (torch.randn(4, 6, 5),)), "net.pt2")
    model = read(ReadRequest("net.pt2", "pt2"))
    notes = metadata.source_info(model).notes
    assert "training mode" in notes[0]
    assert any("feature_dropout with p=0.2" in note for note in notes)
    assert_same(model, module.eval(), (6, 5), batches=(4,))
    assert len(nodes(model, "Dropout")) == 1


def test_a_module_with_state_is_noted(nets: ModuleType) -> None:
    export_module(nets.Counts(), torch.randn(2, 3), "net.pt2")
    (note,) = metadata.source_info(read(ReadRequest("net.pt2", "pt2"))).notes
    assert "changes calls whenever it is called" in note


def test_named_axes_are_dynamic_and_keep_their_names(nets: ModuleType) -> None:
    module = nets.Block(3).eval()
    export_module(module, {"x": "Nx3xHxW"}, "net.pt2")
    model = read(ReadRequest("net.pt2", "pt2"))
    assert [str(size) for size in model.graph.inputs[0].shape] == ["N", "3", "H", "W"]
    assert_same(model, module, (3, 9, 4))


def test_an_axis_that_cannot_vary_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"axis 2 \('width'\) of input 'input' cannot be dynamic"):
        export_module(torch.nn.Linear(16, 2), {"input": "Nx3xwidth"}, "net.pt2")


def test_a_fixed_batch_can_be_asked_for(nets: ModuleType) -> None:
    torch.save(nets.linear.state_dict(), "model.pt")
    request = ReadRequest(
        "model.pt", "state_dict", model="reader_nets:linear", inputs=(InputSpec.parse("5x2"),)
    )
    assert list(read(replace(request, static_batch=True)).graph.inputs[0].shape) == [5, 2]
    export_module(nets.linear, "3x2", "model.pt2")
    archive = ReadRequest("model.pt2", "pt2", inputs=(InputSpec.parse("7x2"),), static_batch=True)
    model = read(archive)
    assert [list(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)] == [[7, 2], [7, 1]]


def test_control_flow_of_torch_becomes_an_if_with_scopes(tmp_path: Path) -> None:
    class Either(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> Any:
            return torch.cond(x.sum() > 0, lambda x: self.fc(x), lambda x: x - 1, (x,))

    export_module(Either(), torch.randn(4, 6), tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    (branch,) = nodes(model, "If")
    (gemm,) = [node for node in branch.attributes["then_branch"].as_graph() if node.op_type == "Gemm"]
    assert metadata.scope_path(metadata.scope_of(gemm) or ()) == "fc"
    assert str(tmp_path) not in ir.to_proto(model).SerializeToString().decode("latin-1")


def test_examples_from_a_file_give_the_shapes(nets: ModuleType) -> None:
    torch.save(nets.linear.state_dict(), "model.pt")
    np.savez("examples.npz", input=np.ones((4, 2), np.float32))
    request = ReadRequest("model.pt", "state_dict", model="reader_nets:linear", examples="examples.npz")
    assert [str(size) for size in read(request).graph.inputs[0].shape] == ["batch", "2"]
    np.savez("examples.npz", image=np.ones((4, 2), np.float32), other=np.ones(3))
    with pytest.raises(InputError, match="'image', 'other'"):
        read(request)


def test_reading_twice_gives_the_same_bytes_in_any_process(nets: ModuleType) -> None:
    export_module(nets.Tangle(), "1x3x10x10", "net.pt2")
    torch.jit.script(nets.Scripted().eval()).save("scripted.pt")
    program = """
import dataclasses, hashlib, sys
import onnx_ir as ir
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata
from bridge_converters.torch_to_onnx.reader import read
folder, order = sys.argv[1:]
requests = [
    ReadRequest(f"{folder}/net.pt2", "pt2"),
    ReadRequest(f"{folder}/scripted.pt", "torchscript", inputs=(InputSpec.parse("1x4x6x6"),)),
]
digests = {}
for request in requests[:: int(order)]:
    model = read(request)
    metadata.set_source_info(model, dataclasses.replace(metadata.source_info(model), exporter_seconds=0.0))
    data = ir.to_proto(model).SerializeToString(deterministic=True)
    assert folder.encode() not in data and b"site-packages" not in data
    digests[request.format] = hashlib.sha256(data).hexdigest()
print(sorted(digests.items()))
"""
    folder = os.getcwd()
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, folder, order],
            cwd=cwd,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, cwd, order in (("0", folder, "1"), ("7", "/", "-1"))
    ]
    assert outputs[0] == outputs[1]


class TestWhatIsMissing:
    def test_input_shapes(self, nets: ModuleType) -> None:
        torch.jit.script(nets.linear).save("linear.pt")
        with pytest.raises(InputError, match=r"linear.pt does not say .*takes input") as caught:
            read(ReadRequest("linear.pt", "torchscript"))
        assert caught.value.hint == "add --input 1x2, with the shape that you use"
        torch.save(nets.Tangle().state_dict(), "net.pt")
        with pytest.raises(InputError) as caught:
            read(ReadRequest("net.pt", "state_dict", model="reader_nets:tangle"))
        assert caught.value.hint == "add --input 1x3x224x224, with the shape that you use"

    def test_the_module_of_weights(self, nets: ModuleType) -> None:
        torch.save(nets.linear.state_dict(), "weights.pt")
        with pytest.raises(InputError, match=r"weights.pt is a state_dict: .* \(weight, bias\)") as caught:
            read(ReadRequest("weights.pt", "state_dict"))
        assert "bridge convert weights.pt --model my_model:build" in (caught.value.hint or "")

    def test_weights_that_do_not_fit_are_listed_together(self, nets: ModuleType) -> None:
        state = nets.Tangle().state_dict()
        state["fc.bias"] = torch.zeros(7)
        state["extra"] = state.pop("gain")
        torch.save(state, "weights.pt")
        with pytest.raises(InputError) as caught:
            read(ReadRequest("weights.pt", "state_dict", model="reader_nets:Tangle", inputs=IMAGE))
        assert caught.value.message.splitlines() == [
            "the weights in weights.pt do not fit the module that reader_nets:Tangle builds:",
            "  missing (1): gain",
            "  unexpected (1): extra",
            "  reshaped (1): fc.bias (file 7, model 5)",
        ]

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        ],
    )
    def test_usual_wrappings_are_taken_off(self, nets: ModuleType, wrap: Any) -> None:
        torch.save(wrap(nets.linear.state_dict()), "weights.pt")
        request = ReadRequest(
            "weights.pt", "state_dict", model="reader_nets:linear", inputs=(InputSpec.parse("1x2"),)
        )
        assert set(weights(read(request))) == {"weight", "bias"}

    def test_tied_weights_saved_once_are_complete(self, nets: ModuleType) -> None:
        state = {name: tensor for name, tensor in nets.Tangle().state_dict().items() if name != "fc3.weight"}
        save_file(state, "weights.safetensors")
        model = read(
            ReadRequest("weights.safetensors", "safetensors", model="reader_nets:Tangle", inputs=IMAGE)
        )
        assert weights(model)["fc2.weight"].aliases == ("fc3.weight",)

    @pytest.mark.parametrize(
        ("factory", "message"),
        [
            ("reader_nets", "does not name an object in a module"),
            ("nowhere_at_all:build", "there is no module 'nowhere_at_all'"),
            ("reader_nets:absent", "reader_nets has no 'absent'"),
            ("reader_nets:wrong", "returned a int, not an nn.Module"),
            ("reader_nets:broken", r"reader_nets:broken\(\) failed: .*'size'"),
        ],
    )
    def test_a_factory_that_does_not_work(self, nets: ModuleType, factory: str, message: str) -> None:
        torch.save(nets.linear.state_dict(), "weights.pt")
        with pytest.raises(InputError, match=message):
            read(ReadRequest("weights.pt", "state_dict", model=factory))

    def test_an_input_that_the_model_does_not_have(self, nets: ModuleType) -> None:
        torch.save(nets.linear.state_dict(), "weights.pt")
        request = ReadRequest("weights.pt", "state_dict", model="reader_nets:linear")
        with pytest.raises(InputError, match="no input 'image'"):
            read(replace(request, inputs=(InputSpec.parse("image=1x2"),)))
        with pytest.raises(InputError, match="2 inputs were given, but the model takes 1"):
            read(replace(request, inputs=(InputSpec.parse("1x2"), InputSpec.parse("1x2"))))
        with pytest.raises(InputError, match="cannot be called with the inputs 1x3:float32"):
            read(replace(request, inputs=(InputSpec.parse("1x3"),)))


class TestTrust:
    def test_a_pickled_module_needs_it(self, nets: ModuleType) -> None:
        torch.save(nets.linear, "model.pt")
        request = ReadRequest("model.pt", "pickle_module", inputs=(InputSpec.parse("1x2"),))
        with pytest.raises(TrustError, match="runs code") as caught:
            read(request)
        assert "--trust" in (caught.value.hint or "")

    def test_a_class_of_a_script_is_found_with_custom_objects(self, nets: ModuleType) -> None:
        program = "from reader_nets import *\nclass Mine(Tangle): pass\ntorch.save(Mine(), 'model.pt')"
        subprocess.run([sys.executable, "-c", program], check=True)
        Path("train_script.py").write_text(
            "from reader_nets import Tangle\n\n\nclass Mine(Tangle):\n    pass\n"
        )
        request = ReadRequest("model.pt", "pickle_module", inputs=IMAGE, trust=True)
        with pytest.raises(InputError, match="written by a script") as caught:
            read(request)
        assert "--custom-objects" in (caught.value.hint or "")
        model = read(replace(request, custom_objects="train_script"))
        assert metadata.source_info(model).root_type == "Mine"

    def test_a_module_of_a_missing_package(self, nets: ModuleType) -> None:
        torch.save(nets.Tangle(), "model.pt")
        Path("reader_nets.py").rename("moved.py")
        del sys.modules["reader_nets"]
        with pytest.raises(InputError, match="needs the Python module 'reader_nets'"):
            read(ReadRequest("model.pt", "pickle_module", inputs=IMAGE, trust=True))

    def test_an_archive_with_pickled_objects_needs_it(self, nets: ModuleType) -> None:
        export_module(nets.linear, "1x2", "model.pt2")
        marker = Path("ran")
        with zipfile.ZipFile("model.pt2") as archive, zipfile.ZipFile("evil.pt2", "w") as evil:
            for entry in archive.namelist():
                data = archive.read(entry)
                if "sample_inputs" in entry:
                    torch.save(_Touch(str(marker)), "payload")
                    data = Path("payload").read_bytes()
                evil.writestr(entry, data)
        with pytest.raises(TrustError, match="run code that is stored in it"):
            read(ReadRequest("evil.pt2", "pt2"))
        assert not marker.exists()

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut short", b"text"])
    def test_damaged_archives_are_refused(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "model.pt2"
        path.write_bytes(data)
        for format in ("pt2", "torchscript", "state_dict"):
            with pytest.raises(InputError):
                read(ReadRequest(str(path), format))


class _Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


class TestWhatCannotBeExported:
    def test_a_branch_on_values_names_the_line(self, nets: ModuleType) -> None:
        with pytest.raises(BridgeError, match="data-dependent") as caught:
            export_module(nets.Branches(), torch.randn(4, 6), "net.pt2")
        text = Path("reader_nets.py").read_text().splitlines()
        assert caught.value.where == f"reader_nets.py:{text.index('        if x.sum() > 0:') + 1}"
        assert "torch.where" in (caught.value.hint or "")

    def test_every_unsupported_operator_is_listed(self, nets: ModuleType) -> None:
        export_module(nets.Unsupported(), torch.randn(4, 3, 3), "net.pt2")
        with pytest.raises(UnsupportedOps) as caught:
            read(ReadRequest("net.pt2", "pt2"))
        assert len(caught.value.ops) == 2
        assert caught.value.ops[0].scopes[0].startswith("reader_nets.py:")

    def test_a_module_without_examples(self) -> None:
        with pytest.raises(InputError, match="needs example inputs") as caught:
            export_module(torch.nn.Conv1d(4, 2, 3), None, "net.pt2")
        assert "'1x4x100'" in (caught.value.hint or "")

    def test_nothing_is_written_to_the_terminal(
        self, nets: ModuleType, capfd: pytest.CaptureFixture[str]
    ) -> None:
        export_module(nets.FixedBatch(), torch.randn(4, 6), "net.pt2")
        read(ReadRequest("net.pt2", "pt2"))
        with pytest.raises(InputError):
            export_module(nets.linear, torch.randn(4, 6), "net.pt2")
        assert capfd.readouterr() == ("", "")


class _Divisions(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            torch.div(x, y, rounding_mode="floor"),
            torch.div(x, y, rounding_mode="trunc"),
            torch.div(x, 3, rounding_mode="floor"),
            x // y,
            x % y,
        )


def test_integers_are_divided_as_integers_of_any_size(tmp_path: Path) -> None:
    """The exporter's own translation goes through float32, which is exact up to 2**24 only."""
    x = torch.tensor([7, -7, 7, -7, 2**24 + 1, 2**40 + 1, -(2**40) - 1])
    y = torch.tensor([2, 2, -2, -2, 1, 1, 2])
    file = tmp_path / "divisions.pt2"
    torch.export.save(torch.export.export(_Divisions(), (x, y)), file)
    session = onnxruntime.InferenceSession(
        ir.to_proto(read(ReadRequest(str(file), "pt2"))).SerializeToString()
    )
    results = session.run(None, {"x": x.numpy(), "y": y.numpy()})
    for found, expected in zip(results, _Divisions()(x, y), strict=True):
        assert found.tolist() == expected.tolist()
