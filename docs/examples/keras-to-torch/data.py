"""Images of digits, drawn and never downloaded. Needs NumPy only, so that both code bases share it."""

from __future__ import annotations

import numpy as np

SIDE = 8
CLASSES = 10
_GLYPHS = (
    "111101101101111",
    "010110010010111",
    "111001111100111",
    "111001111001111",
    "101101111001001",
    "111100111001111",
    "111100111101111",
    "111001010010010",
    "111101111101111",
    "111101111001111",
)
"""The ten digits, three columns wide and five rows high."""


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (count, 8, 8, 1) of float32, contrast and place at random, and their labels (count)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = np.zeros((count, SIDE, SIDE, 1), np.float32)
    for image, label in zip(images, labels, strict=True):
        glyph = np.array(list(_GLYPHS[label]), np.float32).reshape(5, 3)
        top, left = rng.integers(0, SIDE - 5 + 1), rng.integers(0, SIDE - 3 + 1)
        image[top : top + 5, left : left + 3, 0] = glyph * rng.uniform(0.6, 1.4)
    return images + rng.normal(0, 0.15, images.shape).astype(np.float32), labels


def inputs():
    """Sets of images for equivalence checks, as `--inputs data:inputs` takes them."""
    for seed in (100, 101, 102):
        yield {"image": digits(16, seed)[0]}
