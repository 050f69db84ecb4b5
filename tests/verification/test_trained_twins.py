"""Gradients and training of a network that was written in both frameworks by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from bridge.verification.gradients import GradientsResult, check_gradients
from bridge.verification.matching import ValueMatch, match_by_value
from bridge.verification.pairing import Correspondence, PairedInput, PairedOutput
from bridge.verification.parties import resolve
from bridge.verification.training import TrainingResult, check_training
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors

TWINS = "tests.verification.twins"
CORRESPONDENCE = Correspondence({"image": PairedInput("image", (0, 2, 3, 1))}, (PairedOutput(0, 0),))
RNG = np.random.default_rng(0)
BATCHES = [{"image": RNG.standard_normal((5, 2, 6, 6)).astype(np.float32)} for _ in range(20)]


class Pair:
    """The PyTorch network, and one Keras network after the other, on two workers."""

    def __init__(self, source: Side, target: Side) -> None:
        self._source = source
        self._target = target
        self._count = 0
        self._load(source, "torch_twin")
        inputs = source.scratch / "inputs"
        write_tensors(str(inputs), BATCHES[0])
        self._outputs = source.outputs(source.submit_run(inputs, "run"), "run").outputs
        self._weights = self._held(source)

    def _load(self, side: Side, name: str) -> None:
        party = resolve(f"{TWINS}:{name}", as_target=side is self._target)
        side.description(side.submit_load(party.loader, dict(party.request)))

    @staticmethod
    def _held(side: Side) -> dict[str, np.ndarray]:
        held = side.weights(side.submit_weights())
        assert held is not None
        return {name: np.array(array) for name, array in held.items()}

    def check(self, target: str) -> tuple[ValueMatch, GradientsResult, TrainingResult]:
        self._count += 1
        self._load(self._target, target)
        match = match_by_value(self._weights, self._held(self._target))
        gradients = check_gradients(
            self._source,
            self._target,
            feeds=BATCHES[0],
            correspondence=CORRESPONDENCE,
            outputs=self._outputs,
            weights=match.weight_map,
            source_weights=self._weights,
            complete=False,
            name=f"gradients{self._count}",
        )
        training = check_training(
            self._source,
            self._target,
            batches=BATCHES,
            correspondence=CORRESPONDENCE,
            outputs=self._outputs,
            weights=match.weight_map,
            complete=False,
            name=f"training{self._count}",
        )
        return match, gradients, training


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        sides = [
            stack.enter_context(Side(label=label, threads=1, timeout=300)) for label in ("source", "target")
        ]
        yield Pair(*sides)


def differing(result: GradientsResult | TrainingResult) -> set[str]:
    return {each.name for each in result.tensors if each.verdict == "different"}


def test_twins_are_equal_but_for_the_convention_of_the_variance(pair: Pair) -> None:
    match, gradients, training = pair.check("keras_twin")
    assert match.matched == 7
    assert match.passed
    assert gradients.passed, gradients.reasons
    assert {each.name for each in gradients.tensors} == {
        "image", "conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias",
    }  # fmt: skip
    assert training.passed, training.reasons
    assert training.training
    (convention,) = training.conventions
    assert "the source divides the variance by n - 1, the target by n = 80" in convention


def test_the_momentum_of_a_normalization_is_found(pair: Pair) -> None:
    _, gradients, training = pair.check("keras_with_another_momentum")
    assert gradients.passed
    assert len(differing(training)) == 2
    assert all("norm" in each for each in differing(training))


def test_a_frozen_layer_is_found(pair: Pair) -> None:
    _, gradients, training = pair.check("keras_with_a_frozen_head")
    assert differing(gradients) == {"fc.weight", "fc.bias"}
    assert training.verdict == "different"


def test_a_detached_layer_is_found(pair: Pair) -> None:
    _, gradients, training = pair.check("keras_with_a_detached_stem")
    assert differing(gradients) == {"image", "conv.weight", "bn.weight", "bn.bias"}
    assert training.verdict == "different"
