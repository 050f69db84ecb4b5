"""Classical machine learning, in the form that `bridge.passes.classical` gives it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering


@lowering("TreeEnsemble", domain="bridge")
def tree_ensemble(
    x: Tensor,
    roots: Tensor,
    features: Tensor,
    splits: Tensor,
    true_nodes: Tensor,
    false_nodes: Tensor,
    weights: Tensor,
    accepts: Tensor | None = None,
    missing_is_true: Tensor | None = None,
    *,
    depth: int,
    aggregate: str = "SUM",
    comparison: str = "BRANCH_LEQ",
) -> Tensor:
    """The weights at the leaves that the rows of x reach in all trees: the sum, mean, least or greatest.

    All rows walk down all trees at once. Nodes are numbered over all trees, leaves first; a leaf leads to
    itself. `accepts` says for each node whether a feature that is less than, equal to, or greater than the
    split takes the true branch, where not all nodes make the same comparison.
    """
    node = roots.expand(x.shape[0], -1)
    for _ in range(depth):
        value, split = torch.gather(x, 1, features[node]), splits[node]
        if accepts is not None:
            order = (value > split).long() - (value < split).long() + 1
            goes = accepts[node, order] & ~torch.isnan(value)
        else:
            goes = value < split if comparison == "BRANCH_LT" else value <= split
        if missing_is_true is not None:
            goes = goes | (missing_is_true[node] & torch.isnan(value))
        node = torch.where(goes, true_nodes[node], false_nodes[node])
    found = weights[node]
    if aggregate == "SUM":
        return found.sum(1)
    if aggregate == "AVERAGE":
        return found.mean(1)
    return found.amin(1) if aggregate == "MIN" else found.amax(1)


@lowering("LookUp", domain="bridge")
def look_up(x: Tensor, keys: Tensor, values: Tensor, default: Tensor) -> Tensor:
    """The value that belongs to the key (of ascending ones) that each element equals, or the default."""
    place = torch.searchsorted(keys, x).clamp(max=keys.shape[0] - 1)
    return torch.where(keys[place] == x, values[place], default)


@lowering("SoftmaxZero", domain="bridge")
def softmax_zero(x: Tensor) -> Tensor:
    """Softmax over the elements of each row that are not zero; zeros stay."""
    counts = torch.abs(x) > 1e-7
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    powers = torch.where(counts, powers, torch.zeros_like(x))
    return powers / powers.sum(-1, keepdim=True)


@lowering("Probit", domain="bridge")
def probit(x: Tensor) -> Tensor:
    """The quantile function of the normal distribution."""
    quantile: Tensor = torch.special.ndtri(x)
    return quantile


@lowering("CoupledProbabilities", domain="bridge")
def coupled_probabilities(decisions: Tensor, slopes: Tensor, offsets: Tensor, *, classes: int) -> Tensor:
    """Class probabilities from the decision values of all pairs of classes.

    Platt's sigmoids give the probability of each pair's first class; the iteration of libsvm, which ends
    early for a row that is close enough, gives those that fit them best (Wu, Lin and Weng 2004, method 2).
    """
    wins = torch.sigmoid(-(decisions * slopes + offsets)).clamp(1e-7, 1 - 1e-7)
    empty = torch.zeros_like(wins[:, 0])
    rows = [[empty] * classes for _ in range(classes)]
    places = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    for (i, j), won in zip(places, wins.unbind(1), strict=True):
        rows[i][j], rows[j][i] = won, 1 - won
    pairs = torch.stack([torch.stack(row, 1) for row in rows], 1)
    form = torch.diag_embed((pairs * pairs).sum(1)) - pairs * pairs.mT
    p = torch.full_like(pairs[:, 0], 1 / classes)
    for _ in range(100):
        slope = (form @ p[..., None]).squeeze(-1)
        value = (p * slope).sum(1)
        active = (slope - value[:, None]).abs().amax(1) >= 0.005 / classes
        for t in range(classes):
            step = torch.where(active, (value - slope[:, t]) / form[:, t, t], torch.zeros_like(value))
            p = (p + step[:, None] * torch.eye(classes, device=p.device)[t]) / (1 + step)[:, None]
            value = (value + step * (step * form[:, t, t] + 2 * slope[:, t])) / (1 + step) ** 2
            slope = (slope + step[:, None] * form[:, t]) / (1 + step)[:, None]
    return p


@lowering("NgramCounts", domain="bridge")
def ngram_counts(
    tokens: Tensor,
    ngrams: Tensor,
    columns: Tensor,
    *,
    shortest: int,
    longest: int,
    skips: int,
    base: int,
    width: int,
    at_most_one: int = 0,
) -> Tensor:
    """How often each n-gram occurs in each row of tokens, whose steps may skip as many tokens each.

    Tokens count from 1, 0 is one that no n-gram has. `ngrams` are ascending; an n-gram is its tokens as
    digits to a base. Each counts in its column.
    """
    size = tokens.shape[1]
    padded = F.pad(tokens, (0, (longest - 1) * (skips + 1)))
    counts = torch.zeros(tokens.shape[0], width, device=tokens.device)
    for length in range(shortest, longest + 1):
        for step in range(1, skips + 2 if length > 1 else 2):
            parts = [padded[:, i * step : i * step + size] for i in range(length)]
            code = torch.zeros_like(parts[0])
            known = torch.ones_like(parts[0], dtype=torch.bool)
            for part in parts:
                code, known = code * base + part, known & (part > 0)
            place = torch.searchsorted(ngrams, code).clamp(max=ngrams.shape[0] - 1)
            found = known & (ngrams[place] == code)
            counts = counts.scatter_add(1, columns[place], found.to(counts.dtype))
    return counts.clamp(max=1.0) if at_most_one else counts
