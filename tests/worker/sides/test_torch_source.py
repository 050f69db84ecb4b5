"""What a PyTorch file answers, held against PyTorch's own autograd and float64 modules."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bridge.formats.request import InputSpec, ReadRequest
from bridge.worker.sides.torch_source import TorchSide, load
from tests.worker.sides.torch_nets import (
    Array,
    autograd,
    conv_net,
    cotangents,
    image_feeds,
    saved_side,
    text_feeds,
    text_net,
)

UNIT = 2.0**-24


@pytest.fixture(scope="module")
def conv_side(tmp_path_factory: pytest.TempPathFactory) -> TorchSide:
    return saved_side(conv_net(), image_feeds(), tmp_path_factory.mktemp("conv") / "net.pt2")


@pytest.fixture(scope="module")
def text_side(tmp_path_factory: pytest.TempPathFactory) -> TorchSide:
    return saved_side(text_net(), text_feeds(), tmp_path_factory.mktemp("text") / "net.pt2")


def relative(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def assert_equal(got: dict[str, Array], want: dict[str, Array]) -> None:
    assert set(got) == set(want)
    for name, array in want.items():
        assert got[name].dtype == np.float64
        np.testing.assert_allclose(got[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def flat_conv(outputs: Any) -> list[torch.Tensor]:
    return [outputs["logits"], *outputs["rest"]]


def flat_text(output: torch.Tensor) -> list[torch.Tensor]:
    return [output]


def test_the_graph_shows_how_large_ids_may_be(conv_side: TorchSide, text_side: TorchSide) -> None:
    assert {each["name"]: each["limit"] for each in text_side.inputs} == {"ids": 11, "mask": None}
    assert [each["limit"] for each in conv_side.inputs] == [None]


def test_gradients_are_autograds(conv_side: TorchSide, text_side: TorchSide) -> None:
    for side, net, feeds, flatten in (
        (conv_side, conv_net(), image_feeds(), flat_conv),
        (text_side, text_net(), text_feeds(), flat_text),
    ):
        outputs, by_input, by_weight = side.vjp(feeds, cotangents, False)
        expected = autograd(net.double(), feeds, flatten)
        for got, want in zip(outputs, expected[0], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9)
        assert_equal(by_input, expected[1])
        assert_equal(by_weight, expected[2])
        assert set(by_weight) <= set(side.weights())


def test_a_tied_weight_has_one_gradient_under_both_names(text_side: TorchSide) -> None:
    _, by_input, by_weight = text_side.vjp(text_feeds(), cotangents, False)
    assert np.array_equal(by_weight["embed.weight"], by_weight["head.weight"])
    assert set(by_input) == {"mask"}


def test_training_uses_and_updates_the_statistics_of_batches(tmp_path: Path) -> None:
    side = saved_side(conv_net(), image_feeds(), tmp_path / "net.pt2")
    net = conv_net().double().train()
    net.drop.eval()
    before, reference = side.state(), side.run_fp64(image_feeds())[0]
    for batch in (4, 6):
        _, by_input, by_weight = side.vjp(image_feeds(batch), cotangents, True)
        net.zero_grad()
        expected = autograd(net, image_feeds(batch), flat_conv)
        assert_equal(by_input, expected[1])
        assert_equal(by_weight, expected[2])
    after = side.state()
    buffers = dict(net.named_buffers())
    for name in ("norm.running_mean", "norm.running_var"):
        assert not np.array_equal(after[name], before[name])
        np.testing.assert_allclose(after[name], buffers[name].numpy(), rtol=1e-12)
    assert np.array_equal(side.run_fp64(image_feeds())[0], reference)


def test_weights_are_set_and_read_by_path(tmp_path: Path) -> None:
    side = saved_side(text_net(), text_feeds(), tmp_path / "net.pt2")
    state = side.state()
    assert set(state) == set(side.weights())
    assert state["norm.bias"].dtype == np.float64
    side.assign({"embed.weight": state["embed.weight"] * 2})
    assert np.array_equal(side.state()["head.weight"], state["embed.weight"] * 2)
    with pytest.raises(ValueError, match="no weight 'nothing'"):
        side.assign({"nothing": np.zeros(2)})
    with pytest.raises(ValueError, match="shape"):
        side.assign({"norm.bias": np.zeros(2)})


def test_a_cumulative_average_cannot_be_trained(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, momentum=None)).eval()
    side = saved_side(net, image_feeds(), tmp_path / "net.pt2")
    name = side.inputs[0]["name"]
    feeds = {str(name): image_feeds()["image"]}
    assert side.vjp(feeds, cotangents, False)[2]
    with pytest.raises(NotImplementedError, match="cumulative"):
        side.vjp(feeds, cotangents, True)


def test_a_cotangent_must_fit_its_output(conv_side: TorchSide) -> None:
    with pytest.raises(ValueError, match="shape"):
        conv_side.vjp(image_feeds(), lambda outputs: [np.ones(3), None, None], False)
    _, by_input, by_weight = conv_side.vjp(image_feeds(), lambda outputs: [None] * len(outputs), False)
    assert (by_input, by_weight) == ({}, {})


def test_a_perturbed_run_is_deterministic_and_scales_with_the_unit(
    conv_side: TorchSide, text_side: TorchSide
) -> None:
    for side, feeds in ((conv_side, image_feeds()), (text_side, text_feeds())):
        exact = side.run_fp64(feeds)[0]
        assert relative(side.run_noisy(feeds, 0.0, 5)[0], exact) < 1e-14
        first = side.run_noisy(feeds, UNIT, 5)[0]
        assert np.array_equal(first, side.run_noisy(feeds, UNIT, 5)[0])
        assert not np.array_equal(first, side.run_noisy(feeds, UNIT, 6)[0])
        small, large = relative(first, exact), relative(side.run_noisy(feeds, 1024 * UNIT, 5)[0], exact)
        assert large / small == pytest.approx(1024, rel=0.05)
        actual = relative(side.run(feeds)[0].astype(np.float64), exact)
        assert actual / 30 < small < actual * 30


def test_positions_of_elements_are_not_perturbed(tmp_path: Path) -> None:
    class Nearest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            place = torch.floor(torch.arange(6, dtype=torch.float32) * 0.5).long()
            return x[:, place] * torch.arange(6, dtype=torch.float32)

    x = np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3)
    side = saved_side(Nearest().eval(), {"x": x}, tmp_path / "net.pt2")
    assert relative(side.run_noisy({"x": x}, UNIT, 0)[0], side.run_fp64({"x": x})[0]) < 4 * UNIT


def test_intermediate_values_and_their_gradients(conv_side: TorchSide) -> None:
    feeds = image_feeds()
    plain = conv_side.intermediates(feeds)
    records = [record for record, _ in plain]
    assert [record["operator"].split(".")[1] for record in records][:5] == [
        "conv2d",
        "_native_batch_norm_legit_no_training",
        "relu",
        "mean",
        "dropout",
    ]
    assert [record["scope"] for record in records][:2] == ["conv", "norm"]
    assert records[0]["inputs"] == ["image", "conv.weight", "conv.bias"]
    assert records[1]["inputs"][0] == records[0]["name"]
    assert str(records[0]["location"]).startswith("torch_nets.py:")
    values = {record["name"]: value for record, value in plain}
    net = conv_net().double()
    with torch.no_grad():
        convolved = net.conv(torch.from_numpy(feeds["image"]).double())
    np.testing.assert_allclose(values["conv2d"], convolved.numpy(), rtol=1e-12)
    assert {value.dtype.kind for value in values.values()} == {"f", "i"}

    with_gradients = conv_side.intermediates(feeds, cotangents)
    assert [record for record, _, _ in with_gradients] == records
    gradients = {record["name"]: gradient for record, _, gradient in with_gradients}
    convolved.requires_grad_()
    net.conv = nn.Identity()  # type: ignore[assignment]
    outputs = flat_conv(net(convolved.clone()))
    given = cotangents([each.detach().numpy() for each in outputs])[0]
    assert given is not None
    (expected,) = torch.autograd.grad(outputs[0], convolved, torch.from_numpy(given))
    np.testing.assert_allclose(gradients["conv2d"], expected.numpy(), rtol=1e-9, atol=1e-14)
    assert gradients["argmax"] is None


def test_gradients_of_values_stop_where_the_source_stops_them(text_side: TorchSide) -> None:
    found = text_side.intermediates(text_feeds(), cotangents)
    record, _, behind = next(each for each in found if each[0]["operator"] == "aten.mul.Tensor")
    assert behind is not None
    assert str(record["location"]).startswith("torch_nets.py:")
    total = text_side.vjp(text_feeds(), cotangents, False)[2]["position.weight"][:5]
    places = [gradient for record, _, gradient in found if "position.weight" in record["inputs"]]
    np.testing.assert_allclose(places[0], total, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_source_runs_in_a_narrower_type(dtype: str, tmp_path: Path) -> None:
    for number, (net, feeds) in enumerate(((conv_net(), image_feeds()), (text_net(), text_feeds()))):
        side = saved_side(net, feeds, tmp_path / f"{number}.pt2", dtype=dtype)
        output, exact = side.run(feeds)[0], side.run_fp64(feeds)[0]
        assert output.dtype.name == dtype
        assert 1e-5 < relative(output.astype(np.float64), exact) < 0.05
        assert dtype in side.what


def test_control_flow_and_integer_inputs_survive(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> Any:
            y = torch.cond(x.sum() > 0, lambda t: self.fc(t), lambda t: t * 2.0, (x,))
            return y * scale, scale + 1, 5, None

    x = np.ones((2, 3), np.float32)
    feeds = {"x": x, "scale": np.full((2, 1), 3)}
    net = Branches().eval()
    side = saved_side(net, feeds, tmp_path / "net.pt2")
    double = copy.deepcopy(net).double()
    want = double(torch.from_numpy(x).double(), torch.from_numpy(feeds["scale"]))[0].detach().numpy()
    for run in (side.run_fp64, lambda given: side.run_noisy(given, 0.0, 0)):
        got = run(feeds)
        assert [each.dtype.name for each in got] == ["float64", "int64"]
        np.testing.assert_allclose(got[0], want, rtol=1e-14)
    assert relative(side.run_noisy(feeds, UNIT, 0)[0], want) > 0
    assert [each.dtype.name for each in side.run(feeds)] == ["float32", "int64"]
    assert len(side.intermediates(feeds)) >= 3


@pytest.mark.parametrize("format", ["torchscript", "state_dict", "pickle_module"])
def test_other_formats_answer_by_the_paths_of_their_module(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, feeds, path = text_net(), text_feeds(), tmp_path / "net.pt"
    monkeypatch.chdir(Path(__file__).parents[3])
    if format == "torchscript":
        examples = tuple(torch.from_numpy(each) for each in feeds.values())
        torch.jit.trace(net, examples).save(path)  # type: ignore[no-untyped-call]
    else:
        torch.save(net if format == "pickle_module" else net.state_dict(), path)
    request = ReadRequest(
        str(path),
        format,
        model="tests.worker.sides.torch_nets:TextNet" if format == "state_dict" else None,
        inputs=(InputSpec((2, 5), "int32", "ids"), InputSpec((2, 5), "float32", "mask")),
        trust=True,
    )
    side = load(request.to_json())
    assert set(net.state_dict()) <= set(side.state()) <= set(side.weights())
    double = text_net().double()
    with monkeypatch.context() as patch:
        if format == "torchscript":  # a trace does not hold where gradients are off
            patch.setattr(torch, "no_grad", contextlib.nullcontext)
        expected = autograd(double, feeds, flat_text)
    outputs, by_input, by_weight = side.vjp(feeds, cotangents, False)
    np.testing.assert_allclose(outputs[0], expected[0][0], rtol=1e-6, atol=1e-9)
    assert set(by_weight) == set(expected[2])
    for name, array in expected[2].items():
        np.testing.assert_allclose(by_weight[name], array, rtol=1e-5, atol=1e-8)
    assert set(by_input) == {"mask"}
    assert side.inputs[0]["limit"] == 11
