"""Moving constants: in place where they have one user's order, by a recipe where they are trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata, recipe
from bridge.hub.recipe import Array
from bridge.passes.layout.storage import Move, Storage, moves, plain

Moves = tuple[Move, ...]


def operand_moves(shape: tuple[int, ...], storage: Storage, *, keep_rank: bool) -> Moves:
    """The moves that bring a constant into the trailing axes of a storage.

    A constant of lower rank broadcasts: its missing axes count as 1, and leading axes of size 1 are
    dropped again unless `keep_rank`.
    """
    rank = len(storage.order)
    if math.prod(shape) == 1 and not keep_rank:
        return ()
    dims = (1,) * (rank - len(shape)) + shape
    steps = moves(dims, plain(rank), storage)
    assert steps is not None
    wanted = tuple(dims[axis] for axis in storage.order)
    if len(shape) < rank and not keep_rank:
        wanted = wanted[next((index for index, size in enumerate(wanted) if size != 1), rank - 1) :]
    if all(step.op == "reshape" for step in steps):
        return () if wanted == shape else (Move("reshape", wanted),)
    lead = (Move("reshape", dims),) if dims != shape else ()
    result = (*lead, *steps)
    return result if shape_after(shape, result) == wanted else (*result, Move("reshape", wanted))


def shape_after(shape: tuple[int, ...], steps: Iterable[Move]) -> tuple[int, ...]:
    """The shape of a constant after moves, which have no -1 or 0 for constants."""
    for step in steps:
        if step.op == "transpose":
            shape = tuple(shape[axis] for axis in step.argument)
        elif step.op == "reshape":
            shape = step.argument
    return shape


def merged(steps: Sequence[Move]) -> Moves:
    """The same moves with adjacent transposes composed and identities dropped."""
    result: list[Move] = []
    for step in steps:
        if step.op == "transpose" and result and result[-1].op == "transpose":
            inner = result.pop().argument
            step = Move("transpose", tuple(inner[axis] for axis in step.argument))
        if step.op != "transpose" or step.argument != tuple(range(len(step.argument))):
            result.append(step)
    return tuple(result)


def apply(array: Array, steps: Iterable[Move]) -> Array:
    """Perform moves on an array; the result is contiguous."""
    for op, argument in steps:
        if op == "transpose":
            array = array.transpose(argument)
        elif op == "reshape":
            array = array.reshape(argument)
        else:
            array = array.take(np.asarray(argument[1:], dtype=np.int64), axis=argument[0])
    return np.ascontiguousarray(array).reshape(array.shape)


def move_value(value: ir.Value, tensor: ir.TensorProtocol, steps: Sequence[Move]) -> None:
    """Give an initializer the moved numbers of a tensor, with shape, recipe and permutation."""
    array = apply(tensor.numpy(), steps)
    value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)
    value.shape = ir.Shape(array.shape)
    value.dtype = tensor.dtype
    record = metadata.recipe_record(value)
    if record is not None:
        expression = recipe.from_json(record)
        for op, argument in steps:
            if op == "take":
                expression = recipe.step(op, expression, axis=argument[0], indices=argument[1:])
            else:
                expression = recipe.step(
                    op, expression, **{"perm" if op == "transpose" else "shape": argument}
                )
        metadata.set_recipe_record(value, recipe.to_json(expression))
    if [step.op for step in steps] == ["transpose"]:
        metadata.set_permutation(value, steps[0].argument)
