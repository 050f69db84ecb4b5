"""What is timed of TensorFlow models; an accelerator is stood in for."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bridge.formats.request import ReadRequest
from bridge.worker.sides import tf_source
from bridge.worker.sides.tf_timing import TensorFlowTiming, time_training
from tests.worker.sides import tf_nets


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("models") / "towers.keras"
    tf_nets.two_towers().save(file)
    return tf_source.load(ReadRequest(str(file), "keras").to_json())


def test_inference_is_a_call_of_the_function_that_runs(towers: Any) -> None:
    timing = towers.timing(tf_nets.tower_feeds(), False, False)
    timing.call()
    assert timing.device == "cpu"
    assert timing.device_seconds() is timing.device_peak_bytes() is None
    assert timing.timed == "a call of the traced function, from tensor to tensor"
    timing.close()


def test_a_training_step_moves_statistics_and_no_weight(towers: Any) -> None:
    before = {name: each.copy() for name, each in towers.weights().items()}
    timing = towers.timing(tf_nets.tower_feeds(), True, False)
    timing.call()
    timing.call()
    after = towers.weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert all("moving" in name for name in moved)
    assert timing.notes == []


def test_a_saved_function_is_trained_in_inference_mode(tmp_path: Path) -> None:
    module = tf_nets.Hand()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__.get_concrete_function())
    side = tf_source.load(ReadRequest(str(tmp_path), "saved_model").to_json())
    timing = side.timing(tf_nets.hand_feeds(), True, False)
    timing.call()
    assert timing.notes == [
        "the file holds an inference function only: training steps are timed in inference mode"
    ]


@pytest.mark.parametrize("training", [False, True])
def test_xla_compiles_the_same(training: bool) -> None:
    weight = tf.Variable(tf.ones((3, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(x @ weight)

    from bridge.worker.sides.tf_timing import time_inference

    x = tf.ones((4, 3))
    if training:
        timing = time_training(function, [weight], [x], compiled=True)
    else:
        timing = time_inference(function.get_concrete_function(), (x,), {}, compiled=True)
    timing.call()
    assert timing.timed.endswith("through XLA (jit_compile=True)")
    np.testing.assert_array_equal(weight.numpy(), np.ones((3, 2)))


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="no variables"):
        time_training(lambda x: x, [], [tf.ones(3)], compiled=False)
    weight = tf.Variable(1.0)
    timing = time_training(lambda x: tf.cast(x * weight, tf.int32), [weight], [tf.ones(3)], compiled=False)
    with pytest.raises(NotImplementedError, match="no loss"):
        timing.call()


def test_embeddings_have_gradients_of_slices() -> None:
    table = tf.Variable(tf.ones((5, 2)))
    timing = time_training(lambda ids: tf.gather(table, ids), [table], [tf.constant([1, 3])], compiled=False)
    timing.call()
    np.testing.assert_array_equal(table.numpy(), np.ones((5, 2)))


def test_another_precision_is_not_timed(tmp_path: Path) -> None:
    tf_nets.two_towers().save(tmp_path / "towers.keras")
    request = {**ReadRequest(str(tmp_path / "towers.keras"), "keras").to_json(), "dtype": "float16"}
    with pytest.raises(NotImplementedError, match="operator by operator"):
        tf_source.load(request).timing(tf_nets.tower_feeds(), False, False)


def test_threads_are_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 0)
    timing = TensorFlowTiming(lambda: None, timed="nothing")
    assert timing.threads() == [3, 1]


def test_on_a_gpu_a_call_ends_when_all_devices_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", lambda device: log.append(device))
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda device: {"current": 1, "peak": 4321}
    )
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: log.append("sync"))
    monkeypatch.setenv("BRIDGE_DEVICE", "cuda:1")
    timing = TensorFlowTiming(lambda: log.append("run"), timed="a call")
    monkeypatch.setattr(tf, "device", lambda name: contextlib.nullcontext(log.append(f"on {name}")))
    timing.call()
    assert log == ["GPU:1", "on GPU:1", "run", "sync"]
    assert timing.device == "gpu:1"
    assert timing.device_peak_bytes() == 4321
