"""The first wrong gradient, counted from the outputs."""

from __future__ import annotations

import numpy as np
from traces import Recorder

from bridge.verification.localise.alike import Index
from bridge.verification.localise.backwards import GradientDivergence, first_wrong_gradient
from bridge.verification.localise.pairing import pair_by_value
from bridge.verification.localise.trace import Trace

X = np.random.default_rng(0).standard_normal((2, 3))
ONES = np.ones((2, 3))


def network(*, detached: bool = False, copied: bool = False, scale: float = 1.0) -> Trace:
    """exp(tanh(x)) * 2 with cotangents of ones; gradients before a detached value are absent."""
    r = Recorder(x=X)
    before = {"gradient": None} if detached else {"gradient": 2 * np.exp(np.tanh(X)) * scale}
    r("act", "tanh", np.tanh, "x", gradient=None if detached else before["gradient"])
    if detached:
        r("cut", "aten.detach.default", lambda x: x, "act")
    elif copied:
        r("copy", "reshape", lambda x: x, "act", gradient=ONES * 7)
    r("exp", "exp", np.exp, "cut" if detached else "copy" if copied else "act", gradient=2 * ONES)
    r("out", "mul", lambda x: x * 2, "exp", gradient=ONES)
    return r.trace()


def find(source: Trace, target: Trace) -> GradientDivergence | None:
    index = Index([value.array for value in source.values])
    pairings = pair_by_value(source, target, index, 1e-6)
    return first_wrong_gradient(source, target, pairings, {}, index, 1e-6)


def test_equal_gradients() -> None:
    assert find(network(), network()) is None


def test_a_copy_has_a_part_of_the_gradient() -> None:
    assert find(network(), network(copied=True)) is None


def test_a_detached_value_is_named() -> None:
    target = network(detached=True)
    found = find(network(), target)
    assert found is not None
    assert found.reader is not None
    assert target.values[found.target].name == "act"
    assert target.values[found.reader].name == "cut"


def test_the_node_that_reads_the_last_wrong_gradient_is_named() -> None:
    target = network(scale=1.5)
    found = find(network(), target)
    assert found is not None
    assert found.reader is not None
    assert target.values[found.target].name == "act"
    assert target.values[found.reader].name == "exp"
    assert found.error > 0.3
