"""How results of sequence models are shown: lines, a summary, and the page docs/sequences.md."""

from __future__ import annotations

from typing import Literal

from scripts.sequences.measure import TOLERANCE, Measurement

LAYERS_OF_ATTENTION = (
    "`keras.layers.MultiHeadAttention` and `nn.MultiheadAttention` are emitted\n"
    "for projections and attention with no mask or a causal one. With other masks the layers differ from\n"
    "their source where a mask hides all keys from a query: PyTorch gives it zeros or NaN, Keras the mean\n"
    "of all values."
)
"""Which masks the frameworks' own layers express, and why others stay with the function."""


def verdict(found: Measurement) -> Literal["failed", "passed", "native", "refused"]:
    """`native`: it passed, and every layer that the target has became the target's own."""
    if not found.passed:
        return "failed"
    if found.refused:
        return "refused"
    return "passed" if found.missed else "native"


def line(found: Measurement) -> str:
    """One model in one line, and its errors in one each."""
    worst = "-" if found.worst is None else f"{found.worst:.0e}"
    native = ", ".join(f"{count} {kind}" for kind, count in layers(found).items()) or "-"
    text = f"{verdict(found):7} {found.name:32} {worst:>6}  {native}"
    missing = [f"{kind}: {reason}" for kind, reason in found.not_native.items()]
    if found.unexported:
        missing.append(f"model.pt2: {found.unexported}")
    details = [f"not native: {each}" for each in missing] + [
        f"{step}: {e}" for step, e in found.errors.items()
    ]
    return "\n        ".join([text, *details])


def also(found: Measurement) -> dict[str, str]:
    """Layers that the target does not have, beside those that are counted."""
    counted = {*found.case.recurrent, "attention"}
    return {kind: why for kind, why in found.case.exceptions.items() if kind not in counted}


def layers(found: Measurement) -> dict[str, int]:
    """Native recurrent layers and calls of attention, by kind."""
    return {**found.recurrent, **found.attention}


def summary(found: list[Measurement]) -> str:
    """How many models passed, by direction, and how many layers are native."""
    rows = []
    for target, direction in (("tf", "PyTorch to TensorFlow"), ("torch", "TensorFlow to PyTorch")):
        group = [each for each in found if each.target == target]
        if group:
            passed = sum(each.passed for each in group)
            native = sum(verdict(each) in ("native", "refused") for each in group)
            whole = f"{native} of these with all layers that the target has as its own, and attention whole"
            rows.append(f"{direction}: {passed} of {len(group)} pass, {whole}")
    return "\n".join(["", *rows])


def document(found: list[Measurement]) -> str:
    """The page docs/sequences.md."""
    rows = [
        "# Sequence models",
        "",
        "Made by `scripts/sequence_models --update`; do not edit. Each model is converted by the command",
        "line, verified with gradients, and reloaded where nothing but the target framework can be",
        "imported. There model.py and the framework's artifact run with three batch sizes and, where the",
        "model allows it, two lengths against the source's outputs (relative distance at most",
        f"{TOLERANCE:.0e}). *Native* counts recurrent layers that became the target's own (a layer in two",
        "directions counts as two), calls of its fused attention or attention layers, and, as *attention",
        "function*, attention that is one call of a function of model.py (or of its weights, where a Dropout",
        "stands between them and the values). Attention that stayed in parts is not counted.",
        "",
        "TensorFlow has no fused attention: `keras.ops.dot_product_attention` computes two einsums and a",
        "softmax there, which takes 0.81 to 1.02 times as long as the function for 16 steps and 4 heads, and",
        "1.07 to 1.39 times at the size of BERT, so the function stands in its place.",
        LAYERS_OF_ATTENTION,
    ]
    for target, direction in (("tf", "PyTorch to TensorFlow"), ("torch", "TensorFlow to PyTorch")):
        group = [each for each in found if each.target == target]
        if not group:
            continue
        rows += ["", f"## {direction}", "", "| model | result | distance | native | not native, and why |"]
        rows += ["|---|---|---|---|---|"]
        for each in group:
            native = ", ".join(f"{count} {kind}" for kind, count in layers(each).items()) or "-"
            reasons = [f"{kind}: {reason}" for kind, reason in each.not_native.items()]
            reasons += [f"{kind}: {why}" for kind, why in also(each).items()]
            reasons += ["no .pt2 of all sizes: torch.export cannot trace it"] if each.unexported else []
            missing = "; ".join(reasons) or "-"
            result = "passes" if each.passed else f"fails: {', '.join(each.errors)}"
            result = "is refused, as it must be" if each.refused else result
            worst = "-" if each.worst is None else f"{each.worst:.0e}"
            rows.append(f"| {each.name} | {result} | {worst} | {native} | {missing} |")
    return "\n".join([*rows, summary(found), ""])
