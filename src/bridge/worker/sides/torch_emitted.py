"""model.py in another precision, and with its intermediate values: its syntax tree, rewritten and run."""

from __future__ import annotations

import ast
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from bridge_converters.torch_to_onnx.double import default_dtype
from torch import nn

from bridge.hub.anchors import Anchor, Anchors

_FLOATS = ("float32", "float16", "bfloat16")
_WEIGHT_READER = "read_safetensors"
_RECORD = "__bridge_record__"
_NAME = "bridge_converted_model_in_{dtype}"


class Emitted:
    """A model of model.py that computes in one precision; floating-point inputs are converted.

    Every floating-point dtype in the code is replaced by `dtype`. Constants keep the value that the dtype
    written beside them gives them. Without a `dtype` the code is as it is. If `anchors` are given, `recorded`
    gives the values that they name.
    """

    def __init__(self, directory: Path, dtype: torch.dtype | None, anchors: Anchors | None = None) -> None:
        """Raises InputError where the directory holds no model.py."""
        self._dtype = dtype
        recorder = _Recorder()
        callees: dict[int, tuple[str, ...]] = {}
        variables = _variables(anchors)

        def rewrite(tree: ast.Module) -> None:
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == _WEIGHT_READER:
                    continue
                if dtype is not None:
                    _Precision(dtype).visit(node)
                if isinstance(node, ast.ClassDef):
                    callees.update(_instrument(node, variables))

        with default_dtype(dtype or torch.get_default_dtype()):
            model: nn.Module = _load(directory, dtype, rewrite, recorder.record)
        self.model = model.to(dtype).eval()
        if anchors is not None:
            recorder.follow(self.model, anchors, callees)
        self._recorder = recorder

    def __call__(self, *tensors: torch.Tensor) -> Any:
        if self._dtype is None:
            return self.model(*tensors)
        converted = [each.to(self._dtype) if each.is_floating_point() else each for each in tensors]
        with default_dtype(self._dtype):
            return self.model(*converted)

    def recorded(self, *tensors: torch.Tensor) -> tuple[Any, list[tuple[Anchor, torch.Tensor]]]:
        """The results, and the anchored values in the order of computation, as the model stores them.

        An anchor whose value cannot be told apart is left out: one that names no module of the model.
        """
        with self._recorder:
            results = self(*tensors)
        return results, self._recorder.values


def _load(
    directory: Path,
    dtype: torch.dtype | None,
    rewrite: Callable[[ast.Module], None],
    record: Callable[..., Any],
) -> Any:
    path = directory / "model.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rewrite(tree)
    module = ModuleType(_NAME.format(dtype="own" if dtype is None else str(dtype).removeprefix("torch.")))
    module.__file__ = str(path)
    vars(module)[_RECORD] = record
    sys.modules[module.__name__] = module
    exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), vars(module))
    return module.load()


class _Precision(ast.NodeTransformer):
    """Replaces `torch.float32` and the narrower types, in place.

    Numbers in forward methods are those of the graph, which holds them in float32; they keep that value,
    or become the largest that the dtype holds.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = str(dtype).removeprefix("torch.")
        self._largest = torch.finfo(dtype).max
        self._in_forward = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._in_forward = node.name == "forward"
        self.generic_visit(node)
        self._in_forward = False
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) == "torch.tensor":
            return (
                ast.Call(ast.Attribute(node, "to", ast.Load()), [self._target()], [])
                if _typed(node)
                else node
            )
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "float" and not node.args:
            return ast.Call(ast.Attribute(node.func.value, "to", ast.Load()), [self._target()], [])
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "torch" and node.attr in _FLOATS:
            return self._target()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self._in_forward and isinstance(node.value, float):
            single = float(np.float32(node.value))
            if math.isfinite(single) and single != 0.0:
                return ast.Constant(max(-self._largest, min(single, self._largest)))
        return node

    def _target(self) -> ast.Attribute:
        return ast.Attribute(ast.Name("torch", ast.Load()), self._dtype, ast.Load())


def _typed(call: ast.Call) -> bool:
    """Whether `torch.tensor(...)` is of a floating-point type, written or by default."""
    written = [ast.unparse(each.value) for each in call.keywords if each.arg == "dtype"]
    return not written or written[0].removeprefix("torch.") in _FLOATS


def _variables(anchors: Anchors | None) -> dict[int, list[str]]:
    """The anchored variables of every line, each once; "" for what a returned expression or a call holds."""
    found: dict[int, list[str]] = defaultdict(list)
    for anchor in anchors.anchors if anchors is not None else ():
        if anchor.variable not in found[anchor.line]:
            found[anchor.line].append(anchor.variable)
    return found


def _instrument(definition: ast.ClassDef, variables: Mapping[int, list[str]]) -> dict[int, tuple[str, ...]]:
    """Have forward report the anchored variables of its lines; the submodules that lines call, by line."""
    callees = {}
    for method in definition.body:
        if not isinstance(method, ast.FunctionDef) or method.name != "forward":
            continue
        body: list[ast.stmt] = []
        for statement in method.body:
            line = statement.lineno
            body.append(statement)
            if line not in variables or not isinstance(statement, ast.Assign | ast.Return):
                continue
            callee = _callee(statement.value)
            if callee is not None:
                callees[line] = callee
            if isinstance(statement, ast.Return):
                statement.value = _report(line, statement.value)
            else:
                held = [name for name in variables[line] if name]
                values = ast.Dict([ast.Constant(name) for name in held], [_read(name) for name in held])
                body.append(ast.Expr(_report(line, values)))
        method.body = body
    return callees


def _report(line: int, value: ast.expr | None) -> ast.Call:
    return ast.Call(_read(_RECORD), [_read("self"), ast.Constant(line), value or ast.Constant(None)], [])


def _read(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _callee(expression: ast.expr | None) -> tuple[str, ...] | None:
    """The path below `self` of the submodule that an expression calls; None for any other expression."""
    if not isinstance(expression, ast.Call):
        return None
    steps: list[str] = []
    place: ast.expr = expression.func
    while not (isinstance(place, ast.Name) and place.id == "self"):
        match place:
            case (
                ast.Attribute(value=owner, attr=step)
                | ast.Subscript(value=owner, slice=ast.Constant(value=step))
            ):
                pass
            case ast.Call(
                func=ast.Attribute(value=owner, attr="get_submodule"), args=[ast.Constant(value=step)]
            ):
                pass
            case _:
                return None
        steps.append(str(step))
        place = owner
    return tuple(reversed(steps))


class _Recorder:
    """Collects the values that the instrumented methods report, by the anchors of their places.

    A place is a module and a line. Where a module is called several times, its n-th pass over a line
    makes the values of the n-th call.
    """

    def __init__(self) -> None:
        self.values: list[tuple[Anchor, torch.Tensor]] = []
        self._active = False
        self._passes: Counter[Any] = Counter()
        self._paths: dict[int, str] = {}
        self._places: dict[tuple[str, int], list[list[Anchor]]] = {}

    def __enter__(self) -> None:
        self.values = []
        self._passes.clear()
        self._active = True

    def __exit__(self, *error: object) -> None:
        self._active = False

    def follow(self, model: nn.Module, anchors: Anchors, callees: Mapping[int, tuple[str, ...]]) -> None:
        """Record the anchored values of a model, those inside native containers by hooks on their layers."""
        modules = dict(model.named_modules())
        self._paths = {id(each): path for path, each in modules.items()}
        calls: dict[tuple[str, int], dict[tuple[int, ...], list[Anchor]]] = defaultdict(dict)
        for anchor in anchors.anchors:
            calls[anchor.module, anchor.line].setdefault(anchor.call, []).append(anchor)
        for (path, line), by_call in calls.items():
            if path not in modules:
                continue
            groups = list(by_call.values())
            container = _container(modules[path], callees.get(line))
            if container is None:
                self._places[path, line] = groups
                continue
            for position, layer in enumerate(_layers(container)):
                group = [each[position] for each in groups if position < len(each)]
                layer.register_forward_hook(self._hook(group))

    def record(self, module: nn.Module, line: int, value: Any) -> Any:
        """Note what a line has computed; returns the value."""
        group = self._group((self._paths.get(id(module), ""), line))
        if isinstance(value, dict):
            for anchor in group:
                self._add(anchor, value.get(anchor.variable))
        else:
            parts = value if isinstance(value, tuple) else (value,)
            for anchor, part in zip(group, parts, strict=False):
                self._add(anchor, part)
        return value

    def _group(self, place: tuple[str, int]) -> Sequence[Anchor]:
        if not self._active or place not in self._places:
            return ()
        number = self._passes[place]
        self._passes[place] += 1
        groups = self._places[place]
        return groups[number] if number < len(groups) else ()

    def _hook(self, group: Sequence[Anchor]) -> Callable[[nn.Module, Any, Any], None]:
        def note(layer: nn.Module, given: Any, result: Any) -> None:
            number = self._passes[layer]
            if self._active and number < len(group):
                self._passes[layer] += 1
                self._add(group[number], result)

        return note

    def _add(self, anchor: Anchor, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.values.append((anchor, value))


def _container(module: nn.Module, callee: tuple[str, ...] | None) -> nn.Sequential | None:
    """The native container that a line of a module calls, if it does."""
    if callee is None:
        return None
    called = module.get_submodule(".".join(callee))
    return called if type(called) is nn.Sequential else None


def _layers(container: nn.Sequential) -> Iterator[nn.Module]:
    """PyTorch's own layers in a container, in order; model.py's classes report for themselves."""
    for child in container:
        if type(child) is nn.Sequential:
            yield from _layers(child)
        elif type(child).__module__.startswith("torch."):
            yield child
