"""The PyTorch versions of the right pairs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.proof.pairs import PAIRS, torch_models
from scripts.proof.pairs.torch_models.registry import example


def test_exactly_the_pairs_that_need_one_have_a_definition() -> None:
    needed = {
        pair.defined_as for pair in PAIRS.values() if pair.family != "converted" or pair.source == "torch"
    }
    assert torch_models.names() == needed


def test_made_twice_a_module_has_the_same_weights() -> None:
    first, second = (torch_models.make("resnet_stack").state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_running_statistics_are_those_of_activations() -> None:
    module = torch_models.make("vgg")
    norm = module.get_submodule("features.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1
    assert not module.training
    with torch.no_grad():
        activations = module.get_submodule("features.0")(*example(PAIRS["vgg"], 256, seed=9))
    torch.testing.assert_close(norm.running_var, activations.var((0, 2, 3)), rtol=0.2, atol=1e-3)


@pytest.mark.parametrize("name", sorted(name for name, pair in PAIRS.items() if pair.made == "hand"))
def test_every_output_depends_on_the_inputs(name: str) -> None:
    module = torch_models.make(name)
    with torch.no_grad():
        outputs = module(*example(PAIRS[name], 6))
    values = outputs.values() if isinstance(outputs, dict) else outputs
    for output in [values] if isinstance(values, torch.Tensor) else values:
        assert output.shape[0] == 6
        assert torch.isfinite(output).all()
        assert not torch.equal(output[:1].expand_as(output), output)
