"""Arguments and results in containers: dicts, dataclasses, named tuples, objects, None and constants."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.reader import read
from bridge_converters.torch_to_onnx.structures import is_plain, plain, rebuilding
from torch import Tensor, nn

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.hub import metadata


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None = None


@dataclass
class Batch:
    ids: Tensor
    pair: Pair
    scale: float = 2.0
    extra: Tensor | None = None


class Layer:
    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.size = 3
        self.owner = self


class Store:
    """An object that holds tensors, like transformers' caches."""

    def __init__(self, *keys: Tensor) -> None:
        self.layers = [Layer(each) for each in keys]
        self.offloading = False


class Output(OrderedDict[str, Any]):
    pass


class Net(nn.Module):
    """Takes a dataclass, a tuple with None, and constants; returns several kinds of container."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, batch: Batch, states: Any = None, flag: bool = False, *, times: int = 1) -> Any:
        x = self.fc(batch.ids.to(torch.float32)) * batch.scale * times
        if batch.extra is None and batch.pair.right is None:
            x = x + batch.pair.left
        if flag:
            x = -x
        if states is not None:
            x = x + states[0][1]
        return Output(
            result=x, nothing=None, store=Store(x + 1, x + 2), pair=Pair(x * 2), batch=Batch(x, Pair(x, x))
        )


def batch(size: int) -> Batch:
    return Batch(torch.randint(9, (size, 4)), Pair(torch.randn(size, 4)))


def test_containers_of_all_kinds_become_lists_and_dicts(tmp_path: Path) -> None:
    module = Net()
    inputs = {"batch": batch(2), "states": ((None, torch.randn(2, 4)),), "flag": True, "times": 3}
    forward = module.forward
    export_module(module, inputs, tmp_path / "net.pt2")
    assert module.forward == forward
    assert isinstance(module(batch(2)), Output)

    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    info = metadata.source_info(model)
    assert info.inputs == ("batch_ids", "batch_pair_left", "states_0_1")
    assert info.outputs == (
        "result",
        "store_layers_0_keys",
        "store_layers_1_keys",
        "pair_left",
        "output_batch_ids",
        "output_batch_pair_left",
        "batch_pair_right",
    )
    structure = metadata.structure(model)
    assert structure["outputs"]["store"] == {
        "layers": [{"keys": "store_layers_0_keys"}, {"keys": "store_layers_1_keys"}]
    }
    assert structure["outputs"]["pair"] == {"left": "pair_left", "right": None}
    assert structure["keyword_inputs"]["batch"]["pair"] == {"left": "batch_pair_left", "right": None}

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    given, state = batch(5), torch.randn(5, 4)
    feeds = {"batch_ids": given.ids, "batch_pair_left": given.pair.left, "states_0_1": state}
    results = session.run(None, {name: each.numpy() for name, each in feeds.items()})
    with torch.no_grad():
        wanted = module(given, ((None, state),), True, times=3)
    torch.testing.assert_close(torch.from_numpy(results[0]), wanted["result"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(results[2]), wanted["store"].layers[1].keys, rtol=1e-5, atol=1e-5
    )


def test_the_archive_opens_where_the_containers_are_unknown(tmp_path: Path) -> None:
    export_module(Net(), {"batch": batch(2)}, tmp_path / "net.pt2")
    program = f"""
from bridge.formats.request import ReadRequest
from bridge_converters.torch_to_onnx.reader import read
print([value.name for value in read(ReadRequest({str(tmp_path / "net.pt2")!r}, "pt2")).graph.inputs])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['batch_ids', 'batch_pair_left']"


def test_a_structure_is_rebuilt_from_its_plain_form() -> None:
    tree = {"batch": batch(2), "list": [Pair(torch.ones(1)), None, 3], "object": Store(torch.zeros(2))}
    assert not is_plain(tree)
    flat = plain(tree)
    assert is_plain(flat)
    assert flat["object"] == {"layers": [{"keys": flat["object"]["layers"][0]["keys"]}]}
    again = rebuilding(tree)(flat)
    assert isinstance(again["batch"], Batch)
    assert again["batch"] is not tree["batch"]
    assert isinstance(again["list"][0], Pair)
    assert again["list"][1:] == [None, 3]
    assert isinstance(again["object"].layers[0], Layer)
    assert again["object"].layers[0].size == 3


@pytest.mark.parametrize("value", [torch.ones(2), None, 3, "text", torch.Size([2]), torch.float32, nn.ReLU()])
def test_leaves_are_plain(value: Any) -> None:
    assert is_plain(value)
    assert plain(value) is value


def test_specifications_stand_beside_constants(tmp_path: Path) -> None:
    class Flagged(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor | None = None, double: bool = False) -> Any:
            return {"ids": ids * (2 if double else 1), "mask": mask}

    export_module(Flagged(), {"ids": "NxT:int64", "mask": None, "double": True}, tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["N", "T"]
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (result,) = session.run(None, {"ids": torch.ones(3, 2, dtype=torch.int64).numpy()})
    assert result.tolist() == [[2, 2]] * 3
    with pytest.raises(InputError, match="mix specifications"):
        export_module(Flagged(), {"ids": "NxT:int64", "mask": torch.ones(2, 2)}, tmp_path / "net.pt2")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x, mask=None: (x, None, [x + 1, {"a": x}]), ("output_0", "output_2_0", "output_2_1_a")),
        (lambda x, mask=None: {"x": x * 2, "y": (x, x + 1)}, ("output_x", "y_0", "y_1")),
        (lambda x, mask=None: Pair(x + 1, x), ("left", "right")),
    ],
    ids=["tuple", "dict", "named tuple"],
)
def test_outputs_have_the_names_of_their_paths(
    call: Callable[..., Any], expected: tuple[str, ...], tmp_path: Path
) -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
            return call(x, mask)

    export_module(Calls(), (torch.randn(2, 3), None), tmp_path / "net.pt2")
    assert metadata.source_info(read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))).outputs == expected


def test_a_pickled_module_runs_with_plain_structures(tmp_path: Path) -> None:
    from bridge_converters.torch_to_onnx.load import load_runnable

    module = Tagged()
    torch.save(module, tmp_path / "net.pt")
    from bridge.formats.request import InputSpec

    request = ReadRequest(
        str(tmp_path / "net.pt"), "pickle_module", inputs=(InputSpec.parse("2x3"),), trust=True
    )
    runnable = load_runnable(request)
    assert runnable.output_names == ("left", "right")
    assert [each.shape for each in runnable(torch.ones(4, 3))] == [(4, 3), (4, 3)]


class Tagged(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x + 1, x)


_FOREIGN = """
import sys
from collections import OrderedDict
from dataclasses import dataclass
import torch
from torch.utils import _pytree as pytree

class Output(OrderedDict):
    pass

pytree.register_pytree_node(
    Output,
    lambda each: (list(each.values()), list(each)),
    lambda values, keys: Output(zip(keys, values)),
    serialized_type_name="somewhere.models.Output",
)

@dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor | None = None

torch.export.register_dataclass(Pair, serialized_type_name="somewhere.Pair")

class Net(torch.nn.Module):
    def forward(self, left, right):
        return Output(logits=left + 1, last=Pair(right * 1, None))

program = torch.export.export(Net(), (torch.ones(2, 3), torch.zeros(2)))
torch.export.save(program, sys.argv[1])
"""


def test_an_archive_with_containers_of_packages_that_are_not_here_is_read(tmp_path: Path) -> None:
    from bridge_converters.torch_to_onnx.load import load_runnable

    path = tmp_path / "net.pt2"
    subprocess.run([sys.executable, "-c", _FOREIGN, str(path)], check=True)
    model = read(ReadRequest(str(path), "pt2"))
    info = metadata.source_info(model)
    assert info.inputs == ("left", "right")
    assert info.outputs == ("logits", "last_left")
    assert metadata.structure(model)["outputs"] == {"logits": "logits", "last": {"left": "last_left"}}
    runnable = load_runnable(ReadRequest(str(path), "pt2"))
    logits, last = runnable(torch.ones(2, 3), torch.full((2,), 5.0))
    assert logits.tolist() == [[2.0] * 3] * 2
    assert last.tolist() == [5.0, 5.0]


class Halves(nn.Module):
    def forward(self, pair: Pair) -> Tensor:
        assert pair.right is not None
        return pair.left * 2 + pair.right


def test_a_tensor_given_twice_is_two_inputs(tmp_path: Path) -> None:
    x = torch.randn(2, 4)
    export_module(Halves(), (Pair(x, x),), tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert [each.name for each in model.graph.inputs] == ["pair_left", "pair_right"]
    left, right = (torch.randn(3, 4).numpy() for _ in range(2))
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (found,) = session.run(None, {"pair_left": left, "pair_right": right})
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(left * 2 + right))
