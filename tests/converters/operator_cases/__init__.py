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
    padding,
    pooling,
    quantised,
    random_numbers,
    recurrent,
    reductions,
    sampling,
    shapes,
    signals,
    texts,
    training,
)
from operator_cases.case import Case

CASES: list[Case] = [
    *convolutions.CASES,
    *padding.CASES,
    *pooling.CASES,
    *normalisation.CASES,
    *linear.CASES,
    *losses.CASES,
    *elementwise.CASES,
    *activations.CASES,
    *shapes.CASES,
    *indexing.CASES,
    *random_numbers.CASES,
    *recurrent.CASES,
    *reductions.CASES,
    *images.CASES,
    *sampling.CASES,
    *signals.CASES,
    *attention.CASES,
    *quantised.CASES,
    *training.CASES,
]

TF_CASES: list[Case] = [*CASES, *images.DECODING, *texts.CASES]
"""These and the cases of operators that PyTorch itself cannot express: it has no files and no text."""
