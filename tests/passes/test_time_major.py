"""Recurrent operators on batches of sequences."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from pass_graphs import apply, floats, hub, operators

from bridge.passes.time_major import bring_time_first


@pytest.mark.parametrize(("op", "gates", "states"), [("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)])
def test_layout_1_becomes_transposes_around_layout_0(op: str, gates: int, states: int) -> None:
    last = ", ".join(f"s{i}" for i in range(states))
    first = ", ".join(f"h{i}" for i in range(states))
    model = hub(
        f"(float[2,5,3] x, {', '.join(f'float[2,1,4] h{i}' for i in range(states))})"
        f" => (float y, {', '.join(f'float s{i}' for i in range(states))})"
        f' {{ y, {last} = {op} <hidden_size=4, layout=1> (x, w, r, "", "", {first}) }}',
        trained={"w": floats(1, gates * 4, 3), "r": floats(1, gates * 4, 4, seed=1)},
    )
    feeds = {"x": floats(2, 5, 3, seed=2)} | {f"h{i}": floats(2, 1, 4, seed=3 + i) for i in range(states)}
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    result = apply(model, bring_time_first)
    assert operators(result).count("Transpose") == 2 + 2 * states
    session = onnxruntime.InferenceSession(ir.to_proto(result).SerializeToString())
    for mine, right in zip(session.run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-6)


def test_time_first_and_outputs_left_out_stay_so() -> None:
    weights = {"w": floats(1, 4, 3), "r": floats(1, 4, 4, seed=1)}
    plain = "(float[5,2,3] x) => (float y) { y = RNN <hidden_size=4> (x, w, r) }"
    assert operators(apply(hub(plain, trained=weights), bring_time_first)) == ["RNN"]
    state = '(float[2,5,3] x) => (float y) { "", y = RNN <hidden_size=4, layout=1> (x, w, r) }'
    result = apply(hub(state, trained=weights), bring_time_first)
    assert operators(result) == ["Transpose", "RNN", "Transpose"]
    assert result.graph.outputs[0].name == "y"
