"""Signals: Fourier transforms, windows and mel filters."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge.emit.layer import NodeView
from bridge_converters.onnx_to_tf._dtypes import dtype_of
from bridge_converters.onnx_to_tf._table import lowering


def dft_beyond(view: NodeView) -> str | None:
    """Why a Fourier transform cannot be lowered: the size of the last axis decides what it is."""
    shape = view.shape(0)
    if shape is None or shape[-1] is None:
        return "whether its signal is real or complex must be known at conversion"
    return None


@lowering("DFT", since=20, const=("dft_length", "axis"), supports=dft_beyond)
def dft(
    x: tf.Tensor,
    dft_length: int | tf.Tensor | None = None,
    axis: int | tf.Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> tf.Tensor:
    """The discrete Fourier transform of x along an axis; its last axis is the real and imaginary part.

    `onesided` keeps the half of the spectrum that tells of a real signal, or starts from it.
    """
    rank = x.ndim - 1
    place = -2 if axis is None else axis
    order = tf.range(rank)
    if isinstance(place, int):
        place = place % x.ndim
        order = [rank - 1 if i == place else place if i == rank - 1 else i for i in range(rank)]
    else:
        place = tf.cast(place, tf.int32) % x.ndim
        order = tf.tensor_scatter_nd_update(order, [[place], [rank - 1]], [rank - 1, place])
    parts = [tf.transpose(x[..., i], order) for i in range(x.shape[-1])]
    spectrum = fourier(parts, dft_length, inverse, onesided)
    return tf.stack([tf.transpose(tf.cast(part, x.dtype), order) for part in spectrum], -1)


def fourier(
    parts: list[tf.Tensor], dft_length: int | tf.Tensor | None, inverse: int, onesided: int
) -> list[tf.Tensor]:
    """The real and, if there is one, imaginary part of the transform along the last axis of such parts.

    Sums over the whole length are computed in float64.
    """
    wide = tf.float32 if inverse and parts[0].dtype != tf.float64 else tf.float64
    parts = [tf.cast(part, wide) for part in parts]
    size = tf.shape(parts[0])[-1]
    length = 2 * (size - 1) if inverse and onesided else size
    if dft_length is not None:
        length = tf.cast(dft_length, tf.int32)
    if onesided and not inverse and len(parts) == 1:
        spectrum = tf.signal.rfft(parts[0], tf.reshape(length, (1,)))
        return [tf.math.real(spectrum), tf.math.imag(spectrum)]
    signal = tf.complex(parts[0], parts[1] if len(parts) == 2 else tf.zeros_like(parts[0]))
    wanted = length // 2 + 1 if inverse and onesided else length
    kept = tf.minimum(size, wanted)
    signal = tf.pad(signal[..., :kept], [[0, 0]] * (signal.ndim - 1) + [[0, wanted - kept]])
    if inverse and onesided:
        return [tf.signal.irfft(signal, tf.reshape(length, (1,)))]
    spectrum = tf.signal.ifft(signal) if inverse else tf.signal.fft(signal)
    if onesided:
        spectrum = spectrum[..., : length // 2 + 1]
    return [tf.math.real(spectrum), tf.math.imag(spectrum)]


@lowering("STFT", const=("frame_step", "frame_length"), supports=dft_beyond)
def stft(
    x: tf.Tensor,
    frame_step: int | tf.Tensor,
    window: tf.Tensor | None = None,
    frame_length: int | tf.Tensor | None = None,
    *,
    onesided: int = 1,
) -> tf.Tensor:
    """The spectra of windowed frames of x (N, length, real and imaginary part): (N, frames, bins, 2)."""
    if frame_length is not None:
        length = tf.cast(frame_length, tf.int32)
    else:
        length = tf.shape(x)[1] if window is None else tf.shape(window)[0]
    step = tf.cast(frame_step, tf.int32)
    frames = [tf.signal.frame(x[..., i], length, step) for i in range(x.shape[-1])]
    if window is not None:
        frames = [each * window for each in frames]
    return tf.stack([tf.cast(part, x.dtype) for part in fourier(frames, None, 0, onesided)], -1)


@lowering("HannWindow", const=("size",))
def hann_window(size: int | tf.Tensor, *, output_datatype: int = 1, periodic: int = 1) -> tf.Tensor:
    """The raised cosine window that falls to zero at both ends."""
    return tf.cast(cosine_window(size, (0.5, 0.5), periodic), dtype_of(output_datatype))


@lowering("HammingWindow", const=("size",))
def hamming_window(size: int | tf.Tensor, *, output_datatype: int = 1, periodic: int = 1) -> tf.Tensor:
    """The raised cosine window with the standard's 25/46 as its mean."""
    return tf.cast(cosine_window(size, (25 / 46, 21 / 46), periodic), dtype_of(output_datatype))


@lowering("BlackmanWindow", const=("size",))
def blackman_window(size: int | tf.Tensor, *, output_datatype: int = 1, periodic: int = 1) -> tf.Tensor:
    """The window of two cosines."""
    return tf.cast(cosine_window(size, (0.42, 0.5, 0.08), periodic), dtype_of(output_datatype))


def cosine_window(size: int | tf.Tensor, weights: tuple[float, ...], periodic: int) -> tf.Tensor:
    """The alternating sum of weighted cosines over one period, which ends after the window or with it."""
    count = tf.cast(size, tf.float64)
    angle = tf.range(count) * (2 * math.pi) / (count if periodic else count - 1)
    total = tf.zeros_like(angle)
    for k in range(1, len(weights)):
        total = total + (-1) ** k * weights[k] * tf.cos(k * angle)
    return total + weights[0]


@lowering("MelWeightMatrix", const=("num_mel_bins", "dft_length"))
def mel_weight_matrix(
    num_mel_bins: int | tf.Tensor,
    dft_length: int | tf.Tensor,
    sample_rate: tf.Tensor,
    lower_edge_hertz: tf.Tensor,
    upper_edge_hertz: tf.Tensor,
    *,
    output_datatype: int = 1,
) -> tf.Tensor:
    """The triangular filters (spectrum bins, mel bins) that turn a spectrum into one on the mel scale."""
    edges = tf.cast(tf.stack([lower_edge_hertz, upper_edge_hertz]), tf.float64)
    low, high = tf.unstack(2595 / math.log(10) * tf.math.log1p(edges / 700))
    count, length = tf.cast(num_mel_bins, tf.float64), tf.cast(dft_length, tf.float64)
    places = tf.range(count + 2)
    hertz = 700 * (10 ** ((low + places * (high - low) / (count + 2)) / 2595) - 1)
    points = tf.floor((length + 1) * hertz / tf.cast(sample_rate, tf.float64))
    lower, centre, upper = points[:-2], points[1:-1], points[2:]
    bins = tf.range(tf.floor(length / 2) + 1)[:, tf.newaxis]
    rising = (bins - lower) / tf.maximum(centre - lower, 1)
    rising = tf.where(centre == lower, tf.ones_like(rising), rising)
    falling = tf.maximum((upper - bins) / tf.maximum(upper - centre, 1), 0)
    weights = tf.where(bins <= centre, tf.where(bins >= lower, rising, 0), falling)
    return tf.cast(weights, dtype_of(output_datatype))
