"""The index of sequence models and what is computed from their measurements."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fixtures import sequences
from scripts.sequences import native, page, probe
from scripts.sequences.measure import Measurement
from scripts.sequences.native import leftovers
from scripts.sequences.run import chosen, regressions
from scripts.sequences.speed import interval

FIXTURES = Path(sequences.__file__).parent


def functions(module: str) -> set[str]:
    tree = ast.parse((FIXTURES / f"{module}.py").read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize("program", ["torch", "keras"])
def test_every_name_has_a_builder(program: str) -> None:
    built = functions(f"sequences_{program}")
    variants = {f"keras_{kind}_{variant}" for kind in sequences.RECURRENT for variant in sequences.VARIANTS}
    for name, case in sequences.SEQUENCES.items():
        if case.program == program and name not in variants:
            assert name.removeprefix("keras_") in built


def test_stored_runs_come_back_in_order(tmp_path: Path) -> None:
    inputs = {"b": np.ones((2, 3), np.int64), "a": np.zeros(2, np.float32)}
    file = tmp_path / "runs.npz"
    np.savez(file, **sequences.store({(2, 3): (inputs, {"z": np.ones(1), "y": np.zeros(4)})}))
    ((size, (given, expected)),) = probe.runs_of(file).items()
    assert size == "2x3"
    assert list(given) == ["b", "a"]
    assert given["b"].dtype == np.int64
    assert list(expected) == ["z", "y"]


def test_outputs_that_hardly_vary_prove_nothing() -> None:
    same = np.ones((4, 3), np.float32)
    with pytest.raises(RuntimeError, match="hardly varies"):
        sequences.check_lively({(4, 3): ({}, {"y": same})})
    sequences.check_lively({(4, 3): ({}, {"y": np.arange(12.0).reshape(4, 3)})})


def test_outputs_of_an_artifact_are_paired_whatever_their_order() -> None:
    one, two, other = np.ones((2, 3)), np.full((2, 3), 5.0), np.ones(4)
    assert probe.paired([two, other, one], [one, two, other]) == 0
    assert probe.paired([one], [one, two]) == float("inf")
    assert probe.paired([other, other, one], [one, two, other]) == float("inf")


def test_the_cosine_leaves_padding_out() -> None:
    ours, theirs = np.ones((1, 2, 3)), np.ones((1, 2, 3))
    ours[0, 1] = -7.0
    assert probe.cosine(ours, theirs, np.array([[1, 0]])) == pytest.approx(1.0)
    assert probe.cosine(ours, theirs, None) < 0


def test_leftovers_are_found_by_kind() -> None:
    text = "x = F.softmax(y, dim=-1)\n    for step in range(3):\n    z = torch.rsqrt(x)\n"
    assert set(leftovers(text)) == {"softmax", "loop", "root"}


def test_a_missing_layer_is_a_miss_unless_the_target_has_none() -> None:
    plain = Measurement("keras_lstm_states", "torch", recurrent={"lstm": 1})
    assert page.verdict(plain) == "passed"
    assert plain.not_native == {"lstm": "1 of 2"}
    assert page.verdict(Measurement("keras_lstm_states", "torch", recurrent={"lstm": 2})) == "native"
    old = Measurement("keras_gru_v1_states", "torch")
    assert page.verdict(old) == "native"
    assert "reset" in old.not_native["gru"]
    assert page.verdict(Measurement("bert", "tf", errors={"verify": "different"})) == "failed"


class Emitted(ModuleType):
    """A model.py whose layers call attention once each, and its weights once."""

    def __init__(self) -> None:
        super().__init__("emitted_for_counting")
        exec(
            "def attention_weights(q, k): return q * k\n"
            "def scaled_dot_product_attention(q, k, v): return attention_weights(q, k) * v\n"
            "def attention_bias(q): return q\n"
            "class Model:\n"
            "    def __call__(self, x):\n"
            "        y = scaled_dot_product_attention(x, x, x) + attention_bias(x)\n"
            "        return attention_weights(y, y) * y\n",
            vars(self),
        )


def test_attention_is_counted_where_it_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras")
    module = Emitted()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = module.Model()
    before = module.scaled_dot_product_attention
    with native.count_tf_attention(model) as calls:
        model(2)
    assert calls == {native.WHOLE: 2}
    assert module.scaled_dot_product_attention is before


def test_whole_attention_is_not_missing() -> None:
    assert page.verdict(Measurement("bert", "tf", attention={native.WHOLE: 2})) == "native"
    parts = Measurement("bert", "tf", attention={native.WHOLE: 1})
    assert parts.not_native == {"attention": "1 of 2"}
    text = page.document([Measurement("bert", "tf", attention={native.WHOLE: 2})])
    assert f"| bert | passes | - | 2 {native.WHOLE} | - |" in text
    assert "TensorFlow has no fused attention" in text


def test_worse_than_the_baseline_is_a_regression() -> None:
    found = [Measurement("bert", "tf"), Measurement("tf_cond", "torch")]
    assert regressions(found, {"bert": "native", "tf_cond": "failed"}) == ["bert: passed, was native"]


def test_a_sample_is_the_same_for_a_seed() -> None:
    assert chosen([], 5, 3) == chosen([], 5, 3)
    assert len(chosen([], 5, 3)) == 5
    assert chosen(["tf_cond"], None, 0) == ["tf_cond"]


def test_the_interval_holds_the_ratio() -> None:
    rng = np.random.default_rng(0)
    native = rng.normal(1.0, 0.02, 60)
    ratio, low, high = interval(native * 1.2 + rng.normal(0, 0.02, 60), native)
    assert low < ratio < high
    assert 1.1 < low < 1.2 < high < 1.3
