"""The hand-written networks in PyTorch: every fault can be planted, and changes what it is about."""

from __future__ import annotations

import pytest
import torch

from scripts.proof.plants import torch_layers
from scripts.proof.plants.architectures import ARCHITECTURES
from scripts.proof.plants.faults import Fault, Faults


def _outputs(name: str, fault: Fault | None = None) -> list[torch.Tensor]:
    architecture = ARCHITECTURES[name]
    model = torch_layers.build(architecture, Faults(fault))
    with torch.no_grad():
        return list(model(*torch_layers.examples(architecture)))


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_fault_can_be_planted(name: str) -> None:
    listing = Faults()
    torch_layers.build(ARCHITECTURES[name], listing)
    honest = _outputs(name)
    for fault in listing.asked:
        planted = _outputs(name, fault)
        assert [each.dtype for each in planted] == [each.dtype for each in honest], fault


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("convolutional", Fault("transposed_kernel", "stem")),
        ("convolutional", Fault("reshape_order", "flatten")),
        ("gated", Fault("gru_reset_after", "gru")),
        ("long_memory", Fault("lstm_gates", "lstm1")),
        ("mobile", Fault("dilations_swapped", "dilated")),
        ("mobile", Fault("group_order", "grouped")),
        ("pooling", Fault("count_include_pad", "padded_pool")),
        ("resizing", Fault("resize_mode", "resize")),
        ("transformer", Fault("softmax_axis", "softmax")),
    ],
)
def test_a_fault_changes_the_outputs(name: str, fault: Fault) -> None:
    honest, planted = _outputs(name)[0], _outputs(name, fault)[0]
    assert not torch.allclose(honest, planted, rtol=1e-6, atol=1e-6)


def test_two_builds_are_equal_bit_for_bit() -> None:
    for first, second in zip(_outputs("mobile"), _outputs("mobile"), strict=True):
        assert torch.equal(first, second)


def test_a_lost_nan_is_the_only_change() -> None:
    honest, planted = (_outputs("arithmetic", fault)[1] for fault in (None, Fault("lost_nan", "clip_logs")))
    there = ~honest.isnan()
    assert not there.all()
    assert torch.equal(honest[there], planted[there])
    assert not planted.isnan().any()
