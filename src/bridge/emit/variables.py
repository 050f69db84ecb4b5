"""Names of variables in emitted functions: what a value is for, where that shows, else x, y, z."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.emit import names, tree
from bridge.emit.names import Namespace

GENERIC = ("x", "y", "z", "u", "v", "w")
"""What values are called that are nothing but the data of the model, on its way."""

Item = ir.Node | tree.Region

_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "Attention": ("query", "key", "value", "mask"),
    "AttentionWeights": ("query", "key", "mask"),
    "AttentionValues": ("weights", "value"),
}
"""What attention takes."""

_RESULTS: Mapping[str, tuple[str | None, ...]] = {
    "Arange": ("positions",),
    "ArgMax": ("indices",),
    "ArgMin": ("indices",),
    "Attention": ("attended",),
    "AttentionValues": ("attended",),
    "AttentionWeights": ("weights",),
    "Cos": ("cosine",),
    "GRU": (None, "hidden", "hidden"),
    "LSTM": (None, "hidden", "cell", "hidden", "cell"),
    "NonZero": ("indices",),
    "RNN": (None, "hidden", "hidden"),
    "Range": ("positions",),
    "Sin": ("sine",),
    "TopK": ("values", "indices"),
}
"""What operators give, where that has a name that everybody uses."""

_LASTING = ("Cos", "Sin")
"""Operators whose results are called by them in other functions too."""

_IDS = "ids"
"""What a layer looks up in its table."""

_MOVES = frozenset(
    {"Cast", "Concat", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Neg", "Rotate", "Sub"})
_LOGIC = frozenset({"And", "Not", "Or", "Where", "Xor", "Min", "Max"})


@dataclass(frozen=True)
class Layers:
    """What the names of one function depend on besides its graph: which items are calls of layers.

    `attribute` is the name by which the module knows the layer or module of an item, `kind` its type; both
    are None for an operator. `reads` are the values that an item reads and `makes` those that others read.
    """

    attribute: Callable[[Item], str | None]
    kind: Callable[[Item], str | None]
    reads: Callable[[Item], Sequence[ir.Value]]
    makes: Callable[[Item], Sequence[ir.Value | None]]


@dataclass
class Variables:
    """Hands out the names of one function's variables; the name of a value that is not read again is free.

    A value is called by what it is for where that can be told: an operand of attention, a mask, one of
    several layers that read the same value. What an operator makes of one value keeps that value's name.
    """

    namespace: Namespace
    layers: Layers
    items: Sequence[Item]
    computed: set[ir.Value]
    """The values that variables may hold: inputs of the function and what its items make."""
    _names: dict[ir.Value, str] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)
    _owned: set[str] = field(default_factory=set)
    _roles: Mapping[ir.Value, str] = field(default_factory=dict)
    _readers: Counter[tuple[ir.Value, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._roles = _roles(self.items, self.layers, self.computed)
        for item in self.items:
            kind, data = self.layers.kind(item), self._data(item)
            if kind is not None and len(data) == 1:
                self._readers[data[0], kind] += 1

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._names

    def __getitem__(self, value: ir.Value) -> str:
        return self._names[value]

    def get(self, value: ir.Value) -> str | None:
        return self._names.get(value)

    @property
    def visible(self) -> set[str]:
        """The names of all values that may still be read."""
        return set(self._names.values())

    def keep(self, value: ir.Value, name: str) -> str:
        """Name a parameter as its user knows it; nothing else is called that, unless it is a generic name."""
        self._names[value] = self.namespace.claim(name)
        if self._names[value] in GENERIC:
            self._owned.add(self._names[value])
        else:
            self._kept.add(self._names[value])
        return self._names[value]

    def parameter(self, value: ir.Value) -> str:
        """Name a parameter by what the function does with it, or by what it is."""
        wanted = self._roles.get(value) or _nature(value)
        self._names[value] = self._generic() if wanted is None else self._claim(wanted)
        return self._names[value]

    def assign(self, item: Item, outputs: Sequence[ir.Value | None], dead: Iterable[ir.Value]) -> list[str]:
        """Name what an item makes, `_` for None; the values in `dead` are read here for the last time."""
        released = [self._names.pop(value) for value in dead if value in self._names]
        released = [name for name in dict.fromkeys(released) if name not in self._kept]
        data = self._data(item)
        given: list[str] = []
        for index, value in enumerate(outputs):
            if value is None:
                given.append("_")
                continue
            wanted = self._wanted(item, index, value, data)
            name = self._inherited(item, value, data, released) if wanted is None else self._claim(wanted)
            if name in released:
                released.remove(name)
            self._names[value] = name
            given.append(name)
        return given

    def _data(self, item: Item) -> list[ir.Value]:
        """The values that an item reads and the function computes."""
        return [value for value in self.layers.reads(item) if value in self.computed]

    def _wanted(self, item: Item, index: int, value: ir.Value, data: Sequence[ir.Value]) -> str | None:
        """What a value is best called, if that shows."""
        role = self._roles.get(value)
        if role is not None and role != _IDS and role not in self.visible:
            return role
        if isinstance(item, ir.Node):
            results = _RESULTS.get(item.op_type, ())
            if index < len(results) and results[index] is not None:
                return results[index]
        kind = self.layers.kind(item)
        if role is None and kind is not None and index == 0 and len(data) == 1:
            attribute = self.layers.attribute(item)
            if attribute is not None and self._readers[data[0], kind] > 1:
                return names.identifier(attribute, default="x", reserved=GENERIC)
        if role == _IDS and role not in self.visible:
            return role
        return _nature(value)

    def _inherited(
        self, item: Item, value: ir.Value, data: Sequence[ir.Value], released: Sequence[str]
    ) -> str:
        """The name of what a value is made of, if that is not read again; else a generic name."""
        generic = [name for name in released if name in GENERIC or name.rstrip("0123456789") in GENERIC]
        if generic:
            return generic[0]
        if released and len(data) == 1 and isinstance(item, ir.Node) and _kind(value) == _kind(data[0]):
            return released[0]
        return self._generic()

    def _generic(self) -> str:
        for name in GENERIC:
            if self._is_free(name):
                return self._claim(name)
        return self._claim(GENERIC[0])

    def _is_free(self, name: str) -> bool:
        if name in self._owned:
            return name not in self.visible
        return name not in self.namespace

    def _claim(self, name: str) -> str:
        """The name, with the first free number if it is taken."""
        candidate, number = name, 2
        while not self._is_free(candidate):
            candidate = f"{name}_{number}" if name[-1].isdigit() else f"{name}{number}"
            number += 1
        if candidate not in self._owned:
            self.namespace.claim(candidate)
            self._owned.add(candidate)
        return candidate


def _kind(value: ir.Value) -> str:
    """Whether a value holds truth values, numbers that count, or numbers that measure."""
    if value.dtype == ir.DataType.BOOL:
        return "truth"
    return "measure" if value.dtype is not None and value.dtype.is_floating_point() else "count"


def _nature(value: ir.Value) -> str | None:
    """What a value is whatever it is for: truth values say which elements are meant."""
    node = value.producer()
    if node is not None and node.op_type in _LASTING:
        return _RESULTS[node.op_type][0]
    return "mask" if _kind(value) == "truth" and value.shape is not None and len(value.shape) else None


def _roles(items: Sequence[Item], layers: Layers, computed: set[ir.Value]) -> dict[ir.Value, str]:
    """What values are for, if all that reads them leads to the same operand, or looks it up."""
    found: dict[ir.Value, str | None] = {}
    for item in reversed(items):
        made = [value for value in layers.makes(item) if value is not None]
        role = found.get(made[0]) if len(made) == 1 else None
        for value in layers.reads(item):
            if value in computed:
                asked = _asked(item, value, role, made, layers)
                found[value] = asked if found.get(value, asked) == asked else None
    return {value: _spelled(value, role) for value, role in found.items() if role is not None}


def _spelled(value: ir.Value, role: str) -> str:
    """A mask in numbers is a bias."""
    return "bias" if role == "mask" and _kind(value) == "measure" else role


def _asked(
    item: Item, value: ir.Value, role: str | None, made: Sequence[ir.Value], layers: Layers
) -> str | None:
    """What an item takes a value for, if its result is for `role`."""
    if isinstance(item, ir.Node) and item.op_type in _OPERANDS and layers.kind(item) is None:
        operands = _OPERANDS[item.op_type]
        places = [index for index, each in enumerate(item.inputs) if each is value]
        return operands[places[0]] if len(places) == 1 and places[0] < len(operands) else None
    kind = layers.kind(item)
    if kind is not None and kind.endswith("Embedding") and not isinstance(item, tree.Region):
        return _IDS
    if role is None or role == _IDS:
        return None
    if role == "mask":
        logic = _kind(value) != "count"
        passes = isinstance(item, ir.Node) and item.op_type in _MOVES | _ELEMENTWISE | _LOGIC
        return role if logic and passes else None
    if kind is not None:
        return role if len(layers.reads(item)) == 1 else None
    assert isinstance(item, ir.Node)
    if item.op_type in _MOVES:
        return role
    same = value.shape is not None and made[0].shape is not None and value.shape == made[0].shape
    return role if item.op_type in _ELEMENTWISE and same else None
