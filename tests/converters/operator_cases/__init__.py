"""The table of operator cases that serves both targets."""

from operator_cases import (
    activations,
    convolutions,
    elementwise,
    images,
    indexing,
    linear,
    normalisation,
    pooling,
    reductions,
    shapes,
)
from operator_cases.case import Case

CASES: list[Case] = [
    *convolutions.CASES,
    *pooling.CASES,
    *normalisation.CASES,
    *linear.CASES,
    *elementwise.CASES,
    *activations.CASES,
    *shapes.CASES,
    *indexing.CASES,
    *reductions.CASES,
    *images.CASES,
]
