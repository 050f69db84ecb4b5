"""How much attention drops while it is trained, which a program in evaluation mode does not say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from bridge_converters.torch_to_onnx.scopes import module_path

ATTENTION_DROPOUT = "bridge_attention_dropout"
"""The annotation of an attention's node with its ratio."""

_aten = torch.ops.aten
_RATIO_ARGUMENT = 4


def attention_ratios(
    module: nn.Module, program: ExportedProgram, run: Callable[[], Any]
) -> tuple[float, ...]:
    """The ratio of dropout of every `scaled_dot_product_attention` of a program, in its order.

    `run` calls the module that was exported. The modules that compute attention are in training mode
    for that call, without dropping anything. No ratios where the call takes another course than the
    program.
    """
    paths = [module_path(node) for node in _attentions(program)]
    modules = dict(module.named_modules(remove_duplicate=False))
    owners = [modules[path] for path in paths if path in modules]
    if not paths or len(owners) != len(paths):
        return ()
    flags, fast_path = (
        [(owner, owner.training) for owner in owners],
        torch.backends.mha.get_fastpath_enabled(),
    )
    try:
        # The fast path of nn.TransformerEncoder computes attention by an operator of its own.
        torch.backends.mha.set_fastpath_enabled(False)
        for owner in owners:
            owner.training = True
        with _recorded_ratios() as ratios:
            run()
    except Exception:  # the module's code runs and may raise anything
        return ()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for owner, training in flags:
            owner.training = training
    return tuple(ratios) if len(ratios) == len(paths) else ()


def annotate_ratios(program: ExportedProgram, ratios: Sequence[float]) -> tuple[str, ...]:
    """Write ratios on the attention nodes of a program, in place.

    Those that drop in the program itself drop nothing from then on; returns a note if there are any.
    """
    nodes = list(_attentions(program))
    given = ratios if len(ratios) == len(nodes) else [0.0] * len(nodes)
    active = []
    for node, ratio in zip(nodes, given, strict=True):
        own = _own_ratio(node)
        if own > 0:
            _drop_nothing(node)
            active.append(own)
        if own > 0 or ratio > 0:
            node.meta["custom"] = {**(node.meta.get("custom") or {}), ATTENTION_DROPOUT: own or ratio}
    if not active:
        return ()
    return (
        f"{len(active)} attention(s) drop with dropout_p={active[0]} in evaluation too; they are converted "
        "as if they dropped in training only (write dropout_p=p if self.training else 0.0)",
    )


def ratio_of(node: fx.Node) -> float:
    """The ratio that a node is annotated with, 0 if it is not."""
    return float((node.meta.get("custom") or {}).get(ATTENTION_DROPOUT, 0.0))


def _attentions(program: ExportedProgram) -> Iterator[fx.Node]:
    for node in program.graph.nodes:
        if node.target is _aten.scaled_dot_product_attention.default:
            yield node


def _own_ratio(node: fx.Node) -> float:
    given = (
        node.args[_RATIO_ARGUMENT] if len(node.args) > _RATIO_ARGUMENT else node.kwargs.get("dropout_p", 0)
    )
    return given if isinstance(given, float) else 0.0


def _drop_nothing(node: fx.Node) -> None:
    if len(node.args) > _RATIO_ARGUMENT:
        node.args = (*node.args[:_RATIO_ARGUMENT], 0.0, *node.args[_RATIO_ARGUMENT + 1 :])
    node.kwargs = {name: each for name, each in node.kwargs.items() if name != "dropout_p"}


@contextmanager
def _recorded_ratios() -> Iterator[list[float]]:
    """Note the ratios that `scaled_dot_product_attention` of torch.nn.functional gets; drop nothing."""
    functional: Any = torch.nn.functional
    original = functional.scaled_dot_product_attention
    ratios: list[float] = []

    def recording(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        *rest: Any,
        **named: Any,
    ) -> Any:
        ratios.append(float(dropout_p))
        return original(query, key, value, attn_mask, 0.0, *rest, **named)

    functional.scaled_dot_product_attention = recording
    try:
        yield ratios
    finally:
        functional.scaled_dot_product_attention = original
