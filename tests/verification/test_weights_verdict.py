from __future__ import annotations

import numpy as np

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.weights import compare_weights, count_different_bits, is_of


def tensor(target: str, recipe: Recipe | None, shape: tuple[int, ...] = (2, 3)) -> TensorMap:
    return TensorMap(target, shape, "float32", "parameter", True, recipe)


W = np.arange(6, dtype=np.float32).reshape(3, 2)
MAP = WeightMap(
    "tf",
    "torch",
    (tensor("fc.weight", step("transpose", Source("fc/kernel"), perm=[1, 0])), tensor("table", None)),
    {"fc/kernel": ("tied/kernel",)},
)
TABLE = np.ones(2, np.float32)


def test_equal_through_the_recipe() -> None:
    result = compare_weights(MAP, {"fc/kernel": W, "extra": W}, {"fc.weight": W.T.copy(), "table": TABLE})
    assert result.passed
    assert (result.compared, result.elements, result.constants, result.unused) == (1, 6, 1, ("extra",))


def test_a_tied_tensor_under_its_other_name() -> None:
    result = compare_weights(MAP, {"tied/kernel": W}, {"fc.weight": W.T.copy(), "table": TABLE})
    assert result.passed
    assert result.unused == ()


def test_one_bit_is_found() -> None:
    wrong = W.T.copy()
    wrong[1, 2] = np.nextafter(wrong[1, 2], np.float32(np.inf))
    result = compare_weights(MAP, {"fc/kernel": W}, {"fc.weight": wrong, "table": TABLE})
    assert [each.reason for each in result.differences] == ["1 of 6 elements differ"]


def test_missing_and_unmapped_tensors_are_found() -> None:
    missing = compare_weights(MAP, {"fc/kernel": W}, {"table": TABLE})
    assert "no such tensor" in missing.differences[0].reason
    no_source = compare_weights(MAP, {}, {"fc.weight": W.T.copy(), "table": TABLE})
    assert "'fc/kernel'" in no_source.differences[0].reason
    extra = compare_weights(MAP, {"fc/kernel": W}, {"fc.weight": W.T.copy(), "table": TABLE, "new": W})
    assert extra.unmapped == ("new",)
    assert not extra.passed


def test_shape_and_dtype_are_compared() -> None:
    shape = compare_weights(MAP, {"fc/kernel": W}, {"fc.weight": W.copy(), "table": TABLE})
    assert "shape" in shape.differences[0].reason
    dtype = compare_weights(MAP, {"fc/kernel": W}, {"fc.weight": W.T.astype(np.float64), "table": TABLE})
    assert "dtype" in dtype.differences[0].reason


def test_bits_tell_apart_what_equality_does_not() -> None:
    quiet = np.array([0x7FC00000, 0], np.uint32).view(np.float32)
    payload = np.array([0x7FC00001, 0x80000000], np.uint32).view(np.float32)
    assert count_different_bits(quiet, quiet.copy()) == 0
    assert count_different_bits(quiet, payload) == 2
    assert count_different_bits(quiet[:0], payload[:0]) == 0


def test_a_map_belongs_to_the_source_whose_tensors_it_reads() -> None:
    assert is_of(MAP, {"fc/kernel"})
    assert is_of(MAP, {"tied/kernel"})
    assert not is_of(MAP, {"other/kernel"})
    assert is_of(WeightMap("tf", "torch", (), {}), set())
