"""Batch normalization as in training, in the graph of a program that was exported for inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten

_FLAGGED = (_aten.batch_norm.default, _aten.native_batch_norm.default, _aten.instance_norm.default)
"""Arguments: input, weight, bias, running mean and variance, whether to use the batch's own, momentum."""
_INFERENCE_ONLY = _aten._native_batch_norm_legit_no_training.default
"""The same without the flag."""
_TRAINABLE = _aten._native_batch_norm_legit.default
_RUNNING_MEAN = 3
_FLAG = 5
_MOMENTUM = 6


@dataclass(frozen=True)
class _Call:
    target: Any
    args: tuple[Any, ...]


class BatchStatistics:
    """The normalizations of a graph (nested ones included) that have running statistics."""

    def __init__(self, module: fx.GraphModule) -> None:
        """Raises NotImplementedError where a momentum of 0 may stand for a cumulative average."""
        self._modules = [each for each in module.modules() if isinstance(each, fx.GraphModule)]
        self._calls: list[tuple[fx.Node, _Call, _Call]] = []
        for each in self._modules:
            for node in each.graph.nodes:
                training = _training_call(node)
                if training is not None:
                    self._calls.append((node, _Call(node.target, node.args), training))

    def use(self, *, batch: bool) -> None:
        """Normalize by the statistics of the batch and update the running ones, or by the running ones."""
        for node, inference, training in self._calls:
            call = training if batch else inference
            node.target, node.args = call.target, call.args
        for module in self._modules:
            module.recompile()


def _training_call(node: fx.Node) -> _Call | None:
    """How a node is written in training; None if it has no running statistics to use."""
    if node.target in _FLAGGED:
        if node.args[_FLAG] or node.args[_RUNNING_MEAN] is None:
            return None
        target = node.target
        args = (*node.args[:_FLAG], True, *node.args[_FLAG + 1 :])
    elif node.target is _INFERENCE_ONLY:
        target = _TRAINABLE
        args = (*node.args[:_FLAG], True, *node.args[_FLAG:])
    else:
        return None
    if args[_MOMENTUM] == 0:
        raise NotImplementedError(
            f"{node.name} has the momentum 0, by which PyTorch's inference graphs also write a cumulative "
            "average (momentum=None): how training updates its running statistics is unknown"
        )
    return _Call(target, args)
