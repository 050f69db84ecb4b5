"""Group normalisations as PyTorch computes them exactly."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from pass_graphs import floats, hub, number

from bridge.passes.torch_norms import prepare_group_norms

TEXT = "(float[N,8,H,W] x) => (float y) { y = GroupNormalization <num_groups = 4> (x, scale, bias) }"


def prepared(scale: str, bias: str, framework: str = "tf", text: str = TEXT) -> list[ir.Node]:
    tensors = {"ones": number(1, 8), "zeros": number(0, 8)}
    constants = {name: tensors[kind] for name, kind in (("scale", scale), ("bias", bias)) if kind in tensors}
    trained = {name: floats(8) for name in ("scale", "bias") if name not in constants}
    model = hub(text, trained=trained, constants=constants, framework=framework)
    return list(prepare_group_norms(model).graph)


@pytest.mark.parametrize(
    ("scale", "bias", "left"),
    [
        ("trained", "trained", ["scale", "bias"]),
        ("ones", "trained", [None, "bias"]),
        ("trained", "zeros", ["scale", None]),
        ("ones", "zeros", ["scale", "bias"]),
        ("zeros", "trained", ["scale", "bias"]),
    ],
)
def test_what_changes_nothing_is_left_out_beside_what_does(
    scale: str, bias: str, left: list[str | None]
) -> None:
    node = prepared(scale, bias)[-1]
    assert [None if value is None else value.name for value in node.inputs[1:]] == left


@pytest.mark.parametrize(
    ("framework", "text", "operators"),
    [
        ("tf", TEXT, ["Contiguous", "GroupNormalization"]),
        ("onnx", TEXT, ["GroupNormalization"]),
        ("tf", TEXT.replace("N,8,H,W", "N,8,T"), ["GroupNormalization"]),
        ("tf", TEXT.replace("N,8,H,W", "N,8,D,H,W"), ["Contiguous", "GroupNormalization"]),
    ],
)
def test_only_images_of_tensorflow_are_copied(framework: str, text: str, operators: list[str]) -> None:
    assert [node.op_type for node in prepared("trained", "trained", framework, text)] == operators
