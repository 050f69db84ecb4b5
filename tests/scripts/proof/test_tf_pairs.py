"""The TensorFlow versions of the right pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from scripts.proof.pairs import PAIRS, tf_models
from scripts.proof.pairs.tf_models.weights import Weights


def test_exactly_the_pairs_that_need_one_have_a_definition() -> None:
    needed = {pair.defined_as for pair in PAIRS.values() if pair.family != "converted" or pair.source == "tf"}
    assert tf_models.names() == needed


def test_weights_become_variables_in_tensorflow_layouts() -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "fc.weight": generator.standard_normal((5, 3), np.float32),
        "conv.weight": generator.standard_normal((6, 4, 2, 3), np.float32),
        "depthwise.weight": generator.standard_normal((6, 1, 2, 3), np.float32),
    }
    weights = Weights(arrays)
    np.testing.assert_array_equal(weights.dense("fc.weight").numpy()[2, 4], arrays["fc.weight"][4, 2])
    conv = weights.conv("conv.weight").numpy()
    assert conv.shape == (2, 3, 4, 6)
    assert conv[1, 2, 3, 5] == arrays["conv.weight"][5, 3, 1, 2]
    depthwise = weights.depthwise("depthwise.weight").numpy()
    assert depthwise.shape == (2, 3, 6, 1)
    assert depthwise[1, 2, 5, 0] == arrays["depthwise.weight"][5, 0, 1, 2]


def test_a_model_is_saved_with_its_variables_and_a_plain_signature(tmp_path: Path) -> None:
    arrays = {
        "trunk.weight": np.ones((24, 16), np.float32),
        "trunk.bias": np.zeros(24, np.float32),
        "boxes.weight": np.ones((4, 24), np.float32),
        "boxes.bias": np.zeros(4, np.float32),
        "classes.weight": np.ones((7, 24), np.float32),
        "classes.bias": np.arange(7, dtype=np.float32),
    }
    model = tf_models.make("several_outputs", Weights(arrays))
    assert len(model.variables) == len(arrays)
    tf_models.save(model, PAIRS["several_outputs"], tmp_path / "saved_model")
    signature = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    outputs = signature(x=tf.ones([3, 16]))
    assert sorted(outputs) == ["boxes", "label", "scores"]
    assert outputs["label"].numpy().tolist() == [6, 6, 6]
