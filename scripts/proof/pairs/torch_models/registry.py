"""Registration, initialisation and saving of the PyTorch versions."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from scripts.proof.pairs.catalog import PAIRS, Pair

Factory = TypeVar("Factory", bound=Callable[[], nn.Module])
_FACTORIES: dict[str, Callable[[], nn.Module]] = {}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SEED = 20
_LENGTH = 9
_CALIBRATION_BATCH = 32


def torch_model(name: str) -> Callable[[Factory], Factory]:
    """Register the PyTorch version of a pair: a module class or a function that makes a module."""

    def register(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise ValueError(f"{name!r} is registered twice")
        _FACTORIES[name] = factory
        return factory

    return register


def names() -> set[str]:
    """The names under which PyTorch versions are registered."""
    for family in {pair.family for pair in PAIRS.values()}:
        importlib.import_module(f"scripts.proof.pairs.torch_models.{family}")
    return set(_FACTORIES)


def make(name: str) -> nn.Module:
    """The PyTorch version in evaluation mode, with seeded weights and calibrated running statistics.

    Norm scales and shifts are random and the running statistics those of real activations: with the ones
    and zeros of a fresh network many faults would change nothing.
    """
    pair = PAIRS[name]
    importlib.import_module(f"scripts.proof.pairs.torch_models.{pair.family}")
    torch.manual_seed(_SEED + zlib.crc32(pair.defined_as.encode()) % 1000)
    module = _FACTORIES[pair.defined_as]()
    _perturb_norms(module)
    _calibrate(module, pair)
    return module.eval()


def _perturb_norms(module: nn.Module) -> None:
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)):
                if each.weight is not None:
                    each.weight.uniform_(0.6, 1.4)
                if each.bias is not None:
                    each.bias.normal_(0.0, 0.2)


def _calibrate(module: nn.Module, pair: Pair) -> None:
    """Set running statistics to averages over a few batches; Dropout does not take part."""
    layers = [each for each in module.modules() if isinstance(each, _BATCH_NORMS)]
    if not layers:
        return
    module.eval()
    for each in layers:
        each.reset_running_stats()
        each.train()
    momenta = [each.momentum for each in layers]
    for each in layers:
        each.momentum = None  # a cumulative average
    with torch.no_grad():
        for index in range(2):
            module(*example(pair, _CALIBRATION_BATCH, index))
    for each, momentum in zip(layers, momenta, strict=True):
        each.momentum = momentum


def example(pair: Pair, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Seeded inputs of a pair."""
    generator = np.random.default_rng(seed)
    tensors = []
    for each in pair.inputs:
        sizes = {"batch": batch, "length": _LENGTH}
        shape = [size if isinstance(size, int) else sizes[size] for size in each.shape]
        array: Any
        if each.limit:
            array = generator.integers(0, each.limit, shape)
        elif each.name == "mask":
            array = generator.random(shape) < 0.75
            array[:, :1] = True
        else:
            array = generator.standard_normal(shape)
        tensors.append(torch.from_numpy(np.asarray(array).astype(each.dtype)))
    return tuple(tensors)


def save(module: nn.Module, pair: Pair, path: Path) -> None:
    """Write a module as an exported program (.pt2); the axes that the pair calls dynamic are dynamic."""
    dims: dict[str, Any] = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("length")}
    axes = [
        {axis: dims[size] for axis, size in enumerate(each.shape) if isinstance(size, str)}
        for each in pair.inputs
    ]
    program = torch.export.export(module, example(pair), dynamic_shapes=tuple(axes))
    torch.export.save(program, path)


def write(name: str, directory: Path) -> None:
    """Write `model.pt2` and `weights.npz` (the state dict) of a pair."""
    module = make(name)
    save(module, PAIRS[name], directory / "model.pt2")
    weights = {path: tensor.numpy() for path, tensor in module.state_dict().items()}
    np.savez(directory / "weights.npz", **weights)
