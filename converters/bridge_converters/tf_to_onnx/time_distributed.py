"""Keras' TimeDistributed: one layer on every step of a sequence.

Keras 3.15 runs the layer once for each of a known number of steps, and for an unknown number as often as
there are samples in the batch, which is a fault: eagerly the number is always known, in a graph it is not.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras.src import layers

_LAST_AXIS_ONLY = (layers.Activation, layers.Dense, layers.Dropout, layers.Embedding, layers.ReLU)
"""Layers that take any number of axes before the last."""


def fold_time(layer: layers.TimeDistributed, inputs: Any, mask: Any) -> Any:
    """All steps at once, as more samples of a batch; None where the layer may treat samples together."""
    inner = layer.layer
    if not tf.is_tensor(inputs) or not _is_per_sample(inner):
        return None
    takes_mask = mask is not None and inner._call_has_mask_arg
    if type(inner) in _LAST_AXIS_ONLY and not takes_mask:
        return inner(inputs)
    sizes = [size if size is not None else tf.shape(inputs)[axis] for axis, size in enumerate(inputs.shape)]
    options = {"mask": tf.reshape(mask, [-1, *mask.shape[2:]])} if takes_mask else {}
    results = inner(tf.reshape(inputs, [-1, *sizes[2:]]), **options)
    return keras.tree.map_structure(lambda result: _apart(result, sizes[:2], inputs.shape[:2]), results)


def _apart(result: tf.Tensor, sizes: list[Any], known: tf.TensorShape) -> tf.Tensor:
    inner = [
        size if size is not None else tf.shape(result)[axis] for axis, size in enumerate(result.shape) if axis
    ]
    apart = tf.reshape(result, [*sizes, *inner])
    apart.set_shape([*known, *result.shape[1:]])
    return apart


def _is_per_sample(layer: layers.Layer) -> bool:
    """Whether what a layer gives for one sample depends on that sample alone, in inference."""
    for each in layer._flatten_layers():
        if not type(each).__module__.startswith("keras.src.layers") and not isinstance(each, keras.Model):
            return False
        if isinstance(each, keras.Model) and type(each).__name__ not in ("Functional", "Sequential"):
            return False
        if any(not isinstance(operation, layers.Layer) for operation in getattr(each, "operations", ())):
            return False
        axes = getattr(each, "axis", None)
        axes = axes if isinstance(axes, list | tuple) else [axes]
        if isinstance(each, layers.Lambda) or 0 in axes:
            return False
    return True


def map_over_time(layer: layers.TimeDistributed, inputs: tf.Tensor, training: Any, mask: Any) -> tf.Tensor:
    """One step after the other, however many there are."""
    inner = layer.layer
    steps = _swapped(inputs)
    masks = None if mask is None else _swapped(mask)

    def step(index: tf.Tensor) -> Any:
        options = {}
        if inner._call_has_mask_arg and masks is not None:
            options["mask"] = masks[index]
        if inner._call_has_training_arg:
            options["training"] = training
        return inner.call(steps[index], **options)

    shape = inner.compute_output_shape(tuple(steps.shape[1:]))
    spec = tf.TensorSpec(shape, inner.compute_dtype)
    return _swapped(tf.map_fn(step, tf.range(tf.shape(steps)[0]), fn_output_signature=spec))


def _swapped(tensor: tf.Tensor) -> tf.Tensor:
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
