"""Partial evaluation of lowerings: what is decided at conversion must not appear in the output."""

import ast
import math
from typing import Any

import pytest

from bridge.emit.specialise import Facts, Known, inline


def tensor(name: str, **facts: Any) -> Facts:
    return Facts(ast.Name(name, ast.Load()), **facts)


def text(function: Any, **bindings: Any) -> str | None:
    expression = inline(function, bindings)
    return None if expression is None else ast.unparse(expression)


def gemm(a: Any, b: Any, c: Any = None, *, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Any:
    """Documented."""
    if transA:
        a = a.mT
    if transB:
        b = b.mT
    y = a @ b
    if alpha != 1.0:
        y = alpha * y
    if c is not None:
        y = y + c
    return y


def test_decided_branches_vanish() -> None:
    known = {"alpha": Known(1.0), "transA": Known(0), "transB": Known(1), "c": Known(None)}
    assert text(gemm, a=tensor("x"), b=tensor("w"), **known) == "x @ w.mT"


def test_a_tensor_is_not_none() -> None:
    known = {"alpha": Known(0.5), "transA": Known(0), "transB": Known(0)}
    assert text(gemm, a=tensor("x"), b=tensor("w"), c=tensor("b"), **known) == "0.5 * (x @ w) + b"


def twice(x: Any) -> Any:
    y = x.exp()
    return y * y


def test_a_value_used_twice_is_not_computed_twice() -> None:
    assert text(twice, x=tensor("x")) is None


def by_rank(x: Any, *, axis: int = -1) -> Any:
    rank = x.ndim
    axis = axis % rank
    perm = tuple(i for i in range(rank) if i != axis)
    return x.permute((*perm, axis))


def test_rank_arithmetic_is_folded() -> None:
    assert text(by_rank, x=tensor("x", rank=4), axis=Known(1)) == "x.permute((0, 2, 3, 1))"


def test_unknown_rank_is_left_alone() -> None:
    assert text(by_rank, x=tensor("x"), axis=Known(1)) is None


def divide(x: Any, y: Any) -> Any:
    if x.is_floating_point():
        return x / y
    return x.div(y, rounding_mode="trunc")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", "a / b"),
        ("bfloat16", "a / b"),
        ("int64", "a.div(b, rounding_mode='trunc')"),
        (None, None),
    ],
)
def test_dtype_questions_are_answered_where_known(dtype: str | None, expected: str | None) -> None:
    assert text(divide, x=tensor("a", dtype=dtype), y=tensor("b", dtype=dtype)) == expected


def add(x: Any, y: Any) -> Any:
    return x + y


def maximum(x: Any, y: Any) -> Any:
    return torch_maximum(x, y)  # type: ignore[name-defined]  # noqa: F821


def scalar(value: float) -> Facts:
    typed = ast.parse(f"torch.tensor({value})", mode="eval").body
    return Facts(typed, 0, "float32", value, typed)


def test_a_scalar_constant_is_a_number_beside_a_tensor_and_typed_elsewhere() -> None:
    assert text(add, x=tensor("x"), y=scalar(0.5)) == "x + 0.5"
    assert text(add, x=scalar(0.5), y=tensor("x")) == "0.5 + x"
    assert text(maximum, x=tensor("x"), y=scalar(0.5)) == "torch_maximum(x, torch.tensor(0.5))"
    assert text(add, x=scalar(0.5), y=scalar(0.5)) == "0.5 + torch.tensor(0.5)"


def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clamp(low, high)


def test_infinities_print_as_names() -> None:
    assert text(clip, x=tensor("x"), low=Known(-math.inf), high=Known(None)) == "x.clamp(-math.inf, None)"


def loops(x: Any, *, count: int = 2) -> Any:
    for _ in range(count):
        x = x + x
    return x


def test_a_loop_is_not_inlined() -> None:
    assert text(loops, x=tensor("x"), count=Known(2)) is None


def shadowed(x: Any, *, axes: tuple[int, ...] = ()) -> Any:
    return x.sum([axis + 1 for axis in axes])


def test_comprehensions_over_known_values_are_folded() -> None:
    assert text(shadowed, x=tensor("x"), axes=Known((0, 2))) == "x.sum([1, 3])"


def with_options(x: Any, *, alpha: float = 1.0, mode: str | None = None) -> Any:
    options = {"alpha": alpha} if alpha != 1.0 else {}
    return x.apply(mode=mode, **options)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.5, "x.apply(mode='a', alpha=0.5)"), (1.0, "x.apply(mode='a')")]
)
def test_an_unpacked_dict_becomes_keywords(alpha: float, expected: str) -> None:
    assert text(with_options, x=tensor("x"), alpha=Known(alpha), mode=Known("a")) == expected


def total(x: Any, y: Any) -> Any:
    """Documented."""
    if x.dtype in (torch.uint16, torch.uint32):  # noqa: F821
        return (x.long() + y.long()).to(x.dtype)
    return x + y


@pytest.mark.parametrize(
    ("dtype", "written"),
    [("float32", "a + b"), ("uint16", "(a.long() + b.long()).to(a.dtype)"), (None, None)],
)
def test_a_dtype_among_several_is_decided_where_it_is_known(dtype: str | None, written: str | None) -> None:
    assert text(total, x=tensor("a", dtype=dtype), y=tensor("b")) == written


def widest(*inputs: Any) -> Any:
    if len(inputs) == 2:
        return pairwise(inputs[0], inputs[1])  # noqa: F821
    return largest(*inputs)  # noqa: F821


def several(*names: str) -> Facts:
    members = tuple(ast.Name(name, ast.Load()) for name in names)
    return Facts(ast.Tuple(list(members), ast.Load()), elements=members)


def test_the_number_of_variadic_inputs_is_known() -> None:
    assert text(widest, inputs=several("x", "inputs")) == "pairwise(x, inputs)"
    assert text(widest, inputs=several("x", "y", "z")) == "largest(x, y, z)"


def shaped(x: Any, *others: Any, owners: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    return x.reshape(*[n if i < 0 else others[i].shape[n] for i, n in zip(owners, sizes, strict=True)])


def test_a_list_over_known_values_is_written_element_by_element() -> None:
    others = Facts(ast.Tuple([ast.Name("u"), ast.Name("v")]), elements=(ast.Name("u"), ast.Name("v")))
    known = {"owners": Known((-1, 1, -1, 0)), "sizes": Known((2, 0, -1, 3))}
    assert text(shaped, x=tensor("x"), others=others, **known) == "x.reshape(2, v.shape[0], -1, u.shape[3])"
