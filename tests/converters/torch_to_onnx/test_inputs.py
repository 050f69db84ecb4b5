"""Examples for input specifications."""

from __future__ import annotations

import torch
from bridge_converters.torch_to_onnx.inputs import forward_parameters, from_specs
from torch import nn

from bridge.formats.request import InputSpec


class Listener(nn.Module):
    def forward(self, mask: torch.Tensor, sound: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return mask + sound + words.sum()


def test_an_axis_has_the_largest_size_that_one_of_its_inputs_asks_for() -> None:
    """A mask says nothing about its length; sound is made into frames of hundreds of samples."""
    specs = [
        InputSpec.parse("mask=batchxsamples:int64"),
        InputSpec.parse("sound=batchxsamples"),
        InputSpec.parse("words=batchxlength:int64"),
    ]
    mask, sound, words = from_specs(specs, forward_parameters(Listener().forward)).tensors()
    assert mask.shape == sound.shape
    assert sound.shape[1] > 400
    assert words.shape[1] < 400
