"""Detection: the choice among overlapping boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering

Scalar = int | float | tuple[int, ...] | tuple[float, ...]


@lowering("NonMaxSuppression", const=("max_output_boxes_per_class", "iou_threshold", "score_threshold"))
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Scalar | Tensor | None = None,
    iou_threshold: Scalar | Tensor | None = None,
    score_threshold: Scalar | Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """The (batch, class, box) of the boxes that overlap with none of a higher score in their class.

    Boxes are (N, boxes, 4), scores (N, classes, boxes). Of equal scores the first comes first; an
    overlap of exactly the threshold is none.
    """
    limit = min(int(first_number(max_output_boxes_per_class, 0)), boxes.shape[1])
    if center_point_box:
        low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    else:
        low, high = (
            torch.minimum(boxes[..., :2], boxes[..., 2:]),
            torch.maximum(boxes[..., :2], boxes[..., 2:]),
        )
    low, high = (each.unsqueeze(1).expand(-1, scores.shape[1], -1, -1) for each in (low, high))
    area = (high - low).prod(-1)
    left = torch.ones_like(scores, dtype=torch.bool)
    if score_threshold is not None:
        left = scores > first_number(score_threshold, 0.0)
    most_overlap = first_number(iou_threshold, 0.0)
    picks = [scores.new_zeros((*scores.shape[:2], 0), dtype=torch.long)]
    found = [left[..., :0]]
    while len(picks) <= limit and bool(left.any()):
        best = torch.where(left, scores, -math.inf).amax(-1, keepdim=True)
        pick = ((scores == best) & left).int().argmax(-1, keepdim=True)
        picks.append(pick)
        found.append(left.any(-1, keepdim=True))
        corner = pick.unsqueeze(-1).expand(-1, -1, -1, 2)
        shared = torch.minimum(high, high.gather(2, corner)) - torch.maximum(low, low.gather(2, corner))
        common = torch.clamp(shared, min=0).prod(-1)
        union = area + area.gather(2, pick) - common
        overlaps = (common > 0) & (area > 0) & (area.gather(2, pick) > 0) & (common / union > most_overlap)
        left = (left & ~overlaps).scatter(2, pick, False)
    chosen = torch.cat(found, 2).nonzero()
    return torch.cat([chosen[:, :2], torch.cat(picks, 2)[chosen.unbind(1)].unsqueeze(1)], 1)


def first_number(value: Scalar | Tensor | None, default: float) -> float | Tensor:
    """The number of an input that is a scalar or a vector of one; the default where it is absent or empty."""
    if value is None:
        return default
    if isinstance(value, Tensor):
        return value.reshape(-1)[0]
    return (value[0] if value else default) if isinstance(value, tuple) else value
