"""Faults of a conversion's emitted source: what the graph has no word for.

They change an expression within its line, so that the anchors stay those of the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from bridge.emit.registry import TargetName
from bridge.emit.writer import Emitted
from scripts.proof.plants.faults import Fault

_DETACHABLE = frozenset(
    ("Conv", "Gemm", "Linear", "Relu", "Gelu", "LeakyRelu", "Add", "Concat", "Softmax", "LayerNormalization")
)


def sites(emitted: Emitted, target: TargetName) -> list[Fault]:
    """Every fault that can be planted in the emitted source; the node is the hub value made on its line."""
    return [fault for fault, _, _ in _changes(emitted, target)]


def plant(emitted: Emitted, fault: Fault, target: TargetName) -> str:
    """The source with a fault of `sites` in it. Raises KeyError if it has no such place."""
    for each, node, text in _changes(emitted, target):
        if each == fault:
            return _with(emitted.source, node, text)
    raise KeyError(fault)


def _changes(emitted: Emitted, target: TargetName) -> Iterator[tuple[Fault, ast.expr, str]]:
    """A fault, the expression that it changes, and the text to put there."""
    source = emitted.source
    assigned: dict[int, ast.expr] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.lineno] = node.value
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and _within(node, emitted):
            first, second, *others = (ast.get_source_segment(source, each) or "" for each in node.value.elts)
            text = ", ".join((second, first, *others))
            yield Fault("swapped_outputs", "outputs"), node.value, f"({text})"
    lines: set[int] = set()
    for anchor in emitted.anchors.anchors:
        expression = assigned.get(anchor.line)
        if not anchor.variable or expression is None or anchor.line in lines:
            continue
        lines.add(anchor.line)
        text = ast.get_source_segment(source, expression) or ""
        if anchor.operator == "Dropout" and isinstance(expression, ast.Call):
            yield Fault("dropout_active", anchor.hub), expression, _active(source, expression, target)
        if anchor.operator in _DETACHABLE:
            detached = f"({text}).detach()" if target == "torch" else f"tf.stop_gradient({text})"
            yield Fault("detached_gradient", anchor.hub), expression, detached
        if anchor.operator == "Div" and 'rounding_mode="trunc"' in text:
            floored = text.replace('rounding_mode="trunc"', 'rounding_mode="floor"')
            yield Fault("integer_division", anchor.hub), expression, floored
        if anchor.operator == "Div" and text.startswith("tf.truncatediv("):
            floored = text.replace("tf.truncatediv(", "tf.math.floordiv(", 1)
            yield Fault("integer_division", anchor.hub), expression, floored


def _within(node: ast.Return, emitted: Emitted) -> bool:
    """Whether this is the root's return statement: the one that ends the class of the model itself."""
    for each in ast.parse(emitted.source).body:
        if isinstance(each, ast.ClassDef) and each.name == emitted.root_class:
            return each.lineno <= node.lineno <= (each.end_lineno or 0)
    return False


def _active(source: str, call: ast.Call, target: TargetName) -> str:
    layer, argument = (ast.get_source_segment(source, each) or "" for each in (call.func, call.args[0]))
    if target == "torch":
        return f"nn.functional.dropout({argument}, {layer}.p, True)"
    return f"{layer}({argument}, training=True)"


def _with(source: str, node: ast.expr, text: str) -> str:
    """The source with an expression replaced; the number of lines stays."""
    lines = source.splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset :].decode()
    spare = "\n" * (last - first - text.count("\n"))
    lines[first : last + 1] = [before + text + after + spare]
    return "".join(lines)
