"""What the weights and modules of both versions are called, as far as a weight map or anchors tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bridge.hub import recipe as recipes
from bridge.hub.anchors import Anchor, Anchors
from bridge.hub.recipe import Recipe, Step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.parties import Party
from bridge.verification.report.structure import ModuleNames, Structure, TensorNames

_SCOPES = 8
"""The scopes of one module that are named at most; a module that is called in many places has many."""


def structure(target: Party, weight_map: WeightMap | None) -> Structure | None:
    """The names on both sides; None where nothing tells which belong together."""
    modules: tuple[ModuleNames, ...] = ()
    file = None
    if target.converted is not None and (target.converted / "anchors.json").is_file():
        anchors = Anchors.load(target.converted / "anchors.json")
        modules = tuple(_modules(anchors.anchors))
        file = anchors.file
    if weight_map is None and not modules:
        return None
    tensors = () if weight_map is None else tuple(map(_tensor, weight_map.tensors))
    return Structure(tensors, modules, file)


def _tensor(record: TensorMap) -> TensorNames:
    if record.recipe is None:
        return TensorNames(record.target, (), record.shape, record.dtype, record.kind, "a constant")
    sources = tuple(dict.fromkeys(recipes.sources(record.recipe)))
    return TensorNames(
        record.target, sources, record.shape, record.dtype, record.kind, ", ".join(_words(record.recipe))
    )


def _words(recipe: Recipe) -> list[str]:
    """The steps of a recipe in the order in which they are done."""
    if not isinstance(recipe, Step):
        return []
    words = [word for each in recipe.inputs for word in _words(each)]
    attributes = " ".join(
        f"{key}={_text(key, value)}"
        for key, value in recipe.attributes
        if key != "indices" and value is not None
    )
    return [*words, f"{recipe.op} {attributes}".strip()]


def _text(key: str, value: object) -> str:
    return ("x" if key == "shape" else ",").join(map(str, value)) if isinstance(value, tuple) else str(value)


def _modules(anchors: Sequence[Anchor]) -> Iterable[ModuleNames]:
    by_module: dict[str, list[Anchor]] = {}
    for each in anchors:
        by_module.setdefault(each.module, []).append(each)
    for module, records in by_module.items():
        scopes = list(dict.fromkeys(each.scope for each in records))[:_SCOPES]
        # A module that is called several times computes the same at every call.
        once = [each for each in records if each.call == records[0].call]
        operators = Counter(each.operator for each in once)
        yield ModuleNames(
            module,
            tuple(scopes),
            tuple(name if count == 1 else f"{name} x{count}" for name, count in operators.items()),
            min(each.line for each in records),
            next((each.location for each in records if each.location), None),
        )
