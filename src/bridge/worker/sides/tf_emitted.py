"""A model.py for TensorFlow in float64 or as it is, with what it computes tied to its anchors.

The file is executed from its syntax tree: float32 is float64 in it, and behind every statement of a `call`
method stands a note of the values it made. The model is then traced once; the notes name tensors of the
graph, which `bridge_converters.tf_to_onnx.form` computes in float64.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from bridge_converters.tf_to_onnx.double import FAILURES, default_dtype, without_dropout
from bridge_converters.tf_to_onnx.form import Form, Naming, function_routine
from bridge_converters.tf_to_onnx.functions import Signature, capture_handles
from bridge_converters.tf_to_onnx.keras_tree import layer_paths

from bridge.errors import InputError
from bridge.hub.anchors import Anchor, Anchors

_FORWARD = "call"
_RECORDER = "__bridge_recorder__"
_CALL = "__bridge_call__"
_MODULE_NAME = "bridge_converted_model"
_READERS = frozenset({"load", "read_safetensors"})
"""The functions of model.py that read files: the dtypes in them are those of the file."""
_NARROW = frozenset({"float32", "float16", "bfloat16"})


@dataclass(frozen=True)
class Port:
    """An input of the model as its signature declares it."""

    name: str
    dtype: tf.DType
    shape: tf.TensorShape


@dataclass(frozen=True)
class Emitted:
    """A traced model.py: its form, and the anchor of each tensor of its graph that has one.

    `exact` says that its constants are in float64 too, not float32 that was widened.
    """

    form: Form
    anchors: Mapping[str, Sequence[Anchor]]
    exact: bool


def open_emitted(
    directory: Path, inputs: Sequence[Port], outputs: Sequence[str], *, own: bool = False
) -> Emitted:
    """Trace the model.py of a directory. `outputs` are the names of what it returns, in order.

    With `own` it computes in the precision that it was written for. Raises InputError where there is none.
    """
    anchors = Anchors.load(directory / "anchors.json").anchors
    if own:
        return _traced(directory, inputs, outputs, anchors, None)
    try:
        return _traced(directory, inputs, outputs, anchors, "float64")
    except FAILURES:
        return _traced(directory, inputs, outputs, anchors, "float32")


def _traced(
    directory: Path,
    inputs: Sequence[Port],
    outputs: Sequence[str],
    anchors: Sequence[Anchor],
    dtype: str | None,
) -> Emitted:
    recorder = _Recorder(anchors)
    built = dtype or "float32"
    specs = [
        tf.TensorSpec(
            port.shape, built if dtype and port.dtype.name in _NARROW else port.dtype, name=port.name
        )
        for port in inputs
    ]

    def trace(training: bool) -> Signature:
        def call(*tensors: tf.Tensor) -> Any:
            with recorder.recording(model):
                return model(*tensors, training=training)

        function = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
        return Signature(function, tuple(port.name for port in inputs), tuple(outputs), model)

    with default_dtype(built):
        model = _execute(directory, recorder, wide=dtype == "float64").load()
        signature = trace(training=False)
    resources: dict[int, Any] = {}
    named = {tensor: tuple(found) for tensor, found in recorder.tensors.items()}

    def training() -> Any:
        with default_dtype(built), without_dropout(model):
            traced = trace(training=True)
        return function_routine(traced, resources, effects=True)

    form = Form(
        function_routine(signature, resources),
        lambda: _naming(model, signature),
        training=training,
        dtype=None if dtype is None else "float64",
    )
    return Emitted(form, named, dtype == "float64")


def _naming(model: Any, signature: Signature) -> Naming:
    known = {id(each.value.handle): (each.path, bool(each.trainable)) for each in model.weights}
    handles = capture_handles(signature)
    return Naming({node: known[handle] for node, handle in handles.items() if handle in known})


def _execute(directory: Path, recorder: _Recorder, *, wide: bool) -> Any:
    """The module of a model.py, instrumented."""
    path = directory / "model.py"
    if not path.is_file():
        raise InputError("this directory holds no model.py", where=str(directory))
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for statement in tree.body:
        if wide and not (isinstance(statement, ast.FunctionDef) and statement.name in _READERS):
            _Widen().visit(statement)
        if isinstance(statement, ast.ClassDef):
            for method in statement.body:
                if isinstance(method, ast.FunctionDef) and method.name == _FORWARD:
                    _instrument(method)
    module = types.ModuleType(_MODULE_NAME)
    module.__file__ = str(path)
    vars(module)[_RECORDER] = recorder
    sys.modules[_MODULE_NAME] = module
    exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), vars(module))
    return module


class _Widen(ast.NodeTransformer):
    """Replaces `tf.float32`, `np.float32` and `"float32"`, and the narrower types, by float64."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr in _NARROW and isinstance(node.value, ast.Name) and node.value.id in ("tf", "np"):
            node.attr = "float64"
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("float64") if node.value in _NARROW else node


def _instrument(method: ast.FunctionDef) -> None:
    """Let a forward method tell the recorder that it is called, and what every statement makes."""
    owner = method.args.args[0].arg
    body: list[ast.stmt] = [ast.parse(f"{_CALL} = {_RECORDER}.enter({owner})").body[0]]
    for statement in method.body:
        if isinstance(statement, ast.Return) and statement.value is not None:
            line = ast.Constant(statement.lineno)
            told = ast.parse(f"{_RECORDER}.returned({_CALL})", mode="eval").body
            assert isinstance(told, ast.Call)
            told.args += [line, statement.value]
            body.append(ast.copy_location(ast.Return(told), statement))
            continue
        body.append(statement)
        names = [name for name in _assigned(statement) if name != "_"]
        if names:
            values = "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"
            source = f"{_RECORDER}.made({_CALL}, {statement.lineno}, {values})"
            body.append(ast.copy_location(ast.parse(source).body[0], statement))
    method.body = body


def _assigned(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.Assign):
        return []
    found = [node for target in statement.targets for node in ast.walk(target)]
    return [node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


@dataclass(frozen=True)
class _Invocation:
    module: str
    call: tuple[int, ...] | None


class _Recorder:
    """Ties the tensors that forward methods make to the anchors of their lines."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self.tensors: dict[str, list[Anchor]] = {}
        self._anchors: dict[tuple[str, tuple[int, ...], int], list[Anchor]] = {}
        self._calls: dict[str, list[tuple[int, ...]]] = {}
        for anchor in anchors:
            self._anchors.setdefault((anchor.module, anchor.call, anchor.line), []).append(anchor)
            calls = self._calls.setdefault(anchor.module, [])
            if anchor.call not in calls:
                calls.append(anchor.call)
        for calls in self._calls.values():
            calls.sort()
        self._graph: Any = None
        self._paths: dict[int, str] = {}
        self._seen: dict[str, int] = {}

    def recording(self, model: Any) -> _Recording:
        """A context in which calls of the model and its parts are recorded, if they build this very graph."""
        return _Recording(self, model)

    def start(self, model: Any) -> None:
        self._graph = tf.compat.v1.get_default_graph()
        self._paths = {key: ".".join(path) for key, path in layer_paths(model).items()}
        self._seen = {}

    def stop(self) -> None:
        self._graph = None

    def enter(self, layer: Any) -> _Invocation | None:
        """The call of a module that begins; None where nothing is recorded."""
        if self._graph is None or tf.compat.v1.get_default_graph() is not self._graph:
            return None
        path = self._paths.get(id(layer))
        if path is None:
            return None
        number = self._seen.get(path, 0)
        self._seen[path] = number + 1
        return _Invocation(path, self._call(path, number))

    def made(self, call: _Invocation | None, line: int, values: Mapping[str, Any]) -> None:
        """A statement has made these variables."""
        for anchor in self._at(call, line):
            if anchor.variable in values:
                self._tie(values[anchor.variable], anchor)

    def returned(self, call: _Invocation | None, line: int, value: Any) -> Any:
        """A method returns this value; the answer is the value."""
        values = value if isinstance(value, tuple) else (value,)
        anchors = [anchor for anchor in self._at(call, line) if not anchor.variable]
        if len(anchors) == len(values):
            for anchor, each in zip(anchors, values, strict=True):
                self._tie(each, anchor)
        return value

    def contained(self, path: str, position: int, number: int, value: Any) -> None:
        """A layer inside a native container has made a value: its `position`-th layer without anchors."""
        found = self._within(path, self._call(path, number))
        if position < len(found):
            self._tie(value, found[position])

    def containers(self, model: Any) -> list[tuple[Any, str, int]]:
        """The layers in native containers that have no anchors of their own: path of the container, place."""
        import keras

        found = []
        for layer in model._flatten_layers():
            path = self._paths.get(id(layer))
            if not isinstance(layer, keras.Sequential) or path not in self._calls:
                continue
            leaves = [each for each in layer.layers if not self._has_anchors(self._paths.get(id(each), ""))]
            counts = {len(self._within(path, call)) for call in self._calls[path]}
            if counts == {len(leaves)}:
                found += [(leaf, path, position) for position, leaf in enumerate(leaves)]
        return found

    def _within(self, path: str, call: tuple[int, ...] | None) -> list[Anchor]:
        return [
            anchor
            for (module, each, _), anchors in self._anchors.items()
            if module == path and each == call
            for anchor in anchors
        ]

    def _has_anchors(self, path: str) -> bool:
        return any(module == path or module.startswith(f"{path}.") for module in self._calls)

    def _call(self, path: str, number: int) -> tuple[int, ...] | None:
        calls = self._calls.get(path, [])
        return calls[number] if number < len(calls) else None

    def _at(self, call: _Invocation | None, line: int) -> list[Anchor]:
        if call is None or call.call is None:
            return []
        return self._anchors.get((call.module, call.call, line), [])

    def _tie(self, value: Any, anchor: Anchor) -> None:
        if tf.is_tensor(value) and getattr(value, "graph", None) is self._graph:
            self.tensors.setdefault(value.name, []).append(anchor)


class _Recording:
    """Records while it is entered; layers in native containers are wrapped meanwhile."""

    def __init__(self, recorder: _Recorder, model: Any) -> None:
        self._recorder = recorder
        self._model = model
        self._wrapped: list[Any] = []

    def __enter__(self) -> None:
        self._recorder.start(self._model)
        for layer, path, position in self._recorder.containers(self._model):
            object.__setattr__(layer, _FORWARD, self._wrap(layer.call, path, position))
            self._wrapped.append(layer)

    def _wrap(self, call: Callable[..., Any], path: str, position: int) -> Callable[..., Any]:
        number = 0

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal number
            value = call(*args, **kwargs)
            if tf.is_tensor(value):
                self._recorder.contained(path, position, number, value)
                number += 1
            return value

        return wrapped

    def __exit__(self, *error: object) -> None:
        self._recorder.stop()
        for layer in self._wrapped:
            object.__delattr__(layer, _FORWARD)
