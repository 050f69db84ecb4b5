"""The table of lowerings of one target: how an ONNX operator is declared and found.

A lowering is a plain function on the target's tensors with exactly the operator's semantics. Its
signature is the schema: inputs positional, attributes keyword-only under their ONNX names with the
specification's defaults; an optional input has the default None; several outputs are a tuple. The
emitter prints its body: inline where it is a single expression, as a helper function otherwise.

An operator with optional outputs has one more keyword-only parameter, `outputs: int`: the number of
outputs of the node. The body returns a bare tensor if that is 1 and a tuple otherwise. Four more may be
there where a body needs them: `input_types` and `output_types`, tuples of the ONNX names of the element
types (`FLOAT8E4M3FN`, `INT4`), which tell what a carrier stands for (see `bridge.hub.carriers`), and
`input_shapes` and `output_shapes`, what the hub knows of the shapes: tuples of sizes, with a name or None
for an axis that is not fixed, and None for a value that is absent or of unknown rank. A tensor attribute
(ConstantOfShape's `value`) arrives as a 0-d tensor, a type as None, and a graph as a function: it takes
the graph's inputs and gives a bare value for one output, a tuple for more. The condition that a Loop's
body gives is True where it is so in every step. Sequences are lists, and empty optionals None.

What a body may ask about its tensors and the emitter may fold: `x.ndim`, `x is None`, the dtype
(torch: `x.is_floating_point()`, `x.dtype == torch.bool`; tf: `x.dtype.is_floating`, `.is_integer`,
`.is_unsigned`, `.is_bool`), and `isinstance(shape, tuple)` for a `const` input, with `tuple`, `int`
and `float` as what a Python value can be. A body is right without any of it being folded.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import FunctionType
from typing import Any, TypeVar

from bridge.emit.layer import LayerRule, NodeView
from bridge.hub.metadata import Layout
from bridge.plugins import PLUGIN_GROUP

Function = TypeVar("Function", bound=Callable[..., Any])
Supports = Callable[[NodeView], str | None]


@dataclass(frozen=True)
class Lowering:
    """One operator's lowering.

    `since` is the opset version from which the body holds. `const` names the inputs that arrive as
    Python values (int, float, tuple of them) where they are known at conversion and have at most one
    axis, `static` those that must be known: without them the node is reported as unsupported. `layout`
    is the layout in which the body computes if the operator is layout-sensitive, and None if it takes
    any. Spatial operands and results are stored in that layout (input 0 and output 0 for most
    operators); weights, and constants that speak of axes such as Resize's `sizes`, stay as ONNX has
    them. `supports` answers why a node is beyond the body, and None if it is not.
    """

    op_type: str
    domain: str
    since: int
    function: Callable[..., Any]
    const: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    layout: Layout | None = None
    supports: Supports | None = None


@cache
def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a lowering by name."""
    return inspect.signature(function).parameters


class LoweringTable:
    """All lowerings and layer rules of one target."""

    def __init__(
        self, target: str, *, package: str, refusals: Mapping[tuple[str, str], str] | None = None
    ) -> None:
        self.target = target
        self.refusals = dict(refusals or {})
        """Why the target cannot express an operator, by domain and operator, where that is known."""
        self._package = package
        self._lowerings: dict[tuple[str, str], list[Lowering]] = {}
        self._rules: dict[tuple[str, str], list[LayerRule]] = {}
        self._loaded = False
        self._function_names: frozenset[str] | None = None
        self.broken_plugins: dict[str, str] = {}
        """Plug-ins of this target that could not be loaded, with the reason; `bridge doctor` reports them."""

    def lowering(
        self,
        op_type: str,
        *,
        domain: str = "",
        since: int = 1,
        const: tuple[str, ...] = (),
        static: tuple[str, ...] = (),
        layout: Layout | None = None,
        supports: Supports | None = None,
        override: bool = False,
    ) -> Callable[[Function], Function]:
        """Declare the function below as the lowering of an operator.

        Raises ValueError if the operator has a lowering for this opset version already, unless `override`.
        """

        def register(function: Function) -> Function:
            versions = self._lowerings.setdefault((domain, op_type), [])
            twins = [each for each in versions if each.since == since]
            if twins and not override:
                raise ValueError(
                    f"{domain}::{op_type} since {since} already has a {self.target} lowering: "
                    f"{twins[0].function.__module__}.{twins[0].function.__qualname__}; "
                    "pass override=True to replace it"
                )
            for twin in twins:
                versions.remove(twin)
            self._function_names = None
            versions.append(Lowering(op_type, domain, since, function, const, static, layout, supports))
            versions.sort(key=lambda each: each.since)
            return function

        return register

    def layer_rule(self, op_type: str, *, domain: str = "") -> Callable[[LayerRule], LayerRule]:
        """Declare the function below as a rule that may emit the target's native layer for a node.

        The rules of an operator are asked in the order of declaration; the first that answers wins.
        """

        def register(rule: LayerRule) -> LayerRule:
            self._rules.setdefault((domain, op_type), []).append(rule)
            return rule

        return register

    def find(self, op_type: str, domain: str = "", *, version: int) -> Lowering | None:
        """The newest lowering that holds at an opset version; None if there is none."""
        self._load()
        found = [each for each in self._lowerings.get((domain, op_type), ()) if each.since <= version]
        return found[-1] if found else None

    def rules(self, op_type: str, domain: str = "") -> tuple[LayerRule, ...]:
        """The layer rules of an operator, in the order of declaration."""
        self._load()
        return tuple(self._rules.get((domain, op_type), ()))

    def function_names(self) -> frozenset[str]:
        """The names of all functions that may be copied into the output; a variable must not hide them."""
        self._load()
        if self._function_names is not None:
            return self._function_names
        modules = {id(each.function.__globals__): each.function.__globals__ for each in self}
        self._function_names = frozenset(
            name
            for namespace in modules.values()
            for name, value in namespace.items()
            if isinstance(value, FunctionType)
        )
        return self._function_names

    def __iter__(self) -> Iterator[Lowering]:
        self._load()
        for versions in self._lowerings.values():
            yield from versions

    def _load(self) -> None:
        """Import the family modules of the converter package and the plug-ins, which register themselves."""
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        for entry in entry_points(group=PLUGIN_GROUP):
            if entry.name.partition(".")[0] == self.target:
                try:
                    entry.load()
                except Exception as error:  # whatever a plug-in raises, it takes nothing else down
                    self.broken_plugins[entry.name] = f"{type(error).__name__}: {error}"
