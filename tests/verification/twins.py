"""One network written in PyTorch and in Keras, and the Keras one with faults that only training shows."""

from __future__ import annotations

from typing import Any

import numpy as np

_MOMENTUM = 0.9


def _weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return {
        name: values.astype(np.float32)
        for name, values in {
            "conv.weight": rng.standard_normal((4, 2, 3, 3)) / 4,
            "bn.weight": 1 + rng.standard_normal(4) / 8,
            "bn.bias": rng.standard_normal(4) / 4,
            "bn.running_mean": rng.standard_normal(4) / 4,
            "bn.running_var": 1 + rng.random(4),
            "fc.weight": rng.standard_normal((3, 4)) / 2,
            "fc.bias": rng.standard_normal(3) / 4,
        }.items()
    }


def torch_twin() -> Any:
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, bias=False)
            self.bn = nn.BatchNorm2d(4, eps=1e-3, momentum=1 - _MOMENTUM)
            self.drop = nn.Dropout(0.5)
            self.fc = nn.Linear(4, 3)

        def forward(self, image: Any) -> Any:
            return self.fc(self.drop(torch.relu(self.bn(self.conv(image))).mean((2, 3))))

    twin = Twin()
    tensors = {name: torch.from_numpy(values) for name, values in _weights().items()}
    twin.load_state_dict(tensors, strict=False)
    return twin.eval()


def keras_twin(*, momentum: float = _MOMENTUM, frozen: bool = False, detached: bool = False) -> Any:
    import keras
    import tensorflow as tf

    class Stop(keras.layers.Layer):
        def call(self, values: Any) -> Any:
            return tf.stop_gradient(values)

    image = keras.Input((6, 6, 2), name="image")
    values = keras.layers.Conv2D(4, 3, use_bias=False, name="stem")(image)
    normalization = keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name="norm")
    values = keras.layers.ReLU()(normalization(values))
    values = keras.layers.GlobalAveragePooling2D()(Stop()(values) if detached else values)
    head = keras.layers.Dense(3, name="head")
    model = keras.Model(image, head(keras.layers.Dropout(0.5)(values)))
    held = _weights()
    model.get_layer("stem").set_weights([held["conv.weight"].transpose(2, 3, 1, 0)])
    normalization.set_weights(
        [held[f"bn.{each}"] for each in ("weight", "bias", "running_mean", "running_var")]
    )
    head.set_weights([held["fc.weight"].T, held["fc.bias"]])
    head.trainable = not frozen
    return model


def keras_with_another_momentum() -> Any:
    return keras_twin(momentum=0.99)


def keras_with_a_frozen_head() -> Any:
    return keras_twin(frozen=True)


def keras_with_a_detached_stem() -> Any:
    return keras_twin(detached=True)
