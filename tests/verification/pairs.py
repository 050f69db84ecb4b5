"""Pairs of equal models written by hand in both frameworks, as tasks for worker processes.

Each pair is a source file and a target directory as `bridge convert` writes it; the `fault` of a request
makes the target wrong in one place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Run several of the functions below in one process: `models` is a list of (function, request)."""
    for function, each in request["models"]:
        globals()[function](each)
    return {}


def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    arrays = {
        "conv.weight": rng.standard_normal((6, 3, 3, 3)) * 0.3,
        "conv.bias": rng.standard_normal(6),
        "norm.weight": rng.uniform(0.5, 1.5, 6),
        "norm.bias": rng.standard_normal(6),
        "norm.running_mean": rng.standard_normal(6),
        "norm.running_var": rng.uniform(0.5, 1.5, 6),
        "fc.weight": rng.standard_normal((4, 6)),
        "fc.bias": rng.standard_normal(4),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def torch_source(request: dict[str, Any]) -> None:
    """A convolutional network as a `.pt2`."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.fc = nn.Linear(6, 4)

        def forward(self, image: torch.Tensor) -> Any:
            features = nn.functional.gelu(self.norm(self.conv(image)))
            logits = self.fc(features.mean((2, 3)))
            return logits, logits.argmax(-1)

    net = Net()
    tensors = {name: torch.from_numpy(array) for name, array in _arrays().items()}
    net.load_state_dict({**tensors, "norm.num_batches_tracked": torch.tensor(0)})
    batch = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        net.eval(), (torch.zeros(2, 3, 10, 10),), dynamic_shapes=({0: batch},), strict=False
    )
    torch.export.save(program, request["path"])


def _tensor(target: str, source: str, array: Any, perm: list[int] | None = None) -> TensorMap:
    recipe: Recipe = Source(source) if perm is None else step("transpose", Source(source), perm=perm)
    return TensorMap(target, array.shape, "float32", "parameter", True, recipe)


_PERMUTATIONS = {"conv.weight": [2, 3, 1, 0], "fc.weight": [1, 0]}


def tf_target(request: dict[str, Any]) -> None:
    """The same network as a SavedModel directory, channels last inside."""
    import keras
    import tensorflow as tf

    fault = request["fault"]
    arrays = {
        name: np.ascontiguousarray(np.transpose(array, _PERMUTATIONS.get(name)))
        for name, array in _arrays().items()
    }
    directory = Path(request["path"])
    weight_map = WeightMap(
        "torch",
        "tf",
        tuple(_tensor(name, name, array, _PERMUTATIONS.get(name)) for name, array in arrays.items()),
        {},
    )
    if fault == "stored weight":
        arrays["fc.bias"][1] = np.nextafter(arrays["fc.bias"][1], np.float32(9))
    directory.mkdir()
    weight_map.save(directory / "weights.json")
    (directory / "model.py").write_text("")
    save_file(arrays, directory / "model.safetensors")
    if fault == "weight":
        arrays["fc.weight"][2, 1] *= np.float32(1 + 1e-4)
    epsilon = 1e-3 if fault == "epsilon" else 1e-5

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = keras.layers.Conv2D(6, 3, padding="same")
            self.norm = keras.layers.BatchNormalization(epsilon=epsilon)
            self.fc = keras.layers.Dense(4)

        def call(self, image: Any) -> Any:
            features = self.norm(self.conv(tf.transpose(image, [0, 2, 3, 1])))
            features = tf.nn.gelu(features, approximate=fault == "gelu")
            logits = self.fc(tf.reduce_mean(features, [1, 2]))
            return logits, tf.argmax(logits, -1)

    net = Net()
    net(np.zeros((1, 3, 10, 10), np.float32))
    net.conv.set_weights([arrays["conv.weight"], arrays["conv.bias"]])
    norm = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    net.norm.set_weights([arrays[name] for name in norm])
    net.fc.set_weights([arrays["fc.weight"], arrays["fc.bias"]])
    archive = keras.export.ExportArchive()
    archive.track(net)
    archive.add_endpoint(
        "serve",
        lambda image: dict(zip(("output_0", "output_1"), net(image), strict=True)),
        input_signature=[tf.TensorSpec([None, 3, 10, 10], tf.float32, name="image")],
    )
    archive.write_out(str(directory), verbose=False)


def keras_source(request: dict[str, Any]) -> None:
    """A text classifier as a `.keras` file."""
    import keras

    keras.utils.set_random_seed(5)
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    mask = keras.Input((7, 1), dtype="float32", name="attention_mask")
    x = keras.layers.Embedding(40, 8, embeddings_initializer="normal", name="embed")(tokens) * 20.0
    x = keras.layers.LayerNormalization(epsilon=1e-3, name="norm")(x) * mask
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dense(3, bias_initializer="normal", name="head")(x)
    model = keras.Model([tokens, mask], x, name="classifier")
    model.save(request["path"])
    save_file({each.path: np.asarray(each) for each in model.weights}, request["arrays"])


_MODEL = """
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.norm = nn.LayerNorm(8, eps=EPSILON)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens, attention_mask):
        return self.head((self.norm(self.embed(tokens) * 20.0) * attention_mask).mean(1))


def load(path=Path(__file__).with_name("model.safetensors")):
    model = Classifier()
    model.load_state_dict(load_file(path))
    return model
"""


def torch_target(request: dict[str, Any]) -> None:
    """The same classifier as a directory with `model.py`."""
    stored = load_file(request["arrays"])
    sources = {
        "embed.weight": ("embed/embeddings", None),
        "norm.weight": ("norm/gamma", None),
        "norm.bias": ("norm/beta", None),
        "head.weight": ("head/kernel", [1, 0]),
        "head.bias": ("head/bias", None),
    }
    arrays = {
        name: np.ascontiguousarray(stored[path] if perm is None else np.transpose(stored[path], perm))
        for name, (path, perm) in sources.items()
    }
    weight_map = WeightMap(
        "tf",
        "torch",
        tuple(_tensor(name, path, arrays[name], perm) for name, (path, perm) in sources.items()),
        {},
    )
    if request["fault"] == "weight":
        arrays["head.weight"][1, 2] *= np.float32(1 + 1e-4)
    directory = Path(request["path"])
    directory.mkdir()
    weight_map.save(directory / "weights.json")
    save_file(arrays, directory / "model.safetensors")
    epsilon = "1e-5" if request["fault"] == "epsilon" else "1e-3"
    (directory / "model.py").write_text(_MODEL.replace("EPSILON", epsilon))
