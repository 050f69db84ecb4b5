"""Branches and loops: bodies are functions, run by Python, or by PyTorch's own operators where traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bridge_converters._control import loop_refusal
from bridge_converters.onnx_to_torch._table import lowering

Body = Callable[..., Any]
Shape = tuple[int | str | None, ...]


@lowering("If")
def if_(cond: Tensor, *, then_branch: Body, else_branch: Body, outputs: int) -> Any:
    """What the branch gives that the condition chooses."""
    return choose(cond, then_branch, else_branch)


def choose(condition: Tensor, then_branch: Callable[..., Any], else_branch: Callable[..., Any]) -> Any:
    """What one of two functions gives; while PyTorch traces, both become part of the graph."""
    if torch.compiler.is_compiling():
        return torch.cond(condition.reshape(()), lambda: copied(then_branch()), lambda: copied(else_branch()))
    return then_branch() if condition else else_branch()


def copied(results: Any) -> Any:
    """Results of which none is a tensor from outside, as PyTorch wants them of a branch that it traces."""
    return tuple(each.clone() for each in results) if isinstance(results, tuple) else results.clone()


@lowering("Loop", const=("M", "cond"), supports=loop_refusal)
def loop(
    M: int | Tensor | None = None,
    cond: bool | Tensor | None = None,
    *v_initial: Any,
    body: Body,
    outputs: int,
    input_types: tuple[str, ...],
    output_types: tuple[str, ...],
    output_shapes: tuple[Shape | None, ...],
) -> Any:
    """The last values of what the body carries from step to step, then its other results stacked."""
    slices = stacked_slices(len(input_types) - 2, output_types, output_shapes)
    if cond is None and M is not None:
        results = counted_loop(body, M, v_initial, slices)
    else:
        results = conditional_loop(body, M, cond, v_initial, slices)
    return results[0] if outputs == 1 else results


def stacked_slices(
    carried: int, types: tuple[str, ...], shapes: tuple[tuple[int | str | None, ...] | None, ...]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The dtype of each stacked output of a loop and the shape of its slices, for when there are none.

    Sizes that are not known are 0 then, as onnxruntime has them.
    """
    names = {"FLOAT": "float32", "DOUBLE": "float64"}
    found = []
    for type_, shape in zip(types[max(carried, 0) :], shapes[max(carried, 0) :], strict=True):
        sizes = tuple(size if isinstance(size, int) else 0 for size in (shape or ())[1:])
        found.append((names.get(type_, type_.lower()), sizes))
    return tuple(found)


def counted_loop(
    body: Callable[..., Any],
    trip_count: int | Tensor,
    carried: tuple[Any, ...],
    slices: tuple[tuple[str, tuple[int, ...]], ...] = (),
) -> tuple[Any, ...]:
    """Run `body(step, condition, *carried)` a number of times.

    It gives a condition, the next carried, and slices. This gives the last carried and the stacked slices,
    of which `slices` has the dtypes and shapes.
    """
    if torch.compiler.is_compiling() and isinstance(trip_count, Tensor):
        return traced_loop(body, trip_count, None, carried, slices)
    stacks: list[list[Tensor]] = [[] for _ in slices]
    for step in range(int(trip_count)):
        _, *results = body(*step_inputs(step), *carried)
        carried = tuple(results[: len(carried)])
        for stack, result in zip(stacks, results[len(carried) :], strict=True):
            stack.append(result)
    return (*carried, *stacked(stacks, slices))


def conditional_loop(
    body: Callable[..., Any],
    limit: int | Tensor | None,
    condition: bool | Tensor | None,
    carried: tuple[Any, ...],
    slices: tuple[tuple[str, tuple[int, ...]], ...] = (),
) -> tuple[Any, ...]:
    """Run `body(step, condition, *carried)` while it asks for it, at most `limit` times.

    It gives a condition, the next carried, and slices. This gives the last carried and the stacked slices,
    of which `slices` has the dtypes and shapes.
    """
    if torch.compiler.is_compiling():
        return traced_loop(body, limit, condition, carried, slices)
    stacks: list[list[Tensor]] = [[] for _ in slices]
    step = 0
    while condition and (limit is None or step < limit):
        condition, *results = body(*step_inputs(step), *carried)
        carried = tuple(results[: len(carried)])
        for stack, result in zip(stacks, results[len(carried) :], strict=True):
            stack.append(result)
        step += 1
    return (*carried, *stacked(stacks, slices))


def step_inputs(step: int) -> tuple[Tensor, Tensor]:
    """What a body is told in every step: its number, and that it was asked for."""
    return torch.tensor(step, dtype=torch.int64), torch.tensor(True, dtype=torch.bool)


def stacked(stacks: list[list[Tensor]], slices: tuple[tuple[str, tuple[int, ...]], ...]) -> list[Tensor]:
    """The slices of every output as one tensor, which may have none."""
    return [
        torch.stack(stack) if stack else torch.empty((0, *shape), dtype=getattr(torch, dtype))
        for stack, (dtype, shape) in zip(stacks, slices, strict=True)
    ]


def traced_loop(
    body: Callable[..., Any],
    limit: int | Tensor | None,
    condition: bool | Tensor | None,
    carried: tuple[Any, ...],
    slices: tuple[tuple[str, tuple[int, ...]], ...],
) -> tuple[Any, ...]:
    """A loop whose number of steps is not known while PyTorch traces, as an operator of the traced graph."""
    going = torch.as_tensor(True if condition is None else condition).reshape(()).clone()
    if isinstance(limit, Tensor):
        limit = limit.reshape(())
    count = len(carried)
    stacks = empty_stacks(body, limit, going, carried) if slices else []

    def unfinished(step: Tensor, going: Tensor, *values: Tensor) -> Tensor:
        return going.clone() if limit is None else torch.logical_and(going, step < limit)

    def advance(step: Tensor, going: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        again, *results = body(step, going, *values[:count])
        going = going & (again.reshape(()) if isinstance(again, Tensor) else again)
        filled = [
            stack.index_copy(0, step[None], slice_[None])
            for stack, slice_ in zip(values[count:], results[count:], strict=True)
        ]
        return step + 1, going, *map(packed, results[:count]), *filled

    first = (torch.tensor(0), going, *map(packed, carried), *stacks)
    steps, _, *results = torch.while_loop(unfinished, advance, first)  # type: ignore[no-untyped-call]
    if slices and condition is not None:
        done = steps.item()
        torch._check(done >= 0)  # type: ignore[no-untyped-call]
        torch._check(done <= stacks[0].shape[0])  # type: ignore[no-untyped-call]
        results[count:] = [each.narrow(0, 0, done) for each in results[count:]]
    return tuple(results)


def packed(value: Tensor) -> Tensor:
    """A copy of a tensor in the order of its axes, as PyTorch wants all that a traced loop carries."""
    return value.clone(memory_format=torch.contiguous_format)


def empty_stacks(
    body: Callable[..., Any], limit: int | Tensor | None, going: Tensor, carried: tuple[Any, ...]
) -> list[Tensor]:
    """Zeros for what a traced loop stacks in at most so many steps; a first step tells the shapes."""
    if limit is None:
        raise NotImplementedError("a loop that stacks results and has no largest number of steps")
    steps = limit.item() if isinstance(limit, Tensor) else limit
    torch._check(steps >= 0)  # type: ignore[no-untyped-call]
    _, *results = body(torch.tensor(0), going, *carried)
    return [each.new_zeros((steps, *each.shape)) for each in results[len(carried) :]]


@lowering("Scan", since=9)
def scan(
    *initial_state_and_scan_inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: tuple[int, ...] | None = None,
    scan_input_directions: tuple[int, ...] | None = None,
    scan_output_axes: tuple[int, ...] | None = None,
    scan_output_directions: tuple[int, ...] | None = None,
    outputs: int,
) -> Any:
    """The last states, then the stacked results, of a body that is run along an axis of each scan input."""
    results = scan_along(
        body,
        initial_state_and_scan_inputs,
        num_scan_inputs,
        input_axes=scan_input_axes,
        input_directions=scan_input_directions,
        output_axes=scan_output_axes,
        output_directions=scan_output_directions,
    )
    return results[0] if outputs == 1 else results


def scan_along(
    body: Callable[..., Any],
    values: tuple[Tensor, ...],
    num_scanned: int,
    *,
    input_axes: tuple[int, ...] | None = None,
    input_directions: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
    output_directions: tuple[int, ...] | None = None,
) -> tuple[Tensor, ...]:
    """Run `body(*states, *slices)` over the slices of the last values; it gives the next states and slices.

    Gives the last states and the stacked slices. Directions of 1 go backwards.
    """
    states, scanned = values[:-num_scanned], list(values[-num_scanned:])
    count = len(states)
    for index, axis in enumerate(input_axes or (0,) * num_scanned):
        scanned[index] = scanned[index].movedim(axis, 0)
    for index, direction in enumerate(input_directions or (0,) * num_scanned):
        scanned[index] = scanned[index].flip(0) if direction else scanned[index]
    length = scanned[0].shape[0]
    steps = []
    for slices in zip(*(each.unbind() for each in scanned), strict=True):
        results = body(*states, *slices)
        steps.append(results if isinstance(results, tuple) else (results,))
        states = steps[-1][:count]
    if length == 0:
        results = body(*states, *(each.new_zeros(each.shape[1:]) for each in scanned))
        steps.append(results if isinstance(results, tuple) else (results,))
    stacks = []
    for index in range(len(steps[0]) - count):
        axis = output_axes[index] if output_axes is not None else 0
        stack = [each[count + index] for each in steps]
        if output_directions is not None and output_directions[index]:
            stack = stack[::-1]
        stacks.append(torch.stack(stack, axis).narrow(axis, 0, length))
    return (*states, *stacks)
