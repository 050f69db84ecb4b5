"""Which axes of a PyTorch model's inputs are dynamic, what they are called and how far they reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.axes import Axes
from bridge_converters.torch_to_onnx.capture import capture
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.inputs import Examples, forward_parameters, from_values
from bridge_converters.torch_to_onnx.load import load_runnable
from bridge_converters.torch_to_onnx.reader import read
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bridge.errors import InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata
from bridge.worker.sides.torch_source import TorchSide


class Encoder(nn.Module):
    """Token ids, a mask that is only indexed by position, and a table of positions with an end."""

    def __init__(self, longest: int = 40) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.positions = nn.Embedding(longest, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor | None = None) -> Tensor:
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        if kinds is not None:
            x = x + kinds[..., None]
        keep = mask[:, torch.arange(ids.shape[1])].to(x.dtype)[..., None]
        return self.fc((x * keep).sum(1) / keep.sum(1))


class Tagger(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)[0]


def shapes(module: nn.Module, inputs: Any, tmp_path: Path, **options: Any) -> list[list[str]]:
    """The shapes of the hub's inputs after a live module was exported and read."""
    model = hub(module, inputs, tmp_path, **options)
    return [[str(size) for size in value.shape or ()] for value in model.graph.inputs]


def hub(module: nn.Module, inputs: Any, tmp_path: Path, **options: Any) -> ir.Model:
    export_module(module, inputs, tmp_path / "net.pt2", **options)
    return read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))


def assert_equal(model: ir.Model, module: nn.Module, *inputs: Tensor) -> None:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    names = [value.name for value in model.graph.inputs]
    with torch.no_grad():
        wanted = pytree.tree_leaves(module.eval()(*inputs))
    got = session.run(None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)})
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-5)


def axes_of(module: nn.Module, inputs: Any) -> Axes:
    return capture(module, from_values(inputs, forward_parameters(module.forward))).axes


def test_ids_and_what_belongs_to_them_share_a_length(tmp_path: Path) -> None:
    module = Encoder()
    ids = torch.randint(30, (2, 6))
    model = hub(module, {"ids": ids, "mask": torch.ones(2, 6), "kinds": torch.zeros(2, 6)}, tmp_path)
    assert [[str(size) for size in value.shape or ()] for value in model.graph.inputs] == [
        ["batch", "sequence"]
    ] * 3
    assert_equal(model, module, torch.randint(30, (3, 9)), torch.ones(3, 9), torch.ones(3, 9))
    assert metadata.source_info(model).notes == ()


def test_the_order_of_keyword_inputs_does_not_matter() -> None:
    axes = axes_of(Encoder(), {"mask": torch.ones(2, 6), "ids": torch.randint(30, (2, 6))})
    assert axes.labels == {0: {0: "batch", 1: "sequence"}, 1: {0: "batch", 1: "sequence"}}


@pytest.mark.parametrize(("length", "bounds"), [(6, (1, 9)), (9, (1, 9))])
def test_a_table_of_positions_ends_the_range(length: int, bounds: tuple[int, int], tmp_path: Path) -> None:
    module = Encoder(longest=9)
    inputs = {"ids": torch.randint(30, (2, length)), "mask": torch.ones(2, length)}
    export_module(module, inputs, tmp_path / "net.pt2")
    runnable = load_runnable(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert runnable.bounds == {0: {1: bounds}, 1: {1: bounds}}


def test_the_width_of_a_convolution_starts_the_range() -> None:
    module = nn.Sequential(nn.Conv1d(2, 3, 25), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    axes = axes_of(module, torch.randn(2, 2, 60))
    assert axes.labels == {0: {0: "batch", 2: "length"}}
    assert axes.bounds == {0: {2: (25, None)}}


def test_lengths_that_are_independent_stay_so_although_they_are_equal(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
            x, _ = self.attention(target, source, source, key_padding_mask=padding, need_weights=False)
            return x

    module = Both()
    inputs = (torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool))
    model = hub(module, inputs, tmp_path)
    assert [[str(size) for size in value.shape or ()] for value in model.graph.inputs] == [
        ["batch", "source_sequence", "8"],
        ["batch", "target_sequence", "8"],
        ["batch", "source_sequence"],
    ]


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True),
        nn.GRU(4, 3),
        nn.RNN(4, 3, nonlinearity="relu"),
        nn.LSTM(4, 5, proj_size=2),
    ],
    ids=["lstm", "gru", "rnn", "projected"],
)
def test_recurrent_layers_take_any_length(layer: nn.Module, tmp_path: Path) -> None:
    module = Tagger(layer)
    model = hub(module, torch.randn(2, 5, 4), tmp_path)
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["batch", "sequence", "4"]
    for sizes in ((3, 8, 4), (1, 2, 4)):
        assert_equal(model, module, torch.randn(sizes))


def test_a_program_runs_at_lengths_that_it_was_not_exported_at(tmp_path: Path) -> None:
    module = Tagger(nn.LSTM(4, 3, batch_first=True))
    export_module(module, torch.randn(2, 5, 4), tmp_path / "net.pt2")
    runnable = load_runnable(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    x = torch.randn(3, 9, 4)
    with torch.no_grad():
        torch.testing.assert_close(runnable(x)[0], module.eval()(x), rtol=0, atol=0)
        wanted = runnable.double()(x.double())[0]
    assert wanted.dtype is torch.float64
    assert wanted.shape == (3, 9, 3)
    side = TorchSide(runnable)
    for length in (9, 4):
        feeds = {"x": np.random.default_rng(0).normal(size=(3, length, 4)).astype(np.float32)}
        (exact,), (noisy,) = side.run_fp64(feeds), side.run_noisy(feeds, 2.0**-24, 0)
        assert 0 < np.abs(noisy - exact).max() < 1e-6


def test_sides_of_images_are_fixed_unless_named(tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, 3)
    image = torch.randn(1, 3, 10, 12)
    assert shapes(module, image, tmp_path) == [["batch", "3", "10", "12"]]
    named = [InputSpec.parse("Nx3xHx12")]
    assert shapes(module, image, tmp_path, axes=named) == [["N", "3", "H", "12"]]


def test_a_mask_with_the_rank_of_an_image_follows_the_length(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(30, 8)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            x = self.words(ids)[:, None]
            return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    inputs = (torch.randint(30, (2, 6)), torch.zeros(2, 1, 6, 6))
    assert shapes(Masked(), inputs, tmp_path) == [
        ["batch", "sequence"],
        ["batch", "1", "sequence", "sequence"],
    ]


def test_an_axis_that_the_module_refuses_to_change_is_fixed_with_a_note(tmp_path: Path) -> None:
    class Even(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], -1, 4).sum(2)

    model = hub(Even(), torch.randn(2, 12), tmp_path)
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["batch", "12"]
    (note,) = metadata.source_info(model).notes
    assert note == "fixed to the size in the example, as the model refuses others: axis 1 of x"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"axes": [InputSpec.parse("Nx5x4")]}, ["N", "5", "4"]),
        ({"axes": [InputSpec.parse("x=NxTx4")]}, ["N", "T", "4"]),
        ({"axes": [InputSpec.parse("x=2x?x4")]}, ["batch", "axis1", "4"]),
        ({"dynamic": False}, ["2", "5", "4"]),
        ({"dynamic": False, "axes": [InputSpec.parse("2xTx4")]}, ["2", "T", "4"]),
    ],
)
def test_the_user_says_which_axes_vary(options: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    module = Tagger(nn.LSTM(4, 3, batch_first=True))
    assert shapes(module, torch.randn(2, 5, 4), tmp_path, **options) == [expected]


def test_numbers_of_a_specification_are_fixed(tmp_path: Path) -> None:
    module = Tagger(nn.LSTM(4, 3, batch_first=True))
    assert shapes(module, "2x5x4", tmp_path) == [["batch", "5", "4"]]
    assert shapes(module, {"x": "NxTx4"}, tmp_path) == [["N", "T", "4"]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("y=NxTx4", "axes of input 'y' are given"),
        ("NxT", "do not fit the example of 'x', which is 2x5x4"),
        ("Nx6x4", "do not fit the example of 'x', which is 2x5x4"),
        ("NxTxF", r"axis 2 \('F'\) of input 'x' cannot be dynamic"),
    ],
)
def test_axes_that_do_not_fit_are_refused(spec: str, message: str, tmp_path: Path) -> None:
    module = Tagger(nn.LSTM(4, 3, batch_first=True))
    with pytest.raises(InputError, match=message):
        export_module(module, torch.randn(2, 5, 4), tmp_path / "net.pt2", axes=[InputSpec.parse(spec)])


def test_axes_of_arrays_in_a_file_are_described_beside_it(tmp_path: Path) -> None:
    torch.save(Tagger(nn.LSTM(4, 3, batch_first=True)), tmp_path / "net.pt")
    np.savez(tmp_path / "examples.npz", x=np.ones((2, 5, 4), np.float32))
    request = ReadRequest(
        str(tmp_path / "net.pt"),
        "pickle_module",
        examples=str(tmp_path / "examples.npz"),
        inputs=(InputSpec.parse("x=NxTx4"),),
        trust=True,
    )
    assert [str(size) for size in read(request).graph.inputs[0].shape or ()] == ["N", "T", "4"]


def test_a_program_of_others_has_its_axes_tied_where_they_must_agree(tmp_path: Path) -> None:
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    inputs = (torch.randint(30, (2, 6)), torch.ones(2, 6))
    program = torch.export.export(Encoder(), inputs, dynamic_shapes=(free, free))
    torch.export.save(program, tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert [[str(size) for size in value.shape or ()] for value in model.graph.inputs] == [
        ["batch", "sequence"]
    ] * 2


def test_running_a_module_to_find_its_axes_leaves_its_buffers_alone() -> None:
    class Counts(nn.Module):
        count: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            self.seen = self.seen + 1
            return x * 2

    module = Counts()
    seen = module.seen
    capture(module, Examples((torch.randn(2, 5),)))
    assert module.count == 0
    assert module.seen is seen
