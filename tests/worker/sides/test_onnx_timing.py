from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from bridge.worker.sides.onnx_file import OnnxSide
from tests.worker.sides.test_onnx_file import N, Y, side

FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]}


@pytest.fixture
def model(tmp_path: Path) -> OnnxSide:
    return side(tmp_path, [N("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, ["n", 3])}, Y)


def test_a_run_binds_inputs_and_outputs(model: OnnxSide) -> None:
    timing = model.timing(FEEDS, False, False)
    timing.call()
    (result,) = timing._binding.copy_outputs_to_cpu()
    np.testing.assert_array_equal(result, FEEDS["x"])
    assert timing.device == "cpu"
    assert timing.device_seconds() is timing.device_peak_bytes() is None
    assert timing.threads()[1] == 1
    timing.close()


def test_training_and_compilers_are_refused(model: OnnxSide) -> None:
    with pytest.raises(NotImplementedError, match="does not train"):
        model.timing(FEEDS, True, False)
    with pytest.raises(NotImplementedError, match="no compiler"):
        model.timing(FEEDS, False, True)
