"""The suite's cases and what is computed from them: kinds, operators, exclusions, batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.onnx_suite import cases, coverage, exclusions
from scripts.onnx_suite.batches import batched
from scripts.onnx_suite.compare import difference
from scripts.onnx_suite.outcome import Outcome
from scripts.onnx_suite.run import choose


@pytest.fixture(scope="module")
def known() -> dict[str, cases.SuiteCase]:
    return cases.collect()


def test_the_suite_is_whole(known: dict[str, cases.SuiteCase]) -> None:
    by_category = {
        category: sum(each.category == category for each in known.values()) for category in cases.CATEGORIES
    }
    assert by_category == {
        "node": 1884,
        "simple": 23,
        "pytorch-converted": 82,
        "pytorch-operator": 35,
        "light": 9,
    }


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("test_abs", "Abs"),
        ("test_nllloss_NC_expanded", "NegativeLogLikelihoodLoss"),
        ("test_ai_onnx_ml_binarizer", "ai.onnx.ml.Binarizer"),
        ("test_expand_shape_model1", "Expand"),
        ("test_bvlc_alexnet", "light"),
        ("test_squeezenet", "light"),
    ],
)
def test_operator(known: dict[str, cases.SuiteCase], name: str, operator: str) -> None:
    assert cases.operator_of(known[name], known) == operator


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_abs", ""),
        ("test_bernoulli", "random"),
        ("test_training_dropout", "random"),
        ("test_training_dropout_zero_ratio", ""),
        ("test_dropout_default", ""),
        ("test_string_concat", "strings"),
        ("test_sequence_insert_at_back", "sequences"),
        ("test_nonzero_example", exclusions.VALUES_DECIDE),
        ("test_reshape_allowzero_reordered", exclusions.VALUES_DECIDE),
        ("test_gelu_tanh_1_expanded", "several nodes"),
        ("test_cumsum_2d_axis_1", exclusions.AXIS_DECIDES),
    ],
)
def test_exclusions(known: dict[str, cases.SuiteCase], name: str, reason: str) -> None:
    assert exclusions.not_single_static(known[name]) == reason


def test_a_batch_is_dynamic_where_the_operator_takes_another(known: dict[str, cases.SuiteCase]) -> None:
    for name, grown in (("test_abs", {0}), ("test_add", {0, 1}), ("test_basic_conv_with_padding", {0})):
        case = known[name]
        larger = batched(case)
        assert larger is not None
        before, expected = next(case.data_sets())
        pairs = zip(before, larger.inputs, strict=True)
        sizes = {index for index, (old, new) in enumerate(pairs) if len(new) > len(old)}
        assert sizes == grown
        assert len(larger.expected[0]) == len(expected[0]) + 1
    assert batched(known["test_transpose_default"]) is None


def test_values_of_every_kind_can_be_stored(known: dict[str, cases.SuiteCase], tmp_path: Path) -> None:
    for name in ("test_abs", "test_string_concat", "test_sequence_insert_at_back", "test_cast_FLOAT_to_INT4"):
        case = known[name]
        _, expected = next(case.data_sets())
        for value, output in zip(expected, case.model.graph.output, strict=True):
            cases.write_value(value, tmp_path / "folder" / "value.pb")
            again = cases.read_value(tmp_path / "folder" / "value.pb", output.type)
            assert difference(again, value, rtol=0.0, atol=0.0) is None


def test_a_sample_depends_on_the_seed_alone(known: dict[str, cases.SuiteCase]) -> None:
    first = choose(known, pattern="", category=None, sample=50, seed=3)
    assert first == choose(known, pattern="", category=None, sample=50, seed=3)
    assert first != choose(known, pattern="", category=None, sample=50, seed=4)
    assert choose(known, pattern="test_abs", category="node", sample=None, seed=0) == ["test_abs"]


def test_the_page_tells_why_and_is_the_same_for_the_same_outcomes(known: dict[str, cases.SuiteCase]) -> None:
    outcomes = [
        Outcome("test_abs", "passed", seconds=1.0),
        Outcome("test_bernoulli", "random"),
        Outcome("test_nllloss_NC", "refused", "no lowering | for torch"),
        Outcome("test_nllloss_NC_expanded", "failed", "running: /tmp/bridge-case-x1/model.py is odd"),
    ]
    page = coverage.page("torch", known, outcomes)
    assert "| Abs | 1 | 1 |" in page
    assert "| NegativeLogLikelihoodLoss | 0 | 2 |" in page
    assert "| NegativeLogLikelihoodLoss | nllloss_NC | refused: no lowering \\| for torch |" in page
    assert "/tmp" not in page
    later = [Outcome(each.case, each.verdict, each.reason, seconds=9.0) for each in outcomes]
    assert coverage.page("torch", known, later) == page
