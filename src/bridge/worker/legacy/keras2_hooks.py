"""What layers of Keras 2 compute as ONNX's operators while a model is traced.

The counterpart of `bridge_converters.tf_to_onnx.hooks`, which does the same for Keras 3: BatchNormalization,
LayerNormalization, Dropout and recurrent layers stay whole, and every node knows its layer.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from bridge_converters.tf_to_onnx.markers import mark
from bridge_converters.tf_to_onnx.patching import replaced
from bridge_converters.tf_to_onnx.recurrent_markers import Cell, attributes_of, recur

from bridge.hub.scope import ScopeEntry
from bridge.worker.legacy.keras2 import layer_paths, library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.hub.metadata import Scope

_TRAINING_ONLY = (
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
"""Layers that do nothing in inference and that no ONNX operator stands for."""
_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "elu": ("Elu", 1.0, None),
    "hard_sigmoid": ("HardSigmoid", 0.2, 0.5),
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "softplus": ("Softplus", None, None),
    "softsign": ("Softsign", None, None),
    "tanh": ("Tanh", None, None),
}
"""ONNX's activation of one of Keras 2, with its alpha and beta; the hard sigmoid of Keras 3 is another."""
_CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}
_RECURRENT = ("LSTM", "GRU", "RNN", "SimpleRNN")
_OWNERS = ("keras", "tf_keras", "tensorflow", "tensorflow_core")
"""The packages whose classes do what their names say; any other may have overridden it."""


class Recorder:
    """What a trace tells about layers: the name scopes of their calls, and notes for the user."""

    def __init__(self, root: Any) -> None:
        self.scopes: dict[str, Scope] = {}
        self.notes: list[str] = []
        self._root = root
        self._names = {each: path[-1] for each, path in layer_paths(root).items() if path}
        self._calls: Counter[int] = Counter()
        self._stack: list[Scope] = []

    @contextmanager
    def calling(self, layer: Any) -> Iterator[None]:
        """Record that what is traced inside belongs to `layer`, in a name scope of this call alone."""
        parent = self._stack[-1] if self._stack else ()
        if layer is self._root:
            scope = parent
        else:
            name = self._names.get(id(layer), layer.name)
            scope = (*parent, ScopeEntry(name, type(layer).__name__, self._calls[id(layer)]))
            self._calls[id(layer)] += 1
        if type(layer).__name__ in _TRAINING_ONLY:
            self.note(layer, "is inactive in inference and is not carried over")
        self._stack.append(scope)
        try:
            with tf.name_scope(layer.name) as entered:
                self.scopes.setdefault(entered.rstrip("/"), scope)
                with _entering(layer, entered):
                    yield
        finally:
            self._stack.pop()

    def note(self, layer: Any, text: str) -> None:
        self.notes.append(f"{type(layer).__name__} {layer.name!r} {text}")


@contextmanager
def _entering(layer: Any, scope: str) -> Iterator[None]:
    """Let Keras enter this very name scope for the layer's call, not another one inside it."""
    if not hasattr(layer, "_name_scope"):
        yield
        return
    object.__setattr__(layer, "_name_scope", lambda *_: scope)
    try:
        yield
    finally:
        object.__delattr__(layer, "_name_scope")


@contextmanager
def hooks(recorder: Recorder) -> Iterator[None]:
    """Install the hooks for one trace in this thread, and restore Keras on exit."""
    thread = threading.get_ident()
    layers = library().layers

    def here(hook: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread or tf.executing_eagerly():
                return original(layer, *args, **kwargs)
            return hook(recorder, original, layer, *args, **kwargs)

        # Keras looks at the parameters of `call` to know whether it takes a mask, and translates its code.
        call.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        untouched: Callable[..., Any] = tf.autograph.experimental.do_not_convert(call)
        return untouched

    found: dict[tuple[Any, str], Callable[..., Any]] = {}
    for class_name, name, hook in _HOOKS:
        owner = _definer(getattr(layers, class_name, None), name)
        if owner is not None:
            found.setdefault((owner, name), hook)
    with ExitStack() as stack:
        for (owner, name), hook in found.items():
            stack.enter_context(replaced(owner, name, here(hook, vars(owner)[name])))
        yield


def _definer(owner: Any, name: str) -> Any:
    """The class that defines a method of a class; None where there is no such class or method."""
    return next((each for each in getattr(owner, "__mro__", ()) if name in vars(each)), None)


def _is_own(value: Any, *names: str) -> bool:
    """Whether an object is of a class of Keras itself, of one of these names."""
    kind = type(value)
    return kind.__name__ in names and kind.__module__.partition(".")[0] in _OWNERS


def _layer_call(
    recorder: Recorder, original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any
) -> Any:
    with recorder.calling(layer):
        return original(layer, *args, **kwargs)


def _dropout_call(
    recorder: Recorder, original: Callable[..., Any], layer: Any, inputs: Any, training: Any = None
) -> Any:
    plain = _is_own(layer, "Dropout") and layer.noise_shape is None and 0.0 < _number(layer.rate) < 1.0
    if training or not plain or not inputs.dtype.is_floating:
        return original(layer, inputs, training=training)
    ratio = tf.constant(layer.rate, tf.float32, name="ratio")
    return mark("Dropout", [inputs, ratio], shape=inputs.shape, dtype=inputs.dtype)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _batch_normalization_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: Any,
    inputs: Any,
    training: Any = None,
    **more: Any,
) -> Any:
    """`more` is the mask of newer versions, which only training looks at."""
    x = tf.convert_to_tensor(inputs)
    axes = list(layer.axis) if not isinstance(layer.axis, int) else [layer.axis]
    rank = x.shape.rank
    own = _is_own(layer, "BatchNormalization", "BatchNormalizationV1", "SyncBatchNormalization")
    odd = getattr(layer, "renorm", False) or getattr(layer, "virtual_batch_size", None)
    if training or odd or not own or x.dtype != tf.float32 or rank is None or rank < 2 or len(axes) != 1:
        return original(layer, inputs, training=training, **more)
    axis = axes[0] % rank
    if axis == 0:
        return original(layer, inputs, training=training, **more)
    to_first = [0, axis, *(each for each in range(1, rank) if each != axis)]
    moved = x if axis == 1 else tf.transpose(x, to_first)
    mean, variance = (tf.convert_to_tensor(each) for each in (layer.moving_mean, layer.moving_variance))
    scale = tf.ones(mean.shape, x.dtype) if layer.gamma is None else tf.convert_to_tensor(layer.gamma)
    offset = tf.zeros(mean.shape, x.dtype) if layer.beta is None else tf.convert_to_tensor(layer.beta)
    result = mark(
        "BatchNormalization",
        [moved, scale, offset, mean, variance],
        shape=moved.shape,
        dtype=x.dtype,
        attributes={"epsilon": float(layer.epsilon), "momentum": float(layer.momentum)},
    )
    return result if axis == 1 else tf.transpose(result, [to_first.index(each) for each in range(rank)])


def _layer_normalization_call(
    recorder: Recorder, original: Callable[..., Any], layer: Any, inputs: Any
) -> Any:
    x = tf.convert_to_tensor(inputs)
    rank = x.shape.rank
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if not _is_own(layer, "LayerNormalization") or rank is None or x.dtype != tf.float32:
        return original(layer, inputs)
    last = sorted(each % rank for each in axes)
    sizes = [x.shape[each] for each in last]
    if last != list(range(rank - len(last), rank)) or None in sizes or 0 in last:
        return original(layer, inputs)
    given = [tf.ones(sizes, x.dtype) if layer.gamma is None else tf.convert_to_tensor(layer.gamma)]
    if layer.beta is not None:
        given.append(tf.convert_to_tensor(layer.beta))
    attributes = {"axis": -len(last), "epsilon": float(layer.epsilon)}
    return mark("LayerNormalization", [x, *given], shape=x.shape, dtype=x.dtype, attributes=attributes)


def _normalization_call(recorder: Recorder, original: Callable[..., Any], layer: Any, inputs: Any) -> Any:
    """Derive the statistics from the layer's weights inside the graph; Keras keeps eager copies of them."""
    if not hasattr(layer, "finalize_state") or getattr(layer, "input_mean", None) is not None:
        return original(layer, inputs)
    kept = layer.mean, layer.variance
    layer.finalize_state()
    try:
        return original(layer, inputs)
    finally:
        layer.mean, layer.variance = kept


def _recurrent_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: Any,
    inputs: Any,
    mask: Any = None,
    training: Any = None,
    initial_state: Any = None,
    **more: Any,
) -> Any:
    found = None
    if not training and not any(each is not None for each in more.values()):
        found = _recurrence(layer, inputs, mask, initial_state)
    if found is None:
        return original(layer, inputs, mask=mask, training=training, initial_state=initial_state, **more)
    cells = getattr(layer.cell, "cells", [layer.cell])
    if any(getattr(each, "dropout", 0) or getattr(each, "recurrent_dropout", 0) for each in cells):
        recorder.note(layer, "has dropout inside, which is inactive in inference and is not carried over")
    return found


def _recurrence(layer: Any, inputs: Any, mask: Any, initial_state: Any) -> Any:
    """What `call` of a recurrent layer returns, as markers; None where ONNX has no operator for it."""
    stacked = _is_own(layer.cell, "StackedRNNCells")
    cells = list(layer.cell.cells) if stacked else [layer.cell]
    if not _is_own(layer, *_RECURRENT) or not all(_is_own(each, *_CELLS) for each in cells):
        return None
    if not tf.is_tensor(inputs) or isinstance(inputs, (tf.RaggedTensor, tf.SparseTensor)):
        return None
    if layer.time_major or layer.stateful or inputs.dtype != tf.float32:
        return None
    if stacked and getattr(layer.cell, "reverse_state_order", False):
        return None
    found = [_cell(each) for each in cells]
    described = [each for each in found if each is not None]
    if len(described) != len(cells):
        return None
    if initial_state is None:
        initial_state = layer.get_initial_state(inputs)
    last, series, states = recur(
        described,
        inputs,
        [tf.convert_to_tensor(each) for each in tf.nest.flatten(initial_state)],
        None if mask is None else tf.nest.flatten(mask)[0],
        go_backwards=layer.go_backwards,
        return_sequences=layer.return_sequences,
        zero_output_for_mask=getattr(layer, "zero_output_for_mask", False),
    )
    output = series if layer.return_sequences else last
    return [output, *states] if layer.return_state else output


def _cell(cell: Any) -> Cell | None:
    """What a cell computes; None where the operator has no attributes that say so."""
    operator = _CELLS[type(cell).__name__]
    functions = [cell.activation]
    if operator != "RNN":
        functions.insert(0, cell.recurrent_activation)
    if operator == "LSTM":
        functions.append(cell.activation)
    activations = library().activations
    known = {
        getattr(activations, name): onnx for name, onnx in _ACTIVATIONS.items() if hasattr(activations, name)
    }
    more = {"linear_before_reset": int(cell.reset_after)} if operator == "GRU" else {}
    attributes = attributes_of(cell.units, functions, known, **more)
    if attributes is None or tf.as_dtype(cell.kernel.dtype) != tf.float32:
        return None
    states = len(tf.nest.flatten(cell.state_size))
    bias = None if cell.bias is None else tf.convert_to_tensor(cell.bias)
    kernels = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    return Cell(operator, attributes, cell.units, states, kernels[0], kernels[1], bias)


_HOOKS = (
    ("Layer", "__call__", _layer_call),
    ("Dropout", "call", _dropout_call),
    ("BatchNormalization", "call", _batch_normalization_call),
    ("LayerNormalization", "call", _layer_normalization_call),
    ("Normalization", "call", _normalization_call),
    ("LSTM", "call", _recurrent_call),
    ("GRU", "call", _recurrent_call),
    ("SimpleRNN", "call", _recurrent_call),
    ("RNN", "call", _recurrent_call),
)
