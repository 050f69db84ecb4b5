"""The table of operator cases that serves both targets."""

from operator_cases import (
    activations,
    attention,
    convolutions,
    elementwise,
    images,
    indexing,
    linear,
    losses,
    normalisation,
    pooling,
    recurrent,
    reductions,
    shapes,
)
from operator_cases.case import Case

CASES: list[Case] = [
    *convolutions.CASES,
    *pooling.CASES,
    *normalisation.CASES,
    *linear.CASES,
    *losses.CASES,
    *elementwise.CASES,
    *activations.CASES,
    *shapes.CASES,
    *indexing.CASES,
    *recurrent.CASES,
    *reductions.CASES,
    *images.CASES,
    *attention.CASES,
]
