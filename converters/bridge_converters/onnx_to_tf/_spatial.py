"""Window arithmetic that convolution and pooling share.

Data is (N, spatial..., C); pads are in ONNX's order, all begins, then all ends. Sizes are Python
numbers where they are known while tracing and int32 scalars where they are not.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf


def sizes_of(x: tf.Tensor) -> list[int]:
    """The sizes of all axes."""
    return [tf.shape(x)[i] if n is None else n for i, n in enumerate(x.shape)]


def even(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all axes are equal."""
    return values[0] if len(set(values)) == 1 else values


def same_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
) -> tuple[int, ...]:
    """The pads that give an output of ceil(size / stride); an odd one goes to the end for SAME_UPPER."""
    totals = [
        at_least_zero((-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    begins = [total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals]
    return (*begins, *(total - begin for total, begin in zip(totals, begins, strict=True)))


def at_least_zero(number: int) -> int:
    return max(number, 0) if isinstance(number, int) else tf.maximum(number, 0)


def pad_spatial(x: tf.Tensor, pads: Sequence[int], value: float = 0) -> tf.Tensor:
    """Pad (or crop, where negative) the spatial axes with a constant."""
    rank = len(pads) // 2
    for i, (begin, end) in enumerate(zip(pads[:rank], pads[rank:], strict=True)):
        before = (slice(None),) * (i + 1)
        if isinstance(begin, int) and begin < 0:
            x = x[(*before, slice(-begin, None))]
        if isinstance(end, int) and end < 0:
            x = x[(*before, slice(None, end))]
    amounts = [[at_least_zero(pads[i]), at_least_zero(pads[i + rank])] for i in range(rank)]
    return tf.pad(x, [[0, 0], *amounts, [0, 0]], constant_values=tf.cast(value, x.dtype))


def window_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: int,
) -> tuple[int, ...]:
    """The pads with which a pooling without rounding up visits exactly ONNX's windows.

    With `ceil_mode` a last partial window counts if it starts inside the input or its begin padding.
    """
    rank = len(sizes)
    ends = []
    for i in range(rank):
        reach = (kernel[i] - 1) * dilations[i] + 1
        room = sizes[i] + pads[i] + pads[i + rank] - reach
        count = room // strides[i] + 1
        if ceil_mode:
            inside = -(-(sizes[i] + pads[i]) // strides[i])
            rounded = -(-room // strides[i]) + 1
            count = min(rounded, inside) if isinstance(inside, int) else tf.minimum(rounded, inside)
        ends.append((count - 1) * strides[i] + reach - sizes[i] - pads[i])
    return (*pads[:rank], *ends)


def crop_to_windows(x: tf.Tensor, pads: Sequence[int], value: float, kernel: Sequence[int]) -> tf.Tensor:
    """x padded by `window_pads`; without native rounding a negative end needs no crop."""
    rank = len(kernel)
    return pad_spatial(x, (*pads[:rank], *(at_least_zero(end) for end in pads[rank:])), value)


def window_taps(x: tf.Tensor, axis: int, kernel: int, stride: int, dilation: int) -> list[tf.Tensor]:
    """For each place in a window along an axis, the elements that all complete windows have there."""
    reach = (kernel - 1) * dilation
    before = (slice(None),) * axis
    return [x[(*before, slice(k * dilation, k * dilation - reach or None, stride))] for k in range(kernel)]


def window_fold(
    x: tf.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    combine: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Combine the elements of all complete windows, one spatial axis after the other."""
    for i in range(len(kernel)):
        first, *others = window_taps(x, i + 1, kernel[i], strides[i], dilations[i])
        for other in others:
            first = combine(first, other)
        x = first
    return x
