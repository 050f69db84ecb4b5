"""The operations `run_noisy`, `gradients` and `train`, on a network whose gradients are written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import EnvironmentFailure
from bridge.worker.failures import Unavailable
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors

HERE = Path(__file__).parent
RNG = np.random.default_rng(1)
X = RNG.standard_normal((5, 4)).astype(np.float32)
TARGET = RNG.standard_normal((5, 3))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    monkeypatch.syspath_prepend(str(HERE))
    with Side(label="test side", threads=1, timeout=60) as side:
        yield side


def loaded(side: Side, **request: object) -> Side:
    side.submit_load("network:load", request)
    return side


def write(side: Side, name: str, **tensors: np.ndarray) -> Path:
    file = side.scratch / name
    write_tensors(str(file), tensors)
    return file


def steps(count: int) -> dict[str, np.ndarray]:
    tensors = {f"input:{step}:x": X for step in range(count)}
    return tensors | {f"target:{step}:0": TARGET for step in range(count)}


def batches(side: Side) -> Path:
    return write(side, "batches", **steps(4))


def test_gradients_are_those_of_finite_differences(worker: Side) -> None:
    loaded(worker)
    x = write(worker, "x", x=X.astype(np.float64))
    cotangent = RNG.standard_normal((5, 3))
    number = worker.submit_gradients(x, write(worker, "c", **{"0": cotangent}), "a")
    nearby = write(worker, "nearby", x=X + 1e-6 * np.eye(5, 4))
    moved = worker.submit_run(nearby, "moved", fp64=True)
    found = worker.gradients(number, "a")
    assert set(found.inputs) == {"x"}
    assert "norm.mean" not in found.weights
    change = worker.outputs(moved, "moved", fp64=True).outputs[0] - found.outputs[0]
    assert np.sum(change * cotangent) == pytest.approx(1e-6 * np.trace(found.inputs["x"]), rel=1e-4)


def test_gradients_in_training_leave_the_statistics_as_they_were(worker: Side) -> None:
    loaded(worker)
    x, cotangent = write(worker, "x", x=X), write(worker, "c", **{"0": TARGET})
    numbers = {
        name: worker.submit_gradients(x, cotangent, name, training=training)
        for name, training in (("a", False), ("b", True), ("c", False))
    }
    a, b, c = (worker.gradients(number, name) for name, number in numbers.items())
    assert np.array_equal(a.outputs[0], c.outputs[0])
    assert not np.array_equal(a.outputs[0], b.outputs[0])


def test_a_cotangent_of_another_shape_is_refused(worker: Side) -> None:
    loaded(worker)
    number = worker.submit_gradients(write(worker, "x", x=X), write(worker, "c", **{"0": X}), "a")
    with pytest.raises(EnvironmentFailure, match="fits no output"):
        worker.gradients(number, "a")


def test_training_follows_the_rule_and_leaves_the_model_as_it_was(worker: Side) -> None:
    loaded(worker)
    file = batches(worker)
    first = worker.submit_train(file, "first", rate=0.1)
    again = worker.submit_train(file, "again", rate=0.1)
    still = worker.submit_train(file, "still", rate=0.0)
    weights = worker.submit_weights()
    a, b, c = (worker.trained(n, name) for n, name in ((first, "first"), (again, "again"), (still, "still")))
    assert a.losses.tolist() == b.losses.tolist()
    assert len(a.losses) == len(a.gradient_norms) == 4
    assert a.losses[0] == c.losses[0]
    assert a.losses[-1] < c.losses[-1]
    assert a.trained == (
        "first.bias", "first.kernel", "norm.beta", "norm.gamma", "second.bias", "second.kernel",
    )  # fmt: skip
    stored = worker.weights(weights)
    assert stored is not None
    assert np.array_equal(c.state["second.kernel"], stored["second.kernel"].astype(np.float64))
    assert not np.array_equal(c.state["norm.mean"], stored["norm.mean"])


def test_momentum_carries_the_first_gradient_into_the_second_step(worker: Side) -> None:
    loaded(worker)
    one, two = write(worker, "one", **steps(1)), write(worker, "two", **steps(2))
    results = {}
    for name, file, momentum in (("one", one, 0.9), ("plain", two, 0.0), ("heavy", two, 0.9)):
        results[name] = worker.trained(worker.submit_train(file, name, rate=0.1, momentum=momentum), name)
    start = worker.weights(worker.submit_weights())
    assert start is not None
    step = results["one"].state["second.bias"] - start["second.bias"]
    extra = results["heavy"].state["second.bias"] - results["plain"].state["second.bias"]
    assert np.allclose(extra, 0.9 * step, rtol=1e-10)


def test_weights_to_start_from_are_assigned(worker: Side) -> None:
    loaded(worker)
    zero = write(worker, "zero", **{"norm.mean": np.zeros(6)})
    plain = worker.submit_train(batches(worker), "plain", rate=0.0)
    started = worker.submit_train(worker.scratch / "batches", "started", rate=0.0, start=zero)
    a, b = worker.trained(plain, "plain"), worker.trained(started, "started")
    weights = worker.weights(worker.submit_weights())
    assert weights is not None
    assert np.allclose(a.state["norm.mean"] - b.state["norm.mean"], 0.9**4 * weights["norm.mean"])


def test_fixed_weights_are_not_trained(worker: Side) -> None:
    loaded(worker)
    number = worker.submit_train(batches(worker), "a", rate=0.1, fixed=["first.bias", "second.bias"])
    found = worker.trained(number, "a")
    assert found.trained == ("first.kernel", "norm.beta", "norm.gamma", "second.kernel")
    weights = worker.weights(worker.submit_weights())
    assert weights is not None
    assert np.array_equal(found.state["second.bias"], weights["second.bias"])


def test_noise_is_a_function_of_its_seed(worker: Side) -> None:
    loaded(worker)
    x = write(worker, "x", x=X)
    numbers = {
        name: worker.submit_noisy(x, name, unit=2**-24, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    }
    exact = worker.outputs(worker.submit_run(x, "a", fp64=True), "a", fp64=True).outputs[0]
    a, b, c = (worker.noisy(number, name).outputs[0] for name, number in numbers.items())
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert 0 < np.max(np.abs(a / exact - 1)) <= 2**-24 * 1.01


def test_what_a_side_cannot_do_is_unavailable_with_its_reason(worker: Side) -> None:
    loaded(worker, inference=True)
    number = worker.submit_train(batches(worker), "a", rate=0.1)
    with pytest.raises(Unavailable) as caught:
        worker.trained(number, "a")
    assert caught.value.reason == "it holds an inference graph only"
    evaluated = worker.submit_train(batches(worker), "b", rate=0.1, training=False)
    assert len(worker.trained(evaluated, "b").losses) == 4


def test_a_side_without_the_method_is_unavailable(worker: Side) -> None:
    worker.submit_load("side_models:load", {})
    x = write(worker, "x", x=X)
    for number, wait in (
        (worker.submit_noisy(x, "a", unit=1e-7, seed=0), worker.noisy),
        (worker.submit_gradients(x, x, "a"), worker.gradients),
        (worker.submit_train(x, "a", rate=0.1), worker.trained),
    ):
        with pytest.raises(Unavailable, match="a model of the tests has no means to"):
            wait(number, "a")
