"""Elementwise arithmetic."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("Add")
def add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x + y."""
    return x + y


@lowering("Sub")
def sub(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x - y."""
    return x - y


@lowering("Mul")
def mul(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x * y."""
    return x * y


@lowering("Div")
def div(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x / y, truncated towards zero for integers."""
    if tf.as_dtype(x.dtype).is_integer:
        return tf.truncatediv(x, y)
    return x / y


@lowering("Pow")
def pow_(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x to the power y, in the dtype of x."""
    if tf.as_dtype(x.dtype).is_floating and tf.as_dtype(y.dtype).is_floating:
        return x**y
    if tf.as_dtype(x.dtype).is_floating:
        return x ** tf.cast(y, x.dtype)
    if tf.as_dtype(y.dtype).is_floating:
        return tf.cast(tf.cast(x, tf.float64) ** tf.cast(y, tf.float64), x.dtype)
    return tf.cast(tf.cast(x, tf.int64) ** tf.cast(y, tf.int64), x.dtype)


@lowering("Mod")
def mod(x: tf.Tensor, y: tf.Tensor, *, fmod: int = 0) -> tf.Tensor:
    """The remainder, with the sign of y, or with the sign of x if `fmod`."""
    if fmod and tf.as_dtype(x.dtype).is_floating:
        return tf.sign(x) * tf.math.floormod(tf.abs(x), tf.abs(y))
    if fmod:
        return tf.truncatemod(x, y)
    return x % y


@lowering("Sum")
def sum_(*inputs: tf.Tensor) -> tf.Tensor:
    """The sum of all inputs, broadcast."""
    if len(inputs) == 2:
        return inputs[0] + inputs[1]
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total


@lowering("Mean")
def mean(*inputs: tf.Tensor) -> tf.Tensor:
    """The mean of all inputs, broadcast."""
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total / len(inputs)


@lowering("Min")
def min_(*inputs: tf.Tensor) -> tf.Tensor:
    """The elementwise minimum of all inputs, broadcast."""
    if len(inputs) == 2:
        return tf.minimum(inputs[0], inputs[1])
    return smallest(*inputs)


def smallest(*inputs: tf.Tensor) -> tf.Tensor:
    """The elementwise minimum of any number of tensors."""
    result = inputs[0]
    for each in inputs[1:]:
        result = tf.minimum(result, each)
    return result


@lowering("Max")
def max_(*inputs: tf.Tensor) -> tf.Tensor:
    """The elementwise maximum of all inputs, broadcast."""
    if len(inputs) == 2:
        return tf.maximum(inputs[0], inputs[1])
    return largest(*inputs)


def largest(*inputs: tf.Tensor) -> tf.Tensor:
    """The elementwise maximum of any number of tensors."""
    result = inputs[0]
    for each in inputs[1:]:
        result = tf.maximum(result, each)
    return result


@lowering("Clip", const=("low", "high"))
def clip(
    x: tf.Tensor, low: float | tf.Tensor | None = None, high: float | tf.Tensor | None = None
) -> tf.Tensor:
    """min(max(x, low), high); a bound that is left out does not apply."""
    if isinstance(low, int | float) and isinstance(high, int | float) and low == 0 and high == 6:
        return tf.nn.relu6(x)
    if isinstance(low, int | float) and isinstance(high, int | float) and low <= high:
        return tf.clip_by_value(x, low, high)
    if low is None:
        return x if high is None else tf.minimum(x, high)
    if high is None:
        return tf.maximum(x, low)
    return tf.minimum(tf.maximum(x, low), high)


@lowering("Neg")
def neg(x: tf.Tensor) -> tf.Tensor:
    """-x."""
    return -x


@lowering("Abs")
def abs_(x: tf.Tensor) -> tf.Tensor:
    """The absolute value."""
    if tf.as_dtype(x.dtype).is_unsigned:
        return x
    return tf.abs(x)


@lowering("Reciprocal")
def reciprocal(x: tf.Tensor) -> tf.Tensor:
    """1 / x."""
    return tf.math.reciprocal(x)


@lowering("Sqrt")
def sqrt(x: tf.Tensor) -> tf.Tensor:
    """The square root."""
    return tf.sqrt(x)


@lowering("Exp")
def exp(x: tf.Tensor) -> tf.Tensor:
    """e to the power x."""
    return tf.exp(x)


@lowering("Log")
def log(x: tf.Tensor) -> tf.Tensor:
    """The natural logarithm."""
    return tf.math.log(x)


@lowering("Erf")
def erf(x: tf.Tensor) -> tf.Tensor:
    """The error function."""
    return tf.math.erf(x)


@lowering("Sin")
def sin(x: tf.Tensor) -> tf.Tensor:
    """The sine."""
    return tf.sin(x)


@lowering("Cos")
def cos(x: tf.Tensor) -> tf.Tensor:
    """The cosine."""
    return tf.cos(x)


@lowering("Tan")
def tan(x: tf.Tensor) -> tf.Tensor:
    """The tangent."""
    return tf.tan(x)


@lowering("Asin")
def asin(x: tf.Tensor) -> tf.Tensor:
    """The inverse sine."""
    return tf.asin(x)


@lowering("Acos")
def acos(x: tf.Tensor) -> tf.Tensor:
    """The inverse cosine."""
    return tf.acos(x)


@lowering("Atan")
def atan(x: tf.Tensor) -> tf.Tensor:
    """The inverse tangent."""
    return tf.atan(x)


@lowering("Sinh")
def sinh(x: tf.Tensor) -> tf.Tensor:
    """The hyperbolic sine."""
    return tf.sinh(x)


@lowering("Cosh")
def cosh(x: tf.Tensor) -> tf.Tensor:
    """The hyperbolic cosine."""
    return tf.cosh(x)


@lowering("Asinh")
def asinh(x: tf.Tensor) -> tf.Tensor:
    """The inverse hyperbolic sine."""
    return tf.asinh(x)


@lowering("Acosh")
def acosh(x: tf.Tensor) -> tf.Tensor:
    """The inverse hyperbolic cosine."""
    return tf.acosh(x)


@lowering("Atanh")
def atanh(x: tf.Tensor) -> tf.Tensor:
    """The inverse hyperbolic tangent."""
    return tf.atanh(x)


@lowering("Floor")
def floor(x: tf.Tensor) -> tf.Tensor:
    """The largest integer not above x."""
    return tf.floor(x)


@lowering("Ceil")
def ceil(x: tf.Tensor) -> tf.Tensor:
    """The smallest integer not below x."""
    return tf.math.ceil(x)


@lowering("Round")
def round_(x: tf.Tensor) -> tf.Tensor:
    """The nearest integer, halves to the even one."""
    return tf.round(x)


@lowering("Sign")
def sign(x: tf.Tensor) -> tf.Tensor:
    """-1, 0 or 1."""
    if tf.as_dtype(x.dtype).is_unsigned:
        return tf.cast(x > 0, x.dtype)
    return tf.sign(x)
