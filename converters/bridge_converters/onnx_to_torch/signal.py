"""Signals: Fourier transforms, windows and mel filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._dtypes import dtype_of
from bridge_converters.onnx_to_torch._table import lowering


@lowering("DFT", since=20, const=("dft_length", "axis"))
def dft(
    x: Tensor,
    dft_length: int | Tensor | None = None,
    axis: int | Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """The discrete Fourier transform of x along an axis; its last axis is the real and imaginary part.

    `onesided` keeps the half of the spectrum that tells of a real signal, or starts from it.
    """
    place = -2 if axis is None else int(axis)
    return fourier(x, None if dft_length is None else int(dft_length), place % x.ndim, inverse, onesided)


def fourier(x: Tensor, length: int | None, axis: int, inverse: int, onesided: int) -> Tensor:
    """The transform along an axis of a tensor whose last axis is the real and imaginary part."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    signal = wide.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(wide.contiguous())
    if inverse and onesided:
        real: Tensor = torch.fft.irfft(signal, length, axis)
        return real.unsqueeze(-1).to(x.dtype)
    if inverse:
        spectrum = torch.fft.ifft(signal, length, axis)
    elif onesided and not signal.is_complex():
        spectrum = torch.fft.rfft(signal, length, axis)
    else:
        spectrum = torch.fft.fft(signal, length, axis)
        if onesided:
            spectrum = spectrum.narrow(axis, 0, spectrum.shape[axis] // 2 + 1)
    return torch.view_as_real(spectrum.resolve_conj()).to(x.dtype)


@lowering("STFT", const=("frame_step", "frame_length"))
def stft(
    x: Tensor,
    frame_step: int | Tensor,
    window: Tensor | None = None,
    frame_length: int | Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """The spectra of windowed frames of x (N, length, real and imaginary part): (N, frames, bins, 2)."""
    if frame_length is not None:
        length = int(frame_length)
    else:
        length = x.shape[1] if window is None else window.shape[0]
    frames = x.unfold(1, length, int(frame_step)).transpose(2, 3)
    if window is not None:
        frames = frames * window.unsqueeze(-1)
    return fourier(frames, None, 2, 0, onesided)


@lowering("HannWindow", const=("size",))
def hann_window(size: int | Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """The raised cosine window that falls to zero at both ends."""
    return cosine_window(size, (0.5, 0.5), periodic).to(dtype_of(output_datatype))


@lowering("HammingWindow", const=("size",))
def hamming_window(size: int | Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """The raised cosine window with the standard's 25/46 as its mean."""
    return cosine_window(size, (25 / 46, 21 / 46), periodic).to(dtype_of(output_datatype))


@lowering("BlackmanWindow", const=("size",))
def blackman_window(size: int | Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """The window of two cosines."""
    return cosine_window(size, (0.42, 0.5, 0.08), periodic).to(dtype_of(output_datatype))


def cosine_window(size: int | Tensor, weights: tuple[float, ...], periodic: int) -> Tensor:
    """The alternating sum of weighted cosines over one period, which ends after the window or with it."""
    device = size.device if isinstance(size, Tensor) else None
    count = int(size)
    places = torch.arange(count, dtype=torch.float64, device=device)
    angle = places * (2 * math.pi) / (count if periodic else count - 1)
    total = torch.zeros_like(angle)
    for k in range(1, len(weights)):
        total = total + (-1) ** k * weights[k] * torch.cos(k * angle)
    return total + weights[0]


@lowering("MelWeightMatrix", const=("num_mel_bins", "dft_length"))
def mel_weight_matrix(
    num_mel_bins: int | Tensor,
    dft_length: int | Tensor,
    sample_rate: Tensor,
    lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor,
    *,
    output_datatype: int = 1,
) -> Tensor:
    """The triangular filters (spectrum bins, mel bins) that turn a spectrum into one on the mel scale."""
    count, length = int(num_mel_bins), int(dft_length)
    low, high = (2595 * torch.log10(1 + each.double() / 700) for each in (lower_edge_hertz, upper_edge_hertz))
    places = torch.arange(count + 2, dtype=torch.float64, device=low.device)
    hertz = 700 * (10 ** ((low + places * (high - low) / (count + 2)) / 2595) - 1)
    lower, centre, upper = torch.floor((length + 1) * hertz / sample_rate).unfold(0, count, 1)
    bins = torch.arange(length // 2 + 1, dtype=torch.float64, device=low.device).unsqueeze(1)
    rising = torch.where(centre == lower, 1.0, (bins - lower) / torch.clamp(centre - lower, min=1))
    falling = (upper - bins) / torch.clamp(upper - centre, min=1)
    weights = torch.where(
        bins <= centre, torch.where(bins >= lower, rising, 0.0), torch.clamp(falling, min=0)
    )
    return weights.to(dtype_of(output_datatype))
