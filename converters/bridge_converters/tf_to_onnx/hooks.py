"""What bridge changes in Keras while it traces a model, so that layers arrive whole.

Keras 3 computes batch, layer and RMS normalization and GELU by elementary operations and drops
Dropout in inference. During a trace these become markers (see `markers`) that carry the operator's
attributes, and every call of a layer is recorded with the name scope it runs in. Everything touched is
private to Keras: this file, `attention_hooks` and `recurrent_hooks` are all that name it, written for Keras
3.15.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src import layers
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.backend.tensorflow import nn as backend_nn
from keras.src.ops import nn as ops_nn
from keras.src.ops.operation import Operation

from bridge.hub.metadata import Scope, ScopeEntry
from bridge_converters.tf_to_onnx.attention_hooks import attend, attend_at_once, project, repeated
from bridge_converters.tf_to_onnx.markers import mark
from bridge_converters.tf_to_onnx.normalization_hooks import normalize, normalized_axes
from bridge_converters.tf_to_onnx.patching import replaced
from bridge_converters.tf_to_onnx.recurrent_hooks import recurrence
from bridge_converters.tf_to_onnx.time_distributed import fold_time, map_over_time

_LOCK = threading.RLock()

_TRAINING_ONLY = (
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
"""Layers that do nothing in inference and that no ONNX operator stands for."""


class Recorder:
    """What a trace tells about layers: their name scopes, notes for the user, and which hooks fired.

    `names` maps `id(layer)` to the layer's name in its parent where it differs from `layer.name`.
    """

    def __init__(self, root: keras.Model, names: Mapping[int, str]) -> None:
        self.scopes: dict[str, Scope] = {}
        self.notes: list[str] = []
        self.fired: Counter[str] = Counter()
        self._root = root
        self._names = names
        self._calls: Counter[int] = Counter()
        self._stack: list[tuple[keras.layers.Layer, Scope]] = []

    @property
    def layer(self) -> keras.layers.Layer | None:
        """The innermost layer that is being called."""
        return self._stack[-1][0] if self._stack else None

    @contextmanager
    def calling(self, layer: keras.layers.Layer) -> Iterator[None]:
        """Record that what is traced inside belongs to `layer`."""
        parent = self._stack[-1][1] if self._stack else ()
        scope = parent
        if layer is not self._root:
            name = self._names.get(id(layer), layer.name)
            scope = (*parent, ScopeEntry(name, type(layer).__name__, self._calls[id(layer)]))
            self._calls[id(layer)] += 1
        self.scopes.setdefault(tf.get_current_name_scope(), scope)
        if isinstance(layer, _TRAINING_ONLY):
            self.notes.append(
                f"{type(layer).__name__} {layer.name!r} is inactive in inference and is not carried over"
            )
        self._stack.append((layer, scope))
        try:
            yield
        finally:
            self._stack.pop()


@contextmanager
def keras_hooks(recorder: Recorder) -> Iterator[None]:
    """Install the hooks for one trace in this thread, and restore Keras on exit.

    Traces are serialised by a lock; a model that another thread calls meanwhile is left alone.
    """
    thread = threading.get_ident()

    def here(hook: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread or any_symbolic_tensors(args, kwargs):
                return original(*args, **kwargs)
            return hook(recorder, original, *args, **kwargs)

        return call

    with _LOCK, ExitStack() as stack:
        for owner, name, hook in _HOOKS:
            stack.enter_context(replaced(owner, name, here(hook, getattr(owner, name))))
        yield


def _operation_call(
    recorder: Recorder, original: Callable[..., Any], operation: Operation, *args: Any, **kwargs: Any
) -> Any:
    if not isinstance(operation, layers.Layer):
        return original(operation, *args, **kwargs)
    recorder.fired["layer"] += 1
    with recorder.calling(operation):
        return original(operation, *args, **kwargs)


def _dropout_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.Dropout,
    inputs: tf.Tensor,
    training: bool = False,
) -> tf.Tensor:
    if training or not layer.rate or layer.noise_shape is not None or not inputs.dtype.is_floating:
        return original(layer, inputs, training=training)
    recorder.fired["dropout"] += 1
    ratio = tf.constant(layer.rate, tf.float32, name="ratio")
    return mark("Dropout", [inputs, ratio], shape=inputs.shape, dtype=inputs.dtype)


def _batch_normalization(
    recorder: Recorder,
    original: Callable[..., Any],
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    axis: int,
    offset: tf.Tensor | None = None,
    scale: tf.Tensor | None = None,
    epsilon: float = 1e-3,
) -> tf.Tensor:
    layer = recorder.layer
    rank = x.shape.rank
    if not isinstance(layer, layers.BatchNormalization) or rank is None or rank < 2 or axis % rank == 0:
        return original(x, mean, variance, axis, offset=offset, scale=scale, epsilon=epsilon)
    recorder.fired["batch_normalization"] += 1
    axis %= rank
    to_first = [0, axis, *(each for each in range(1, rank) if each != axis)]
    to_source = [to_first.index(each) for each in range(rank)]
    moved = x if axis == 1 else tf.transpose(x, to_first)
    scale = tf.ones(mean.shape, x.dtype) if scale is None else scale
    offset = tf.zeros(mean.shape, x.dtype) if offset is None else offset
    result = mark(
        "BatchNormalization",
        [moved, scale, offset, mean, variance],
        shape=moved.shape,
        dtype=x.dtype,
        attributes={"epsilon": float(epsilon), "momentum": float(layer.momentum)},
    )
    return result if axis == 1 else tf.transpose(result, to_source)


def _layer_normalization(
    recorder: Recorder,
    original: Callable[..., Any],
    x: tf.Tensor,
    gamma: tf.Tensor | None = None,
    beta: tf.Tensor | None = None,
    axis: int | list[int] | tuple[int, ...] = -1,
    epsilon: float | None = None,
    rms_scaling: bool = False,
) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    axes = normalized_axes(x, axis)
    if rms_scaling or axes is None or x.dtype != tf.float32:
        return original(x, gamma, beta, axis, epsilon, rms_scaling)
    recorder.fired["layer_normalization"] += 1
    return normalize("LayerNormalization", x, axes, gamma, beta, epsilon)


def _rms_normalization(
    recorder: Recorder,
    original: Callable[..., Any],
    x: tf.Tensor,
    scale: tf.Tensor | None = None,
    axis: int | list[int] | tuple[int, ...] = -1,
    epsilon: float | None = None,
) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    axes = normalized_axes(x, axis)
    if axes is None or axes != list(range(axes[0], x.shape.rank)) or x.dtype != tf.float32:
        return original(x, scale, axis, epsilon)
    recorder.fired["rms_normalization"] += 1
    return normalize("RMSNormalization", x, axes, scale, None, epsilon)


def _normalization_call(
    recorder: Recorder, original: Callable[..., Any], layer: layers.Normalization, inputs: tf.Tensor
) -> Any:
    """Derive the statistics from the layer's weights inside the graph; Keras keeps eager copies of them."""
    if layer.input_mean is not None or not layer.built:
        return original(layer, inputs)
    recorder.fired["normalization"] += 1
    kept = layer.mean, layer.variance
    layer.finalize_state()
    try:
        return original(layer, inputs)
    finally:
        layer.mean, layer.variance = kept


def _gelu(
    recorder: Recorder, original: Callable[..., Any], x: tf.Tensor, approximate: bool = True
) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        return original(x, approximate=approximate)
    recorder.fired["gelu"] += 1
    return mark(
        "Gelu",
        [x],
        shape=x.shape,
        dtype=x.dtype,
        attributes={"approximate": "tanh" if approximate else "none"},
    )


def _inner_loop(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.RNN,
    sequences: tf.Tensor,
    initial_state: Any,
    mask: Any,
    training: bool = False,
) -> Any:
    found = None if training else recurrence(layer, sequences, initial_state, mask)
    if found is None:
        return original(layer, sequences, initial_state, mask, training=training)
    recorder.fired["recurrence"] += 1
    if getattr(layer, "dropout", 0) or getattr(layer, "recurrent_dropout", 0):
        recorder.notes.append(
            f"the dropout inside {type(layer).__name__} {layer.name!r} is inactive in inference and is not "
            "carried over"
        )
    return found


def _einsum_dense_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.EinsumDense,
    inputs: tf.Tensor,
    training: bool | None = None,
) -> Any:
    found = project(layer, tf.convert_to_tensor(inputs))
    if found is None:
        return original(layer, inputs, training=training)
    recorder.fired["projection"] += 1
    return found


def _embedding_call(
    recorder: Recorder, original: Callable[..., Any], layer: layers.Embedding, inputs: tf.Tensor
) -> Any:
    """Rows of a table; ONNX's Gather counts negative numbers from the end, as Keras does."""
    inputs = tf.convert_to_tensor(inputs)
    if layer.quantization_mode or layer.lora_enabled or not inputs.dtype.is_integer:
        return original(layer, inputs)
    recorder.fired["embedding"] += 1
    table = tf.convert_to_tensor(layer.embeddings)
    return tf.cast(tf.gather(table, inputs), layer.compute_dtype)


def _attention_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.Attention,
    inputs: list[tf.Tensor],
    mask: list[tf.Tensor | None] | None = None,
    training: bool = False,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    found = None
    if not training and not return_attention_scores:
        layer._validate_inputs(inputs=inputs, mask=mask)
        query, value, key = (tf.convert_to_tensor(inputs[index]) for index in (0, 1, len(inputs) - 1))
        present = mask[1] if mask else None
        found = attend_at_once(layer, query, key, value, present, causal=use_causal_mask)
    if found is None:
        return original(
            layer,
            inputs,
            mask=mask,
            training=training,
            return_attention_scores=return_attention_scores,
            use_causal_mask=use_causal_mask,
        )
    recorder.fired["attention"] += 1
    if mask and mask[0] is not None:
        found = tf.where(mask[0][:, :, tf.newaxis], found, tf.constant(0.0))
    return found


def _multi_head_attention(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.MultiHeadAttention,
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    attention_mask: tf.Tensor | None = None,
    training: bool | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    found = None
    if not training and not return_attention_scores:
        found = attend(
            query,
            key,
            value,
            attention_mask,
            scale=layer._inverse_sqrt_key_dim,
            dropout=layer._dropout,
            causal=use_causal_mask,
        )
    if found is None:
        return original(
            layer,
            query,
            key,
            value,
            attention_mask=attention_mask,
            training=training,
            return_attention_scores=return_attention_scores,
            use_causal_mask=use_causal_mask,
        )
    recorder.fired["attention"] += 1
    return found, None


def _grouped_query_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.GroupedQueryAttention,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Leave keys and values unrepeated: the operator shares them among the heads of a group."""
    repeats = layer.num_repeats
    layer.num_repeats = 1
    try:
        return original(layer, *args, **kwargs)
    finally:
        layer.num_repeats = repeats


def _grouped_query_attention(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.GroupedQueryAttention,
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    attention_mask: tf.Tensor | None = None,
    training: bool | None = None,
    use_causal_mask: bool = False,
) -> Any:
    found = None
    if not training and not layer._return_attention_scores:
        found = attend(
            query,
            key,
            value,
            attention_mask,
            scale=layer._inverse_sqrt_head_dim,
            dropout=layer.dropout,
            causal=use_causal_mask,
        )
    if found is None:
        return original(
            layer,
            query,
            repeated(layer, key),
            repeated(layer, value),
            attention_mask=attention_mask,
            training=training,
            use_causal_mask=use_causal_mask,
        )
    recorder.fired["attention"] += 1
    return found, None


def _time_distributed_call(
    recorder: Recorder,
    original: Callable[..., Any],
    layer: layers.TimeDistributed,
    inputs: Any,
    training: Any = None,
    mask: Any = None,
) -> Any:
    found = None if training else fold_time(layer, inputs, mask)
    if found is None:
        return _steps_in_time(original, layer, inputs, training=training, mask=mask)
    recorder.fired["time_distributed"] += 1
    return found


def _steps_in_time(
    original: Callable[..., Any],
    layer: layers.TimeDistributed,
    inputs: Any,
    training: Any = None,
    mask: Any = None,
) -> Any:
    """What Keras does where it knows the number of steps, and what it should do elsewhere."""
    if not tf.is_tensor(inputs) or inputs.shape[1] is not None:
        return original(layer, inputs, training=training, mask=mask)
    return map_over_time(layer, inputs, training, mask)


@contextmanager
def repaired_keras() -> Iterator[None]:
    """Trace a model as Keras computes it eagerly, in this thread: without its fault in TimeDistributed."""
    original = layers.TimeDistributed.call
    thread = threading.get_ident()

    def call(layer: layers.TimeDistributed, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or any_symbolic_tensors(args, kwargs):
            return original(layer, *args, **kwargs)
        return _steps_in_time(original, layer, *args, **kwargs)

    with _LOCK, replaced(layers.TimeDistributed, "call", call):
        yield


_HOOKS: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (Operation, "__call__", _operation_call),
    (layers.Dropout, "call", _dropout_call),
    (layers.Normalization, "call", _normalization_call),
    (layers.Attention, "call", _attention_call),
    (layers.EinsumDense, "call", _einsum_dense_call),
    (layers.Embedding, "call", _embedding_call),
    (layers.GroupedQueryAttention, "call", _grouped_query_call),
    (layers.GroupedQueryAttention, "_compute_attention", _grouped_query_attention),
    (layers.MultiHeadAttention, "_compute_attention", _multi_head_attention),
    (layers.GRU, "inner_loop", _inner_loop),
    (layers.LSTM, "inner_loop", _inner_loop),
    (layers.RNN, "inner_loop", _inner_loop),
    (layers.TimeDistributed, "call", _time_distributed_call),
    (backend_nn, "batch_normalization", _batch_normalization),
    (backend_nn, "gelu", _gelu),
    (ops_nn, "_layer_normalization", _layer_normalization),
    (ops_nn, "_rms_normalization", _rms_normalization),
)
