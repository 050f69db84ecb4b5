"""Layer rules: recognising a node with trained weights as a native layer of the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.recipe import Array

LayerRule = Callable[["NodeView"], "Layer | None"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a native layer: a hub initializer and the moves that bring it into the layer's form.

    `moves` are recipe operations in order, `(("transpose", {"perm": (2, 3, 1, 0)}),)`. `note` says why
    the recipe is lossy (the two frameworks treat the tensor differently in training), if it is.
    """

    value: ir.Value
    moves: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Inner:
    """A layer that another one wraps, as the argument of its constructor: `Bidirectional(LSTM(16))`."""

    constructor: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Layer:
    """A native layer to emit for a node.

    `constructor` is the dotted name in the emitted module (`nn.Conv2d`, `keras.layers.Conv2D`); `args`
    and `kwargs` are Python literals (numbers, strings, booleans, None, tuples) or `Inner` layers; kwargs
    equal to the constructor's defaults are left out by the rule. `tensors` maps the layer's own variable
    names (`weight`, `kernel`, `moving_mean`; `cell.kernel` for one of a layer inside) to their tensors.
    `inputs` are the indices of the node's inputs that the call takes, in a tuple of their own where it takes
    several as one; those that are left out are not passed. `results` are the indices of the node's outputs
    in the form in which the call returns them, None for the outputs one after the other. `build_shape` is
    the input shape for Keras' `build`, with None for free axes. `label` is given where the layer stands for
    the module of its tensors whatever they are called there: its name below that module if that is no single
    layer. `source` is a class of the converters, called as `constructor` says, where the target has no such
    layer: its text is copied into the emitted module.
    `keywords` are the indices of the inputs that the call takes by name, `call_options` Python literals that
    it takes by name. `further_build_shapes` are the shapes of the further inputs where `build` takes several.
    """

    constructor: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    inputs: tuple[int | tuple[int, ...], ...] = (0,)
    build_shape: tuple[int | None, ...] | None = None
    results: tuple[int | tuple[int, ...], ...] | None = None
    label: str | None = None
    source: type | None = None
    keywords: Mapping[str, int] = field(default_factory=dict)
    call_options: Mapping[str, Any] = field(default_factory=dict)
    further_build_shapes: tuple[tuple[int | None, ...], ...] = ()

    def passed(self, node: ir.Node) -> list[ir.Value | list[ir.Value]]:
        """The values that the call takes, lists for what it takes as one."""
        given: list[ir.Value | list[ir.Value]] = []
        for index in self.inputs:
            group = [index] if isinstance(index, int) else index
            values = [value for i in group if i < len(node.inputs) and (value := node.inputs[i]) is not None]
            if values:
                given.append(values[0] if isinstance(index, int) else values)
        return given


class NodeView:
    """A node as layer rules see it: attributes with their defaults, inputs, known constants, shapes."""

    def __init__(
        self,
        node: ir.Node,
        *,
        defaults: Mapping[str, Any] | None = None,
        trains_as: Literal["torch", "tf"] | None = None,
    ) -> None:
        self.node = node
        self.trains_as = trains_as
        """The framework whose rules of training the layer has to keep exactly; None for the target's own."""
        self._defaults = dict(defaults or {})

    @property
    def op_type(self) -> str:
        return self.node.op_type

    @property
    def layout(self) -> metadata.Layout:
        """The layout the node computes in."""
        return metadata.layout_of(self.node)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value (lists as tuples), or the schema's default, or `default`.

        ONNX stores numbers as float32; they come back as the shortest decimal that means the same (1e-05).
        """
        attribute = self.node.attributes.get(name)
        value = self._defaults.get(name, default) if attribute is None else attribute.value
        if isinstance(value, list | tuple):
            return tuple(_plain(each) for each in value)
        return _plain(value)

    def input(self, index: int) -> ir.Value | None:
        """The input at an index; None if it is absent or left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def constant(self, index: int) -> Array | None:
        """The values of an input that is an initializer or Constant; None if it is absent or computed."""
        value = self.input(index)
        if value is None or value.const_value is None:
            return None
        return value.const_value.numpy()

    def is_trained(self, index: int) -> bool:
        """Whether an input is an initializer that comes from the source's trained tensors."""
        value = self.input(index)
        return (
            value is not None and value.const_value is not None and metadata.recipe_record(value) is not None
        )

    def shape(self, index: int) -> tuple[int | None, ...] | None:
        """The shape of an input as stored, None for a symbolic axis; None if the rank is unknown."""
        return _shape(self.input(index))

    def known_shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input that is a constant or trained. Raises ValueError for any other."""
        array = self.constant(index)
        if array is None:
            raise ValueError(f"input {index} of {self.node.op_type} is computed")
        return tuple(array.shape)

    def output_shape(self, index: int = 0) -> tuple[int | None, ...] | None:
        """The shape of an output as stored, None for a symbolic axis; None if the rank is unknown."""
        return _shape(self.node.outputs[index])

    def all_equal(self, index: int, number: float) -> bool:
        """Whether an input is a plain constant (not trained) of which every element is a number."""
        array = self.constant(index)
        return array is not None and not self.is_trained(index) and bool(np.all(array == number))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(str(np.float32(value)))
    return value.decode() if isinstance(value, bytes) else value


def _shape(value: ir.Value | None) -> tuple[int | None, ...] | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)
