from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge.verification.user_inputs import GENERATED_SETS, generated_sets, specifications, split, user_draws
from bridge.worker.side import TensorSpec

CODE = """
import numpy as np

def one():
    return {"a": np.ones(2, np.float32)}

def several():
    return [{"a": np.ones(2)}, {"a": np.zeros(2)}]

def by_position():
    return (np.ones(2), np.zeros(3))

def arrays_in_a_list():
    return [np.ones(2), np.zeros(3)]

def single():
    return np.ones(4)

def endless(seed):
    generator = np.random.default_rng(seed)
    while True:
        yield {"a": generator.standard_normal(2)}

def positional(number, scale=2.0):
    yield (np.full(2, number * scale),)

def optional_seed(*, seed=7):
    return {"a": np.full(1, seed)}

def scalars():
    yield {"a": 1.5}

def breaks():
    yield {"a": np.ones(2)}
    raise ZeroDivisionError("division of nothing")

def text():
    return "hello"

def nothing():
    return None

def empty():
    return iter(())

constant = 3

class Feeds:
    @staticmethod
    def make():
        return {"a": np.arange(3)}
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "feeding_inputs.py").write_text(CODE)
    (tmp_path / "broken_inputs.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "failing_inputs.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    sys.path[:] = before
    for name in ("feeding_inputs", "broken_inputs", "failing_inputs"):
        sys.modules.pop(name, None)


def generated(name: str, seed: int = 0) -> list[Any]:
    return generated_sets(f"feeding_inputs:{name}", seed)


def test_sets_of_every_form() -> None:
    assert [list(each) for each in generated("one")] == [["a"]]
    assert [each["a"].tolist() for each in generated("several")] == [[1, 1], [0, 0]]
    for name in ("by_position", "arrays_in_a_list"):
        ((first, second),) = generated(name)
        assert (first.shape, second.shape) == ((2,), (3,))
    ((single,),) = generated("single")
    assert single.shape == (4,)
    assert generated("scalars")[0]["a"] == 1.5
    assert generated("Feeds.make")[0]["a"].tolist() == [0, 1, 2]


def test_the_seed_is_handed_over() -> None:
    first, again, other = (generated("endless", seed) for seed in (1, 1, 2))
    assert len(first) == GENERATED_SETS
    assert all(np.array_equal(one["a"], two["a"]) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["a"], other[0]["a"])
    assert generated("positional", 3)[0][0].tolist() == [6.0, 6.0]
    assert generated("optional_seed", 3)[0]["a"].tolist() == [3]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("feeding_inputs:breaks", "ZeroDivisionError: division of nothing"),
        ("feeding_inputs:text", "gives a str"),
        ("feeding_inputs:nothing", "gives a NoneType"),
        ("feeding_inputs:empty", "gives no inputs"),
        ("feeding_inputs:constant", "not a function"),
        ("feeding_inputs:absent", "has no 'absent'"),
        ("nothing_of_the_sort:one", "no module 'nothing_of_the_sort'"),
        ("broken_inputs:one", "importing broken_inputs failed"),
        ("failing_inputs:one", "no licence"),
    ],
)
def test_what_goes_wrong_is_said(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generated_sets(reference, 0)


def test_generators_are_told_from_specifications() -> None:
    specs, sets = split("feeding_inputs:one", seed=0)
    assert specs == []
    (made,) = user_draws(sets, [TensorSpec("a", "float32", (None,))])
    assert made.batch == 2
    assert split("N:int64")[0] == [InputSpec(("N",), "int64")]
    assert len(split(["feeding_inputs:several", "feeding_inputs:one"])[1]) == 3


def test_specifications_alone_read_no_file_and_call_no_generator() -> None:
    given = ["missing.npz", "no_such_module:function", "x=Nx3", InputSpec((2, 4), "float32", "y")]
    assert [each.name for each in specifications(given)] == ["x", "y"]
    assert specifications("missing.npz") == []
    assert specifications({"x": np.zeros(3)}) == []
    assert [each.shape for each in specifications("1x3")] == [(1, 3)]
