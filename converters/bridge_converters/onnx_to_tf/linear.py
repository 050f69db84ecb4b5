"""Products of matrices."""

from __future__ import annotations

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_tf._table import layer_rule, lowering


@lowering("Gemm")
def gemm(
    a: tf.Tensor,
    b: tf.Tensor,
    c: tf.Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> tf.Tensor:
    """alpha * a @ b + beta * c for matrices, c broadcast."""
    product = (tf.transpose(a) if transA else a) @ (tf.transpose(b) if transB else b)
    product = product if alpha == 1.0 else alpha * product
    if c is None:
        return product
    if c.ndim == 2 and c.shape[0] == 1:
        # TensorFlow fuses the sum of a product and one row, and then wants the row to be a vector.
        c = c[0]
    return product + (c if beta == 1.0 else beta * c)


@lowering("MatMul")
def matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The matrix product of numpy.matmul."""
    if a.shape.rank == 1 and b.shape.rank == 1:
        return tf.tensordot(a, b, 1)
    if b.shape.rank == 1:
        return tf.linalg.matvec(a, b)
    if a.shape.rank == 1:
        return tf.squeeze(tf.expand_dims(a, 0) @ b, -2)
    return a @ b


@lowering("Linear", domain="bridge")
def linear(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x @ weight + bias along the last axis."""
    return x @ weight + bias


@lowering("Einsum")
def einsum(*inputs: tf.Tensor, equation: str) -> tf.Tensor:
    """The sum of products that an equation in Einstein notation describes."""
    formula = with_output(equation)
    if inputs[0].dtype.is_integer:
        return tf.cast(tf.einsum(formula, *(tf.cast(x, tf.int64) for x in inputs)), inputs[0].dtype)
    if "..." in formula and inputs[0].dtype == tf.float16:  # TensorFlow's kernel is wrong on these
        return tf.cast(tf.einsum(formula, *(tf.cast(x, tf.float32) for x in inputs)), tf.float16)
    return tf.einsum(formula, *inputs)


def with_output(equation: str) -> str:
    """An equation with its output written out: the indices that appear once, in alphabetical order."""
    if "->" in equation:
        return equation
    free = sorted(each for each in set(equation) if each.isalpha() and equation.count(each) == 1)
    return f"{equation}->{'...' if '.' in equation else ''}{''.join(free)}"


@lowering("Det")
def det(x: tf.Tensor) -> tf.Tensor:
    """The determinants of the matrices in the last two axes."""
    if x.dtype == tf.float16 or x.dtype == tf.bfloat16:
        return tf.cast(tf.linalg.det(tf.cast(x, tf.float32)), x.dtype)
    return tf.linalg.det(x)


@layer_rule("Gemm")
def gemm_layer(view: NodeView) -> Layer | None:
    """A product with a trained matrix, with a trained bias or none."""
    if view.attr("transA", 0) or view.attr("alpha", 1.0) != 1.0 or not view.is_trained(1):
        return None
    weight, bias = view.input(1), view.input(2)
    assert weight is not None
    moves = (("transpose", {"perm": (1, 0)}),) if view.attr("transB", 0) else ()
    rows, columns = view.known_shape(1)
    inputs, units = (columns, rows) if view.attr("transB", 0) else (rows, columns)
    tensors = {"kernel": LayerTensor(weight, moves)}
    if bias is not None and not view.all_equal(2, 0):
        if not view.is_trained(2) or view.attr("beta", 1.0) != 1.0:
            return None
        shape = view.known_shape(2)
        if shape not in ((units,), (1, units)):
            return None
        flat = (("reshape", {"shape": (units,)}),) if len(shape) == 2 else ()
        tensors["bias"] = LayerTensor(bias, flat)
    arguments = without({"use_bias": "bias" in tensors}, {"use_bias": True})
    return Layer("keras.layers.Dense", (units,), arguments, tensors, build_shape=(None, inputs))


@layer_rule("MatMul")
def matmul_layer(view: NodeView) -> Layer | None:
    """A product of an input of two or more axes with a trained matrix."""
    weight, shape = view.input(1), view.shape(0)
    if weight is None or not view.is_trained(1) or len(view.known_shape(1)) != 2:
        return None
    if shape is None or len(shape) < 2:
        return None
    inputs, units = view.known_shape(1)
    return Layer(
        "keras.layers.Dense",
        (units,),
        {"use_bias": False},
        {"kernel": LayerTensor(weight)},
        build_shape=(*shape[:-1], inputs),
    )


@layer_rule("Linear", domain="bridge")
def linear_layer(view: NodeView) -> Layer | None:
    """A product of an input of two or more axes with a trained matrix, and a trained bias."""
    weight, bias, shape = view.input(1), view.input(2), view.shape(0)
    assert weight is not None
    assert bias is not None
    if shape is None or len(shape) < 2:
        return None
    inputs, units = view.known_shape(1)
    tensors = {"kernel": LayerTensor(weight), "bias": LayerTensor(bias)}
    return Layer("keras.layers.Dense", (units,), {}, tensors, build_shape=(*shape[:-1], inputs))
