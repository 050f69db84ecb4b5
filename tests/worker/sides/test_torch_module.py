"""What a module that a factory built answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bridge.errors import InputError
from bridge.worker.sides.torch_module import TorchModuleSide
from tests.worker.sides.torch_nets import (
    Array,
    autograd,
    conv_net,
    cotangents,
    image_feeds,
    text_feeds,
    text_net,
)

UNIT = 2.0**-24


def test_inputs_are_forwards_parameters() -> None:
    side = TorchModuleSide(text_net().train())
    assert [each["name"] for each in side.inputs] == ["ids", "mask"]
    assert "TextNet" in side.what
    assert not side._module.training
    assert np.array_equal(side.weights()["head.weight"], side.weights()["embed.weight"])


def test_a_module_runs_as_it_is_and_its_program_in_float64() -> None:
    net = conv_net()
    side = TorchModuleSide(net)
    for batch in (1, 3):
        feeds = image_feeds(batch)
        with torch.no_grad():
            want = net(torch.from_numpy(feeds["image"]))
        got, exact = side.run(feeds), side.run_fp64(feeds)
        assert np.array_equal(got[0], want["logits"].numpy())
        assert [each.dtype.name for each in exact] == ["float64", "float64", "int64"]
        assert 0 < np.abs(got[0] - exact[0]).max() < 1e-6
        assert 0 < np.abs(side.run_noisy(feeds, UNIT, 0)[0] - exact[0]).max() < 1e-6
        names = [record["scope"] for record, _ in side.intermediates(feeds)]
        assert names[:2] == ["conv", "norm"]
    assert len(side._exported) == 1


def test_gradients_and_training() -> None:
    side = TorchModuleSide(conv_net())
    with pytest.raises(NotImplementedError, match="first inputs"):
        side.state()
    outputs, by_input, by_weight = side.vjp(image_feeds(), cotangents, False)
    expected = autograd(conv_net().double(), image_feeds(), lambda each: [each["logits"], *each["rest"]])
    np.testing.assert_allclose(outputs[0], expected[0][0], rtol=1e-10)
    assert set(by_weight) == set(expected[2])
    np.testing.assert_allclose(by_input["image"], expected[1]["image"], rtol=1e-8, atol=1e-13)
    before = side.state()
    side.vjp(image_feeds(), cotangents, True)
    assert not np.array_equal(side.state()["norm.running_mean"], before["norm.running_mean"])
    side.assign(before)
    assert np.array_equal(side.state()["norm.running_mean"], before["norm.running_mean"])


def test_trained_weights_go_along_to_inputs_of_another_size() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.mean(1))

    side = TorchModuleSide(Pooled())

    def feeds(length: int) -> dict[str, Array]:
        return {"x": np.ones((2, length, 3), np.float32)}

    first = side.vjp(feeds(4), cotangents, False)[0][0]
    side.assign({"fc.bias": np.array([5.0, 7.0])})
    second = side.vjp(feeds(6), cotangents, False)[0][0]
    assert len(side._exported) == 2
    bias = side.weights()["fc.bias"].astype(np.float64)
    np.testing.assert_allclose(second - [5.0, 7.0], first - bias, rtol=1e-6)


def test_a_fixed_batch_has_a_program_of_its_own() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(3, 4) * 2 if len(x) == 3 else x.reshape(int(x.shape[0]), 4)

    side = TorchModuleSide(Fixed())
    for batch in (3, 2):
        x = np.arange(batch * 4, dtype=np.float32).reshape(batch, 2, 2)
        want = x.reshape(batch, 4) * (2 if batch == 3 else 1)
        assert np.array_equal(side.run_fp64({"x": x})[0], want)


def test_what_cannot_be_exported_still_has_a_float64_form() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Any:
            return self.fc(x) if float(x.detach().numpy().sum()) > 0 else x

    net = Branches()
    side = TorchModuleSide(net)
    feeds = {"x": np.ones((2, 3), np.float32)}
    exact = side.run_fp64(feeds)[0]
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, side.run(feeds)[0], rtol=1e-5)
    for call in (
        lambda: side.run_noisy(feeds, UNIT, 0),
        lambda: side.intermediates(feeds),
        lambda: side.vjp(feeds, cotangents, False),
    ):
        with pytest.raises(NotImplementedError, match=r"torch\.export"):
            call()


def test_inputs_without_names_are_refused() -> None:
    class Any_(nn.Module):
        def forward(self, *xs: torch.Tensor) -> torch.Tensor:
            return xs[0]

    with pytest.raises(InputError, match="any number"):
        TorchModuleSide(Any_())


def test_keyword_inputs_and_a_narrower_type() -> None:
    class Keywords(nn.Module):
        def forward(self, x: torch.Tensor, *, bias: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
            return x * scale + bias

    side = TorchModuleSide(Keywords(), torch.bfloat16)
    assert [each["name"] for each in side.inputs] == ["x", "bias"]
    feeds = {"bias": np.full((2, 1), 0.1, np.float32), "x": np.ones((2, 3), np.float32)}
    assert side.run(feeds)[0].dtype.name == "bfloat16"
    np.testing.assert_allclose(
        side.run_fp64(feeds)[0], np.full((2, 3), 2 + float(np.float32(0.1))), rtol=1e-15
    )


def test_ids_reach_the_program() -> None:
    side = TorchModuleSide(text_net())
    assert side.run_fp64(text_feeds())[0].shape == (3, 5, 11)
