"""Losses of classification."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering


@lowering("NegativeLogLikelihoodLoss")
def nll_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probabilities x (N, C, ...) of the target classes (N, ...)."""
    if ignore_index is None:
        return F.nll_loss(x, target.long(), weight, reduction=reduction)
    return F.nll_loss(x, target.long(), weight, ignore_index=ignore_index, reduction=reduction)


@lowering("SoftmaxCrossEntropyLoss")
def cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """The cross entropy of the classes' scores (N, C, ...) at the labels (N, ...), and log-probabilities."""
    if outputs == 1 and ignore_index is None:
        return F.cross_entropy(scores, labels.long(), weights, reduction=reduction)
    ignored = -100 if ignore_index is None else ignore_index
    if outputs == 1:
        return F.cross_entropy(scores, labels.long(), weights, ignore_index=ignored, reduction=reduction)
    log_prob = F.log_softmax(scores, 1)
    return F.nll_loss(log_prob, labels.long(), weights, ignore_index=ignored, reduction=reduction), log_prob
