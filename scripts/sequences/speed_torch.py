"""PyTorch's side of `speed`: layers to convert, and timing what was converted to PyTorch.

`python -m scripts.sequences.speed_torch make KIND WIDTH FILE` or `... time KIND WIDTH DIRECTORY ROUNDS`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.acceptance_probe import load_source
from scripts.sequences.turns import SIZES, in_turns

HEADS = 4


class Recurrent(nn.Module):
    """(batch, steps, width) to the sequence of states."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.rnn = (nn.LSTM if kind == "lstm" else nn.GRU)(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Attention(nn.Module):
    """Self-attention as PyTorch's own layer computes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def layer(kind: str, width: int) -> nn.Module:
    torch.manual_seed(0)
    if kind in ("lstm", "gru"):
        return Recurrent(kind, width)
    return Attention(width) if kind == "attention" else Norm(width)


def take_weights(native: nn.Module, ours: nn.Module) -> None:
    """Give the handwritten layer the weights of the emitted one."""
    found: dict[str, Any] = dict(ours.named_modules())
    with torch.no_grad():
        if isinstance(native, Attention):
            inner = native.attention
            parts = {name.rpartition(".")[2]: each for name, each in found.items()}
            if "query" in parts:
                projections = [parts[name] for name in ("query", "key", "value")]
                inner.in_proj_weight.copy_(torch.cat([each.weight for each in projections]))
                inner.in_proj_bias.copy_(torch.cat([each.bias for each in projections]))
                inner.out_proj.load_state_dict(parts["attention_output"].state_dict())
                return
        kind = type(next(native.children()))
        same = next(each for each in found.values() if isinstance(each, kind))
        next(native.children()).load_state_dict(same.state_dict())


def measure(kind: str, width: int, directory: Path, rounds: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    ours, native = load_source(directory), layer(kind, width).eval()
    take_weights(native, ours)
    found = []
    for steps, batch in SIZES:
        x = torch.randn(batch, steps, width)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), native(x), rtol=1e-4, atol=1e-5)
            series = in_turns(lambda x=x: ours(x), lambda x=x: native(x), rounds)
        found.append(
            {"mode": "forward", "steps": steps, "batch": batch, "ours": series[0], "native": series[1]}
        )
        trained = in_turns(_step(ours, x), _step(native, x), rounds)
        found.append(
            {
                "mode": "training step",
                "steps": steps,
                "batch": batch,
                "ours": trained[0],
                "native": trained[1],
            }
        )
    return found


def _step(model: nn.Module, x: Tensor) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def main() -> None:
    kind, width = sys.argv[2], int(sys.argv[3])
    if sys.argv[1] == "make":
        torch.save(layer(kind, width).eval(), sys.argv[4])
    else:
        print(json.dumps(measure(kind, width, Path(sys.argv[4]), int(sys.argv[5]))))


if __name__ == "__main__":
    # A pickle names the module of its classes: that of this program, not `__main__`.
    from scripts.sequences import speed_torch

    speed_torch.main()
