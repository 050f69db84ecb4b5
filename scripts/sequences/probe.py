"""A converted sequence model in a process that has nothing but its framework.

`python -m scripts.sequences.probe torch|tf DIRECTORY RUNS.npz [--fresh]` prints one JSON object: how far
model.py and the framework's own artifact are from the source's outputs at every size, and what native layers
ran. `--fresh` loads the model anew for every size (for layers that keep a state).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scripts.acceptance_probe import ALWAYS_HIDDEN, HIDDEN, Array, Hide, distance, flat, load_source
from scripts.sequences import native

Named = dict[str, Array]


def runs_of(path: Path) -> dict[str, tuple[Named, Named]]:
    """Inputs and outputs by size, in the order of their positions."""
    found: dict[str, tuple[Named, Named]] = {}
    with np.load(path) as data:
        for key in sorted(data.files):
            size, role, _, name = key.split("|", 3)
            inputs, outputs = found.setdefault(size, ({}, {}))
            (inputs if role == "in" else outputs)[name] = data[key]
    return found


def paired(ours: list[Array], theirs: list[Array]) -> float:
    """The largest distance where every array is paired with the nearest one left of its shape."""
    left = list(theirs)
    worst = 0.0 if len(ours) == len(theirs) else float("inf")
    for array in ours:
        fitting = [index for index, other in enumerate(left) if other.shape == array.shape]
        if not fitting:
            return float("inf")
        nearest = min(fitting, key=lambda index: distance([array], [left[index]]))
        worst = max(worst, distance([array], [left.pop(nearest)]))
    return worst


def cosine(ours: Array, theirs: Array, mask: Array | None) -> float:
    """The smallest cosine between rows of an output, which are averaged over the steps of a mask first."""
    if mask is not None and ours.ndim == 3 and mask.shape == ours.shape[:2]:
        ours, theirs = ((each * mask[..., None]).sum(1) / mask.sum(1)[:, None] for each in (ours, theirs))
    ours, theirs = (
        each.reshape(len(each), -1) if each.ndim else each.reshape(1, 1) for each in (ours, theirs)
    )
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(np.min((ours * theirs).sum(1) / np.maximum(norms, 1e-30)))


def attempt(found: dict[str, Any], size: str, run: Callable[[], float]) -> None:
    """Note a distance, or the error in its stead."""
    try:
        found[size] = run()
    except Exception as error:  # a model may fail in any way; each is an answer
        found[size] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def probe(kind: str, directory: Path, runs: dict[str, tuple[Named, Named]], fresh: bool) -> dict[str, Any]:
    """Distances of model.py and of the artifact, cosines, and what ran natively."""
    framework = Torch(directory) if kind == "torch" else TensorFlow(directory)
    answer: dict[str, Any] = {"model": {}, "artifact": {}, "cosine": 1.0}
    model = load_source(directory)
    artifact = framework.artifact()
    for size, (inputs, outputs) in runs.items():
        if fresh:
            model, artifact = load_source(directory), framework.artifact()
        arrays, expected = list(inputs.values()), [each.astype(np.float64) for each in outputs.values()]
        mask = inputs.get("attention_mask")

        def of_model(
            model: Any = model, arrays: Any = arrays, expected: Any = expected, mask: Any = mask
        ) -> float:
            ours = flat(framework.call(model, arrays))
            if len(ours) == len(expected) and ours[0].shape == expected[0].shape:
                answer["cosine"] = min(answer["cosine"], cosine(ours[0], expected[0], mask))
            return paired(ours, expected)

        def of_artifact(artifact: Any = artifact, inputs: Any = inputs, expected: Any = expected) -> float:
            return paired(flat(framework.call_artifact(artifact, inputs)), expected)

        if "layers" not in answer:
            with framework.counting(model) as calls:
                attempt(answer["model"], size, of_model)
            answer["layers"], answer["attention"] = framework.layers(model), dict(calls)
        else:
            attempt(answer["model"], size, of_model)
        attempt(answer["artifact"], size, of_artifact)
    return answer


class Torch:
    """Loads and calls what was converted to PyTorch."""

    def __init__(self, directory: Path) -> None:
        import torch

        self._torch, self._directory = torch, directory
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.layers, self.counting = native.torch_layers, native.count_torch_attention

    def artifact(self) -> Any:
        file = self._directory / "model.pt2"
        return self._torch.export.load(file).module() if file.exists() else None

    def call(self, model: Any, arrays: list[Array]) -> Any:
        return model(*(self._torch.from_numpy(each) for each in arrays))

    def call_artifact(self, artifact: Any, inputs: Named) -> Any:
        if artifact is None:
            raise FileNotFoundError("no model.pt2 was made")
        return self.call(artifact, list(inputs.values()))


class TensorFlow:
    """Loads and calls what was converted to TensorFlow."""

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        self._tf, self._directory = tf, directory
        self.layers, self.counting = native.tf_layers, native.count_tf_attention

    def artifact(self) -> Any:
        loaded = self._tf.saved_model.load(str(self._directory))
        signature = loaded.signatures["serving_default"]
        signature.owner = loaded
        return signature

    def call(self, model: Any, arrays: list[Array]) -> Any:
        return model(*(self._tf.constant(each) for each in arrays))

    def call_artifact(self, artifact: Any, inputs: Named) -> Any:
        return artifact(**{name: self._tf.constant(each) for name, each in inputs.items()})


def main() -> None:
    kind, directory, runs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    hidden = HIDDEN[kind] | ALWAYS_HIDDEN | {"transformers", "sklearn"}
    sys.meta_path[:] = [Hide(finder, hidden) for finder in sys.meta_path]
    print(json.dumps(probe(kind, directory, runs_of(runs), fresh="--fresh" in sys.argv[4:])))


if __name__ == "__main__":
    main()
