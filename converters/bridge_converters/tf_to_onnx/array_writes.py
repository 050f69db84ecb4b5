"""Arrays that a loop fills otherwise than from their first element to their last.

tf2onnx takes the array that a loop writes to for its results, one after the other. Here what is stacked of
other arrays (those filled from their end, from a later element, or not to their end) is written as those
results, put where the loop would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from bridge.errors import UnsupportedOp, UnsupportedOps

_LOOPS = frozenset({"While", "StatelessWhile"})
_SAME = frozenset({"Identity", "Cast"})
_COMPARISONS = frozenset({"Less", "LessEqual", "Greater", "GreaterEqual"})
_INTEGERS = tf.int32
_WHOLE = frozenset({tf.int32.as_datatype_enum, tf.int64.as_datatype_enum})


@dataclass
class _Scope:
    """The nodes of a graph, or of a function (`inside`), where the ports of outputs have names."""

    nodes: Any
    arguments: tuple[str, ...] = ()
    returned: dict[str, str] = field(default_factory=dict)
    inside: bool = False

    def __post_init__(self) -> None:
        self.by_name = {node.name: node for node in self.nodes}

    def source(self, tensor: str, through: frozenset[str] = frozenset({"Identity"})) -> tuple[str, Any]:
        """A tensor and the node that gives it (None for an argument), before what only passes it on."""
        while True:
            node = self.by_name.get(tensor.split(":")[0])
            if node is None or node.op not in through:
                return tensor, node
            tensor = node.input[0]

    def constant(self, tensor: str) -> int | None:
        _, node = self.source(tensor, _SAME)
        if node is None or node.op != "Const":
            return None
        value = tf.make_ndarray(node.attr["value"].tensor)
        return int(value) if value.size == 1 and value.dtype.kind in "iu" else None

    def add(self, op: str, name: str, inputs: Iterable[str], **attributes: Any) -> str:
        """Add a node; gives the name of its first output."""
        unique, number = name, 0
        while unique in self.by_name:
            number += 1
            unique = f"{name}_{number}"
        node = self.nodes.add(name=unique, op=op, input=inputs)
        for key, value in attributes.items():
            if isinstance(value, tf.DType):
                node.attr[key].type = value.as_datatype_enum
            elif isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].tensor.CopyFrom(value)
        self.by_name[unique] = node
        return f"{unique}:{_PORTS[op]}:0" if self.inside else unique

    def number(self, name: str, value: int | list[int]) -> str:
        proto = tf.make_tensor_proto(np.array(value, np.int32))
        return self.add("Const", name, [], dtype=_INTEGERS, value=proto)

    def redirect(self, old: str, new: str, *, apart_from: str) -> None:
        """Let all read another tensor instead of one, but for the nodes whose names start with a text."""
        aliases = {old, old.removesuffix(":0")} if not self.inside else {old}
        for node in self.nodes:
            if node.name.startswith(apart_from):
                continue
            for position, each in enumerate(node.input):
                if each in aliases:
                    node.input[position] = new
        for key, value in self.returned.items():
            if value in aliases:
                self.returned[key] = new


_PORTS = {
    "AddV2": "z", "ConcatV2": "output", "Const": "output", "ExpandDims": "output", "Fill": "output",
    "Maximum": "z", "Mul": "z", "Range": "output", "Reshape": "output", "ReverseV2": "output",
    "Shape": "output", "StridedSlice": "output", "TensorScatterUpdate": "output",
}  # fmt: skip


@dataclass(frozen=True)
class _Write:
    """An item that is written at an index (both tensors) before a loop; `number` is the index if known."""

    index: str
    number: int | None
    item: str


@dataclass(frozen=True)
class _Counter:
    """A number that starts with `first` (a tensor) plus `offset` and changes by `step` with each turn."""

    first: str
    offset: int
    step: int


def place_array_writes(graph: tf.compat.v1.GraphDef) -> None:
    """Say where the loops of a graph and its functions write, for arrays that are not filled in order.

    Raises UnsupportedOps for a loop that writes at positions which cannot be told before it runs.
    """
    functions = {each.signature.name: each for each in graph.library.function}
    scopes = [_Scope(graph.node), *(_function_scope(each) for each in functions.values())]
    for scope in scopes:
        for node in [each for each in scope.nodes if each.op in _LOOPS]:
            loop = _Loop(node, scope, functions)
            for position in range(2, len(node.attr["T"].list.type)):
                if node.attr["T"].list.type[position] == tf.variant.as_datatype_enum:
                    loop.place(position)
    for function, scope in zip(functions.values(), scopes[1:], strict=True):
        for key, value in scope.returned.items():
            function.ret[key] = value


def _function_scope(function: Any) -> _Scope:
    return _Scope(
        function.node_def,
        tuple(each.name for each in function.signature.input_arg),
        dict(function.ret),
        inside=True,
    )


class _Loop:
    """A loop of a graph, with what its condition and its body are."""

    def __init__(self, node: Any, scope: _Scope, functions: dict[str, Any]) -> None:
        self._node, self._scope = node, scope
        self._given = [each for each in node.input if not each.startswith("^")]
        self._body_function = functions[node.attr["body"].func.name]
        self._condition_function = functions[node.attr["cond"].func.name]
        self._body = _function_scope(self._body_function)
        self._condition = _function_scope(self._condition_function)
        self._results = [self._body.returned[each.name] for each in self._body_function.signature.output_arg]

    def place(self, position: int) -> None:
        """Put what is stacked of the array at a position of the loop's variables where it was written."""
        first, writes = self._root(position)
        if first is None:
            return
        _, write = self._body.source(self._results[position])
        if write is None or write.op != "TensorListSetItem":
            return
        held, _ = self._body.source(write.input[0])
        if held != self._body.arguments[position]:
            return
        readers = [each for each in self._body.nodes if held in each.input and each.op != "Identity"]
        if len(readers) == 1 and not writes and self._keeps_last(write.input[1], first.input[1]):
            self._place_last(position)
            return
        counter = None if len(readers) > 1 else self._counter(write.input[1])
        if counter is None:
            raise UnsupportedOps(
                [
                    UnsupportedOp(
                        "TensorListSetItem",
                        "tensorflow",
                        "a loop writes to an array at positions that depend on data, or reads what it wrote",
                        1,
                        (self._node.name,),
                    )
                ],
                target="the ONNX hub",
                hint="write to the array at the number of the step, and carry what is read again in a tensor",
            )
        start = self._scope.constant(counter.first)
        begins = None if start is None else start + counter.offset
        grows = write.attr["resize_if_index_out_of_bounds"].b
        in_order = counter.step == 1 and begins == 0 and not writes
        if in_order and (grows or not self._may_stop(first.input[1])):
            return
        for stack in self._stacks(position):
            steps = f"{stack.name}:tensor:0" if self._scope.inside else f"{stack.name}:0"
            dtype = tf.dtypes.as_dtype(stack.attr["element_dtype"].type)
            if self._is_backwards(counter, first.input[1]) and not writes:
                axis = self._scope.number(f"{stack.name}/axis", [0])
                placed = self._scope.add(
                    "ReverseV2", f"{stack.name}/reversed", [steps, axis], T=dtype, Tidx=_INTEGERS
                )
            elif (
                counter.step == 1
                and (grows or self._fills(first.input[1]))
                and begins == len(writes)
                and [each.number for each in writes] == list(range(len(writes)))
            ):
                placed = self._after_first(stack.name, steps, [each.item for each in writes], dtype)
            else:
                placed = self._scattered(stack.name, steps, counter, first.input[1], writes, grows, dtype)
            self._scope.redirect(steps, placed, apart_from=f"{stack.name}/")
        at = [index for index, each in enumerate(self._node.input) if not each.startswith("^")][position]
        self._node.input[at] = f"{first.name}:handle:0" if self._scope.inside else first.name

    def _root(self, position: int) -> tuple[Any, list[_Write]]:
        """The node that reserves the array, and what was written to it before the loop, in order."""
        writes: list[_Write] = []
        _, node = self._scope.source(self._given[position])
        while node is not None and node.op == "TensorListSetItem":
            writes.insert(0, _Write(node.input[1], self._scope.constant(node.input[1]), node.input[2]))
            _, node = self._scope.source(node.input[0])
        return (node, writes) if node is not None and node.op == "TensorListReserve" else (None, [])

    def _stacks(self, position: int) -> Iterator[Any]:
        """The nodes that stack the array after the loop. Raises UnsupportedOps where it is read otherwise."""
        pending, found = [self._node.name], []
        names = (
            {f"{self._node.name}:output:{position}"}
            if self._scope.inside
            else {f"{self._node.name}:{position}"}
        )
        while pending:
            pending.pop()
            for node in list(self._scope.nodes):
                if not names & set(node.input) or node in found:
                    continue
                if node.op == "Identity":
                    names |= {node.name, f"{node.name}:0", f"{node.name}:output:0"}
                    pending.append(node.name)
                elif node.op == "TensorListStack":
                    found.append(node)
                elif node.op != "TensorListLength":
                    raise UnsupportedOps(
                        [
                            UnsupportedOp(
                                node.op,
                                "tensorflow",
                                "it reads an array that a loop filled otherwise than in order",
                                1,
                                (node.name,),
                            )
                        ],
                        target="the ONNX hub",
                        hint="stack() the array and read the tensor",
                    )
        yield from found

    def _counter(self, index: str) -> _Counter | None:
        """How an index of the body changes from turn to turn, None if that is not known."""
        argument, offset = self._shifted(index)
        if argument not in self._body.arguments:
            return None
        position = self._body.arguments.index(argument)
        again, step = self._shifted(self._results[position])
        return _Counter(self._given[position], offset, step) if again == argument and step else None

    def _shifted(self, tensor: str) -> tuple[str, int]:
        """A number in the body as another one and what is added to it."""
        offset = 0
        while True:
            tensor, node = self._body.source(tensor, _SAME)
            if node is None or node.op not in ("Add", "AddV2", "Sub"):
                return tensor, offset
            left, right = node.input[:2]
            added = self._fixed(right)
            if added is None and node.op != "Sub":
                (left, right), added = (right, left), self._fixed(left)
            if added is None:
                return tensor, offset
            tensor, offset = left, offset + (-added if node.op == "Sub" else added)

    def _fixed(self, tensor: str) -> int | None:
        """A constant of the body, or one from outside that the loop passes on."""
        found, node = self._body.source(tensor, _SAME)
        if node is not None:
            return self._body.constant(found)
        position = self._body.arguments.index(found)
        same, _ = self._body.source(self._results[position])
        return self._scope.constant(self._given[position]) if same == found else None

    def _limits(self) -> list[tuple[str, str]] | None:
        """The comparisons of integers that must hold for another turn, None if anything else must."""
        pending = [next(iter(self._condition.returned.values()))]
        found = []
        while pending:
            _, node = self._condition.source(pending.pop())
            if node is not None and node.op == "LogicalAnd":
                pending.extend(node.input[:2])
            elif node is not None and node.op in _COMPARISONS and node.attr["T"].type in _WHOLE:
                limit, _ = self._condition.source(node.input[1], _SAME)
                if limit in self._condition.arguments:
                    limit = self._given[self._condition.arguments.index(limit)]
                    limit, _ = self._scope.source(limit, _SAME)
                else:
                    limit = f"constant {self._condition.constant(limit)}"
                found.append((node.op, limit))
            elif node is None or node.op != "Const":
                return None
        return found

    def _may_stop(self, size: str) -> bool:
        """Whether the loop may end before an array of a size is full, as far as that can be seen."""
        most = self._scope.constant(self._given[1])
        limited = most is not None and most >= 0 and self._scope.constant(size) != most
        return limited or self._limits() is None

    def _fills(self, size: str) -> bool:
        """Whether the loop ends no earlier than a counter reaches the size of an array."""
        size, _ = self._scope.source(size, _SAME)
        limits = self._limits()
        return bool(limits) and set(limits or ()) == {("Less", size)}

    def _is_backwards(self, counter: _Counter, size: str) -> bool:
        """Whether the counter goes from the last position of an array to 0."""
        _, last = self._scope.source(counter.first, _SAME)
        size, _ = self._scope.source(size, _SAME)
        if counter.step != -1 or last is None or last.op != "Sub":
            return False
        from_end = self._scope.source(last.input[0], _SAME)[0] == size
        ends = {("GreaterEqual", "constant 0"), ("Greater", "constant -1"), ("Less", size)}
        limits = self._limits()
        return (
            from_end
            and counter.offset == 0
            and self._scope.constant(last.input[1]) == 1
            and limits is not None
            and set(limits) <= ends
            and any(operator != "Less" for operator, _ in limits)
        )

    def _keeps_last(self, index: str, size: str) -> bool:
        """Whether every turn writes to the only item of an array, as Keras does for its last output."""
        return self._fixed(index) == 0 and self._scope.constant(size) == 1

    def _place_last(self, position: int) -> None:
        """Take the last result of the loop where an array is stacked that holds nothing else."""
        scope = self._scope
        for stack in self._stacks(position):
            steps = f"{stack.name}:tensor:0" if scope.inside else f"{stack.name}:0"
            dtype = tf.dtypes.as_dtype(stack.attr["element_dtype"].type)
            bounds = [scope.number(f"{stack.name}/bound", [each]) for each in (-1, 0, 1)]
            last = scope.add(
                "StridedSlice", f"{stack.name}/last", [steps, *bounds], T=dtype, Index=_INTEGERS,
                begin_mask=0, ellipsis_mask=0, new_axis_mask=0, end_mask=1, shrink_axis_mask=0,
            )  # fmt: skip
            scope.redirect(steps, last, apart_from=f"{stack.name}/")

    def _after_first(self, name: str, steps: str, written: list[str], dtype: tf.DType) -> str:
        """What was written before the loop, then the loop's results."""
        scope = self._scope
        axis = scope.number(f"{name}/axis", 0)
        steps = self._like(name, steps, written[0], dtype) if written else steps
        rows = [
            scope.add("ExpandDims", f"{name}/row", [each, axis], T=dtype, Tdim=_INTEGERS) for each in written
        ]
        return scope.add(
            "ConcatV2", f"{name}/all", [*rows, steps, axis], N=len(rows) + 1, T=dtype, Tidx=_INTEGERS
        )

    def _like(self, name: str, steps: str, item: str, dtype: tf.DType) -> str:
        """The loop's results, each shaped like an item: of no results at all, the sizes are not known."""
        scope = self._scope
        sizes = scope.add("Shape", f"{name}/sizes", [item], T=dtype, out_type=_INTEGERS)
        found = scope.add("Shape", f"{name}/found", [steps], T=dtype, out_type=_INTEGERS)
        bounds = [scope.number(f"{name}/bound", [each]) for each in (0, 1, 1)]
        count = scope.add(
            "StridedSlice", f"{name}/count", [found, *bounds], T=_INTEGERS, Index=_INTEGERS,
            begin_mask=0, ellipsis_mask=0, new_axis_mask=0, end_mask=0, shrink_axis_mask=0,
        )  # fmt: skip
        axis = scope.number(f"{name}/axis", 0)
        whole = scope.add("ConcatV2", f"{name}/whole", [count, sizes, axis], N=2, T=_INTEGERS, Tidx=_INTEGERS)
        return scope.add("Reshape", f"{name}/like", [steps, whole], T=dtype, Tshape=_INTEGERS)

    def _scattered(
        self,
        name: str,
        steps: str,
        counter: _Counter,
        size: str,
        writes: list[_Write],
        grows: bool,
        dtype: tf.DType,
    ) -> str:
        """Zeros, with the loop's results and what was written before it at their positions."""
        scope = self._scope

        def integers(op: str, *inputs: str) -> str:
            return scope.add(op, f"{name}/{op.lower()}", inputs, T=_INTEGERS)

        def piece(first: int, last: int, *, shrink: bool) -> str:
            bounds = [scope.number(f"{name}/bound", [each]) for each in (first, last, 1)]
            return scope.add(
                "StridedSlice", f"{name}/sizes", [shape, *bounds], T=_INTEGERS, Index=_INTEGERS,
                begin_mask=0, ellipsis_mask=0, new_axis_mask=0,
                end_mask=0 if last else 1, shrink_axis_mask=int(shrink),
            )  # fmt: skip

        def rows(indices: str) -> str:
            last = scope.number(f"{name}/last", -1)
            return scope.add("ExpandDims", f"{name}/rows", [indices, last], T=_INTEGERS, Tdim=_INTEGERS)

        if writes:
            steps = self._like(name, steps, writes[0].item, dtype)
        shape = scope.add("Shape", f"{name}/shape", [steps], T=dtype, out_type=_INTEGERS)
        count = piece(0, 1, shrink=True)
        zero, one = scope.number(f"{name}/zero", 0), scope.number(f"{name}/one", 1)
        turns = scope.add("Range", f"{name}/range", [zero, count, one], Tidx=_INTEGERS)
        begin = integers("AddV2", counter.first, scope.number(f"{name}/offset", counter.offset))
        indices = integers("AddV2", begin, integers("Mul", turns, scope.number(f"{name}/step", counter.step)))
        if grows:
            for write in writes:
                size = integers("Maximum", size, integers("AddV2", write.index, one))
            end = integers("AddV2", begin, count) if counter.step > 0 else integers("AddV2", begin, one)
            size = integers("Maximum", size, end)
        axis = scope.number(f"{name}/axis", 0)
        length = scope.add("ExpandDims", f"{name}/length", [size, axis], T=_INTEGERS, Tdim=_INTEGERS)
        whole = scope.add(
            "ConcatV2", f"{name}/whole", [length, piece(1, 0, shrink=False), axis],
            N=2, T=_INTEGERS, Tidx=_INTEGERS,
        )  # fmt: skip
        nothing = tf.make_tensor_proto(np.zeros((), dtype.as_numpy_dtype))
        empty = scope.add("Const", f"{name}/nothing", [], dtype=dtype, value=nothing)
        placed = scope.add("Fill", f"{name}/zeros", [whole, empty], T=dtype, index_type=_INTEGERS)
        for write in writes:
            item = scope.add("ExpandDims", f"{name}/item", [write.item, axis], T=dtype, Tdim=_INTEGERS)
            at = rows(
                scope.add("ExpandDims", f"{name}/index", [write.index, axis], T=_INTEGERS, Tdim=_INTEGERS)
            )
            placed = scope.add(
                "TensorScatterUpdate", f"{name}/placed", [placed, at, item], T=dtype, Tindices=_INTEGERS
            )
        return scope.add(
            "TensorScatterUpdate", f"{name}/placed", [placed, rows(indices), steps],
            T=dtype, Tindices=_INTEGERS,
        )  # fmt: skip
