"""What differs between the targets when a module is printed."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bridge.emit.layer import Layer
from bridge.hub.carriers import carrier
from bridge.hub.recipe import Array

Kind = Literal["tensor", "sequence", "optional tensor", "optional sequence"]
"""What a value is: a tensor, a list of tensors, or perhaps None in place of either."""


@dataclass(frozen=True)
class Signature:
    """The interface of the emitted model: names, numpy dtypes, shapes (a string is a dynamic axis).

    The dtypes are those of the source; `carriers` are those of the tensors that the model takes and gives.
    Of a sequence the dtype and shape are those of its elements. Without `kinds` all are tensors.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int | str, ...] | None, ...]
    kinds: tuple[Kind, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The names of those that are no plain tensors: sequences and optionals."""
        pairs = zip(self.names, self.kinds, strict=True) if self.kinds else ()
        return tuple(name for name, kind in pairs if kind != "tensor")

    @property
    def carriers(self) -> tuple[str, ...]:
        """The numpy names of the types that stand for `dtypes` (see `bridge.hub.carriers`)."""
        return tuple(carrier(each) for each in self.dtypes)


class Dialect(Protocol):
    """The spelling of one target framework. Expressions and statements are Python syntax trees."""

    name: str
    """`torch` or `tf`."""
    forward: str
    """The name of the method that computes: `forward` or `call`."""
    tensor_type: str
    """The annotation of a tensor."""
    module_class: str
    root_class: str
    separator: str
    """What joins the components of a tensor's path in the target's own naming."""
    uses_containers: bool
    """Whether list-like modules are containers indexed by number (`self.layers[0]`)."""
    imports: Mapping[str, str]
    """Import statements by the name that they bind, for the names that emitted code may use."""
    reserved: Collection[str]
    """Attribute names that the module class uses itself."""

    def __hash__(self) -> int:
        """A dialect is one object, and what is computed from it may be kept."""

    def parameter_names(self, constructor: str) -> tuple[str, ...]:
        """The names of the constructor's parameters, in order."""

    def parameter_defaults(self, constructor: str) -> Mapping[str, Any]:
        """The constructor's parameters that have a default which is a plain Python value."""

    def typed_constant(self, array: Array) -> ast.expr:
        """A constant of exactly the array's dtype and shape."""

    def transpose(self, tensor: ast.expr, perm: Sequence[int]) -> ast.expr:
        """A tensor with its axes reordered."""

    def reshape(self, tensor: ast.expr, shape: Sequence[int]) -> ast.expr:
        """A tensor in another shape."""

    def parameter(
        self,
        name: str,
        shape: Sequence[ast.expr],
        dtype: str,
        *,
        trainable: bool,
        buffer: bool,
        label: str,
        registered: bool,
    ) -> ast.stmt:
        """The statement that declares a tensor of the module, uninitialised.

        `name` is the attribute, `label` the last component of its path. `registered`: the name cannot be
        written after a dot, so the tensor is registered under it as a string.
        """

    def constant(self, name: str, array: Array) -> ast.stmt:
        """The statement that declares a small constant of the module, which is not saved."""

    def freeze(self, tensor: ast.expr) -> ast.stmt:
        """The statement that keeps a tensor of a layer from being trained."""

    def tensor_path(self, layer: Layer, slot: str) -> str:
        """The path of a layer's tensor below the layer, in the target's own naming."""

    def extra_state(self, layer: Layer) -> Mapping[str, Array]:
        """Tensors of a layer that have no counterpart in the source, with their initial values."""

    def dtype_argument(self, dtype: str) -> Mapping[str, ast.expr]:
        """What a layer's constructor takes to make tensors of a dtype other than float32."""

    def loader(self, root: str) -> list[ast.stmt]:
        """The functions at the end of the module that build it and load its weights."""

    def module_docstring(self, root: str, inputs: Signature, outputs: Signature) -> str:
        """The first lines of the emitted file: what the model takes and gives, and how to load it."""
