"""Choices among several branches, as choices between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

_CHOICES = {"Case": "If", "StatelessCase": "StatelessIf"}


def split_cases(graph: tf.compat.v1.GraphDef) -> None:
    """Write every `Case` of a graph and of its functions as an `If` whose else branch chooses among the rest.

    The last branch of a `Case` is also taken for every index out of range, as an else branch is.
    """
    library = graph.library
    names = {each.signature.name for each in library.function}
    while True:
        scopes = [(graph.node, False), *((each.node_def, True) for each in library.function)]
        cases = [(node, *scope) for scope in scopes for node in scope[0] if node.op in _CHOICES]
        if not cases:
            return
        for node, nodes, inside in cases:
            _Case(node, library, names).replace(nodes, inside=inside)


@dataclass
class _Case:
    """A node that chooses; `library` receives the functions that are made, `names` are those in use."""

    node: Any
    library: Any
    names: set[str]

    def replace(self, nodes: Any, *, inside: bool) -> None:
        """Let the node choose between its first branch and a function of the rest."""
        index, *given = (each for each in self.node.input if not each.startswith("^"))
        if len(self._branches) == 1:
            made = self._call(given)
        else:
            made = self._choice(0, index, given, nodes, {each.name for each in nodes}, inside=inside)
        made.name = self.node.name
        made.input.extend(each for each in self.node.input if each.startswith("^"))
        self.node.CopyFrom(made)

    @property
    def _branches(self) -> list[str]:
        return [each.name for each in self.node.attr["branches"].list.func]

    def _call(self, given: Sequence[str]) -> Any:
        """A node that calls the only branch."""
        stateful = self.node.op == "Case"
        made = tf.compat.v1.NodeDef(op="StatefulPartitionedCall" if stateful else "PartitionedCall")
        made.input.extend(given)
        made.attr["f"].func.name = self._branches[0]
        for name in ("Tin", "Tout"):
            made.attr[name].CopyFrom(self.node.attr[name])
        return made

    def _choice(
        self, number: int, index: str, given: Sequence[str], nodes: Any, taken: set[str], *, inside: bool
    ) -> Any:
        """A node that chooses the branch of a number, or among the later ones; what it reads is added."""
        branches = self._branches
        last = number >= len(branches) - 2
        types = list(self.node.attr["Tin"].list.type)
        made = tf.compat.v1.NodeDef(name=_free("choice", taken), op=_CHOICES[self.node.op])
        made.input.append(_test(nodes, index, number, f"{self.node.name}/", taken, inside=inside))
        made.input.extend(given if last else [index, *given])
        made.attr["Tcond"].type = tf.bool.as_datatype_enum
        made.attr["Tin"].list.type.extend(types if last else [tf.int32.as_datatype_enum, *types])
        made.attr["Tout"].CopyFrom(self.node.attr["Tout"])
        made.attr["output_shapes"].CopyFrom(self.node.attr["output_shapes"])
        made.attr["then_branch"].func.name = self._branch(number, with_index=not last)
        made.attr["else_branch"].func.name = (
            self._branch(number + 1, with_index=False) if last else self._rest(number + 1)
        )
        return made

    def _branch(self, number: int, *, with_index: bool) -> str:
        """A function of its own for a branch.

        It is given the index as well where the others are: both branches of an If get the same.
        """
        branch = self._branches[number]
        made = self.library.function.add()
        made.CopyFrom(self._function(branch))
        made.signature.name = _free(f"{branch}_{number}", self.names)
        if not with_index:
            return str(made.signature.name)
        given = list(made.signature.input_arg)
        del made.signature.input_arg[:]
        taken = {each.name for each in (*given, *made.node_def)}
        made.signature.input_arg.add(name=_free("index", taken), type=tf.int32.as_datatype_enum)
        made.signature.input_arg.extend(given)
        made.arg_attr.clear()
        return str(made.signature.name)

    def _rest(self, number: int) -> str:
        """A function of the index and what all branches are given, which chooses from a number on."""
        model = self._function(self._branches[number]).signature
        made = self.library.function.add()
        made.signature.name = _free(f"{model.name}_or_later", self.names)
        given = [each.name for each in model.input_arg]
        taken = set(given)
        index = _free("index", taken)
        made.signature.input_arg.add(name=index, type=tf.int32.as_datatype_enum)
        made.signature.input_arg.extend(model.input_arg)
        made.signature.output_arg.extend(model.output_arg)
        choice = self._choice(number, index, given, made.node_def, taken, inside=True)
        made.node_def.append(choice)
        for position, each in enumerate(model.output_arg):
            made.ret[each.name] = f"{choice.name}:output:{position}"
        return str(made.signature.name)

    def _function(self, name: str) -> Any:
        return next(each for each in self.library.function if each.signature.name == name)


def _test(nodes: Any, index: str, number: int, scope: str, taken: set[str], *, inside: bool) -> str:
    """Add a comparison of an index with a number; gives what its result is called."""
    constant, test = _free(f"{scope}number", taken), _free(f"{scope}is_number", taken)
    made = nodes.add(name=constant, op="Const")
    made.attr["dtype"].type = tf.int32.as_datatype_enum
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array(number, np.int32)))
    made = nodes.add(name=test, op="Equal", input=[index, f"{constant}:output:0" if inside else constant])
    made.attr["T"].type = tf.int32.as_datatype_enum
    return f"{test}:z:0" if inside else test


def _free(base: str, taken: set[str]) -> str:
    """The name, or one like it, that is not taken; it is from now on."""
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name
