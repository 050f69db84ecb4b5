"""Folding with provenance: recipes, tied tensors, computations on parameters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import (
    apply,
    assert_equivalent,
    assert_recipes_follow,
    floats,
    hub,
    ints,
    number,
    operators,
    recipes_of,
)

from bridge.hub import metadata
from bridge.hub.recipe import Source, Step, only_moves, run
from bridge.passes.fold_trained import fold_buffers, fold_moves


def test_transpose_becomes_a_recipe_and_the_original_goes() -> None:
    model = hub(
        "(float[N,4] x) => (float[N,5] y) { wt = Transpose(w) y = MatMul(x, wt) }",
        trained={"w": floats(5, 4)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded) == ["MatMul"]
    ((name, recipe),) = recipes_of(folded).items()
    assert recipe == Step("transpose", (Source("w"),), (("perm", (1, 0)),))
    info = metadata.weight_info(folded.graph.initializers[name])
    assert info is not None
    assert (info.path, info.kind, info.trainable) == ("w", "parameter", True)
    assert metadata.source_info(folded).unused_weights == ()
    assert_equivalent(model, folded)
    assert_recipes_follow(model, folded)


def test_tied_tensor_stays_one() -> None:
    model = hub(
        "(int64[N] i, float[N,4] x) => (float[N,4] e, float[N,5] y)"
        " { e = Gather(w, i) wt = Transpose(w) y = MatMul(x, wt) }",
        trained={"w": floats(5, 4)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded) == ["Gather", "Transpose", "MatMul"]
    assert recipes_of(folded) == {"w": Source("w")}
    assert_equivalent(model, folded)


def test_the_same_move_for_two_readers_is_one_tensor() -> None:
    model = hub(
        "(float[N,4] x) => (float[N,5] y, float[N,5] z)"
        " { a = Transpose(w) y = MatMul(x, a) b = Transpose(w) n = Neg(x) z = MatMul(n, b) }",
        trained={"w": floats(5, 4)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded).count("Transpose") == 0
    assert len(folded.graph.initializers) == 1
    assert_equivalent(model, folded)


def test_pieces_that_meet_again_fold_pieces_that_do_not_stay() -> None:
    together = hub(
        "(float[N,6] x) => (float[N,6] y) { a, b = Split <axis=1, num_outputs=2> (w)"
        " c = Concat <axis=1> (b, a) y = MatMul(x, c) }",
        trained={"w": floats(6, 6)},
    )
    folded = apply(together, fold_moves)
    assert operators(folded) == ["MatMul"]
    assert all(only_moves(each) for each in recipes_of(folded).values())
    assert_equivalent(together, folded)
    assert_recipes_follow(together, folded)

    apart = hub(
        "(float[N,6] x) => (float[N,3] y) { a, b = Split <axis=1, num_outputs=2> (w)"
        " p = MatMul(x, a) q = MatMul(x, b) y = Add(p, q) }",
        trained={"w": floats(6, 6)},
    )
    assert operators(apply(apart, fold_moves)) == ["Split", "MatMul", "MatMul", "Add"]


def test_computation_on_a_parameter_stays_one_on_a_buffer_folds() -> None:
    text = "(float[N,4] x) => (float[N,4] y) { s = Sqrt(v) t = Mul(s, two) y = Mul(x, t) }"
    tensors = {"v": floats(4, low=0.5, high=2.0)}
    parameter = hub(text, trained=tensors, constants={"two": number(2.0)})
    assert operators(apply(parameter, fold_buffers)) == ["Sqrt", "Mul", "Mul"]
    buffer = hub(text, trained=tensors, constants={"two": number(2.0)}, buffers={"v"})
    folded = apply(buffer, fold_buffers)
    assert operators(folded) == ["Mul"]
    (recipe,) = recipes_of(folded).values()
    assert not only_moves(recipe)
    assert_equivalent(buffer, folded)
    assert_recipes_follow(buffer, folded)
    assert operators(apply(buffer, fold_moves)) == ["Sqrt", "Mul", "Mul"]


def test_reshape_there_and_back_is_the_tensor_itself() -> None:
    model = hub(
        "(float[N,4,2,2] x) => (float[N,4] y) { a = Reshape(b, wide) z = Reshape(a, flat)"
        " g = GlobalAveragePool(x) h = Flatten(g) y = Add(h, z) }",
        trained={"b": floats(4)},
        constants={"wide": ints(1, 4, 1, 1), "flat": ints(4)},
    )
    folded = apply(model, fold_moves)
    assert recipes_of(folded) == {"b": Source("b")}
    assert_equivalent(model, folded)


def test_separable_kernel_of_keras_is_one_transpose() -> None:
    model = hub(
        "(float[N,8,9,9] x) => (float[N,8,7,7] y)"
        " { a = Reshape(k, shape) w = Transpose <perm=[3,2,0,1]> (a) y = Conv <group=8> (x, w) }",
        trained={"k": floats(3, 3, 8, 1)},
        constants={"shape": ints(3, 3, 1, 8)},
    )
    folded = apply(model, fold_moves)
    (recipe,) = recipes_of(folded).values()
    assert recipe == Step("transpose", (Source("k"),), (("perm", (2, 3, 0, 1)),))
    assert_recipes_follow(model, folded)


def test_zeros_joined_to_a_bias_are_part_of_the_recipe() -> None:
    model = hub(
        "(float[N,800] x) => (float[N,800] y) { c = Concat <axis=0> (b, zeros) y = Add(x, c) }",
        trained={"b": floats(400)},
        constants={"zeros": number(0.0, 400)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded) == ["Add"]
    assert_recipes_follow(model, folded)


def test_index_that_is_a_buffer_is_not_baked_in() -> None:
    model = hub(
        "(float[N,3] x) => (float[N,3] y) { r = Gather(table, index) y = Add(x, r) }",
        trained={"table": floats(5), "index": ints(4, 0, 2)},
        buffers={"index"},
    )
    folded = apply(model, fold_buffers)
    assert operators(folded) == ["Gather", "Add"]


def test_graph_output_keeps_its_name() -> None:
    model = hub(
        "(float[N] x) => (float[2,3] y, float[N] z) { y = Transpose(w) z = Neg(x) }",
        trained={"w": floats(3, 2)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded) == ["Identity", "Neg"]
    assert_equivalent(model, folded)


def test_joined_tensors_share_a_path() -> None:
    model = hub(
        "(float[N,4] x) => (float[N,6] y) { w = Concat <axis=1> (q, k) y = MatMul(x, w) }",
        trained={"q": floats(4, 3), "k": floats(4, 3, seed=1)},
    )
    for name in ("q", "k"):
        value = model.graph.initializers[name]
        metadata.set_weight_info(
            value, metadata.WeightInfo(f"attention.{name}.weight", "parameter", name == "k")
        )
    folded = apply(model, fold_moves)
    (value,) = (v for v in folded.graph.initializers.values() if metadata.weight_info(v))
    info = metadata.weight_info(value)
    assert info == metadata.WeightInfo("attention.weight", "parameter", True)
    assert_recipes_follow(model, folded)


_MOVES = st.sampled_from(["transpose", "reshape", "unsqueeze", "squeeze", "slice", "gather", "flip", "split"])


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(_MOVES, min_size=1, max_size=5), data=st.data())
def test_recipes_hold_on_other_weights(moves: list[str], data: st.DataObject) -> None:
    """Folding newer weights, and running the recipe on them, give the same tensor."""
    shape = [2, 3, 4]
    lines, constants, value = [], {}, "w"
    for index, move in enumerate(moves):
        result, rank = f"v{index}", len(shape)
        axis = data.draw(st.integers(0, rank - 1)) if rank else 0
        if move == "transpose":
            perm = data.draw(st.permutations(range(rank)))
            lines.append(f"{result} = Transpose <perm={list(perm)}> ({value})")
            shape = [shape[each] for each in perm]
        elif move == "reshape":
            shape = [int(np.prod(shape[: rank // 2], dtype=int)), int(np.prod(shape[rank // 2 :], dtype=int))]
            constants[f"c{index}"] = ints(*shape)
            lines.append(f"{result} = Reshape({value}, c{index})")
        elif move == "unsqueeze":
            constants[f"c{index}"] = ints(axis)
            lines.append(f"{result} = Unsqueeze({value}, c{index})")
            shape.insert(axis, 1)
        elif move == "squeeze" and 1 in shape:
            where = shape.index(1)
            constants[f"c{index}"] = ints(where)
            lines.append(f"{result} = Squeeze({value}, c{index})")
            del shape[where]
        elif move == "slice" and rank:
            stop = data.draw(st.integers(1, shape[axis]))
            constants.update({f"s{index}": ints(0), f"e{index}": ints(stop), f"a{index}": ints(axis - rank)})
            lines.append(f"{result} = Slice({value}, s{index}, e{index}, a{index})")
            shape[axis] = stop
        elif move == "flip" and rank:
            constants.update({f"s{index}": ints(-1), f"e{index}": ints(-(2**62)), f"a{index}": ints(axis)})
            constants[f"t{index}"] = ints(-1)
            lines.append(f"{result} = Slice({value}, s{index}, e{index}, a{index}, t{index})")
        elif move == "gather" and rank:
            picked = data.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
            constants[f"c{index}"] = ints(*picked)
            lines.append(f"{result} = Gather <axis={axis}> ({value}, c{index})")
            shape[axis] = len(picked)
        elif move == "split" and rank and shape[axis] > 1:
            lines.append(f"p{index}, q{index} = Split <axis={axis}, num_outputs=2> ({value})")
            lines.append(f"{result} = Concat <axis={axis}> (q{index}, p{index})")
        else:
            continue
        value = result
    axes = ",".join(map(str, shape))
    text = f"(float[{axes}] x) => (float[{axes}] y) {{ {' '.join(lines)} y = Add(x, {value}) }}"
    old = hub(text, trained={"w": floats(2, 3, 4)}, constants=constants)
    new = hub(text, trained={"w": floats(2, 3, 4, seed=9)}, constants=constants)
    folded, refolded = apply(old, fold_moves), apply(new, fold_moves)
    assert operators(folded) == ["Add"]
    assert_equivalent(old, folded)
    (recipe,) = recipes_of(folded).values()
    (tensor,) = [v.const_value for v in refolded.graph.initializers.values() if metadata.weight_info(v)]
    assert tensor is not None
    np.testing.assert_array_equal(run(recipe, {"w": floats(2, 3, 4, seed=9)}), tensor.numpy())


def test_negative_stride_that_is_no_flip_is_left_alone() -> None:
    model = hub(
        "(float[2] x) => (float[2] y) { a = Slice(w, s, e, a0, t) y = Add(x, a) }",
        trained={"w": floats(5)},
        constants={"s": ints(3), "e": ints(0), "a0": ints(0), "t": ints(-2)},
    )
    folded = apply(model, fold_moves)
    assert operators(folded) == ["Slice", "Add"]


@pytest.mark.parametrize("external", [False, True])
def test_folded_tensor_survives_saving(tmp_path: object, external: bool) -> None:
    model = hub(
        "(float[N,4] x) => (float[N,5] y) { wt = Transpose(w) y = MatMul(x, wt) }",
        trained={"w": floats(5, 4)},
    )
    folded = apply(model, fold_moves)
    path = f"{tmp_path}/m.onnx"
    ir.save(folded, path, external_data="m.data" if external else None, size_threshold_bytes=0)
    again = ir.load(path)
    ir.external_data.load_to_model(again)
    assert_equivalent(model, again)
    assert recipes_of(again) == recipes_of(folded)
