"""The bounds of ids that a program's graph shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bridge_converters.torch_to_onnx.limits import id_limits
from torch import nn

TABLE = torch.arange(14.0).reshape(7, 2)


def embedded(ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.embedding(ids.long(), TABLE)


def sliced(ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.embedding(ids[:, 1:].reshape(-1).unsqueeze(0), TABLE)


def split(ids: torch.Tensor) -> torch.Tensor:
    first, _ = ids.chunk(2, 1)
    return nn.functional.embedding(first, TABLE)


def indexed(ids: torch.Tensor) -> torch.Tensor:
    return TABLE.t()[:, ids]


def gathered(ids: torch.Tensor) -> torch.Tensor:
    return TABLE.t().gather(1, ids[:2])


def selected(ids: torch.Tensor) -> torch.Tensor:
    return TABLE.index_select(0, ids.flatten())


def encoded(ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(ids, 7)


def smallest(ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.embedding(ids, TABLE) + nn.functional.embedding(ids, torch.zeros(100, 2))


def computed(ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.embedding(ids % 7, TABLE)


def unused(ids: torch.Tensor) -> torch.Tensor:
    return ids + 1


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> Any:
        return x, self.function(ids)


@pytest.mark.parametrize(
    ("function", "limit"),
    [
        *((each, 7) for each in (embedded, sliced, split, indexed, gathered, selected, encoded, smallest)),
        *((each, None) for each in (computed, unused)),
    ],
)
def test_limits(function: Callable[..., Any], limit: int | None) -> None:
    ids = torch.zeros(4, 6, dtype=torch.int64)
    program = torch.export.export(Calls(function), (torch.ones(1), ids))
    assert id_limits(program) == ({} if limit is None else {1: limit})
