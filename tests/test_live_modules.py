"""Modules in memory: what may be given as inputs to convert and verify them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.api import _are_arrays
from bridge.errors import InputError
from bridge.formats.live import flat_inputs


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 3)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None, scaled: bool = True
    ) -> torch.Tensor:
        hidden = self.embedding(ids)
        if mask is not None:
            hidden = hidden * mask[..., None]
        return self.head(hidden * 2 if scaled else hidden)


@dataclass
class Sample:
    ids: Any
    weights: Any


class Weighted(nn.Module):
    def forward(self, sample: Sample) -> torch.Tensor:
        return sample.ids * sample.weights


IDS = torch.arange(6).reshape(2, 3)


def test_modules_are_verified_by_specifications_and_constants() -> None:
    module = Tagger().eval()
    given = {"ids": "batchxlength:int64", "mask": None, "scaled": False}
    report = bridge.verify(module, module, inputs=given, batches=[2])
    assert report.verdict == "equivalent"


@pytest.mark.parametrize(
    "given", [IDS, (IDS,), [IDS, None, True], {"ids": IDS, "scaled": True}, IDS.numpy(), {"ids": IDS.numpy()}]
)
def test_examples_are_called_as_the_inputs_of_the_program(given: Any) -> None:
    flat = flat_inputs(Tagger(), given)
    assert list(flat) == ["ids"]
    np.testing.assert_array_equal(flat["ids"], IDS.numpy())


def test_nested_examples_and_all_element_types_become_arrays() -> None:
    weights = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    flat = flat_inputs(Weighted(), Sample(IDS, weights))
    assert list(flat) == ["sample_ids", "sample_weights"]
    assert flat["sample_weights"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(flat["sample_weights"].astype(np.float32), np.ones((2, 3)))


def test_what_is_no_example_of_a_module_stays_as_it_is() -> None:
    for given in (None, "2x3:int64", {"ids": "2x3:int64"}, "examples.npz"):
        assert flat_inputs(Tagger(), given) is given
    assert flat_inputs("model.pt2", [IDS])[0] is IDS


def test_arrays_beside_specifications_are_refused() -> None:
    with pytest.raises(InputError, match="mix specifications"):
        flat_inputs(Tagger(), {"ids": IDS, "mask": "2x3"})


def test_only_flat_arrays_are_arrays() -> None:
    assert _are_arrays(IDS)
    assert _are_arrays({"ids": IDS})
    assert not any(map(_are_arrays, (None, "2x3", ["2x3"], [IDS, None], Sample(IDS, IDS))))
