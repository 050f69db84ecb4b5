"""A `.h5` and SavedModels of TensorFlow 2.15 and Keras 2, read and verified by what wrote them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bridge
from bridge.environments import cache
from bridge.environments.interpreters import find_interpreter
from bridge.errors import EnvironmentFailure, InputError
from bridge.worker.sides import carried

pytestmark = [pytest.mark.xdist_group("keras2"), pytest.mark.timeout(1500)]

ROOT = Path(carried.__file__).resolve().parents[4]
REQUIREMENTS = "tensorflow-cpu==2.15.1\n"
MODULE = "fixtures.keras2_models"
UNREACHABLE = (
    "NewConnectionError",
    "Failed to establish",
    "Temporary failure in name resolution",
    "timed out",
    "No matching distribution found for tensorflow-cpu",
)


@pytest.fixture(scope="module")
def requirements(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A requirements file whose environment is there; kept between runs of the tests."""
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)  # noqa: PT021  it is also to be undone where the test is skipped
    assert request.config.cache is not None
    patch.setenv(cache.DIRECTORY_VARIABLE, str(request.config.cache.mkdir("bridge")))
    if not (3, 9) <= sys.version_info[:2] <= (3, 11):
        pytest.skip("TensorFlow 2.15 is for Python 3.9 to 3.11")
    file = tmp_path_factory.mktemp("environment") / "requirements.txt"
    file.write_text(REQUIREMENTS)
    try:
        cache.environment_for(file, find_interpreter())
    except EnvironmentFailure as error:
        if any(each in str(error) for each in UNREACHABLE):
            pytest.skip(f"no package index with tensorflow-cpu 2.15.1 can be reached: {error.message}")
        raise
    return file


@pytest.fixture(scope="module")
def models(requirements: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TensorFlow 2.15 wrote."""
    folder = tmp_path_factory.mktemp("models")
    python = cache.environment_for(requirements, find_interpreter()).python
    script = str(ROOT / "fixtures" / "keras2_models.py")
    made = subprocess.run([python, script, str(folder)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def converted(models: Path, requirements: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mixture.h5`, converted from there."""
    out = tmp_path_factory.mktemp("converted") / "mixture"
    bridge.convert(
        models / "mixture.h5",
        to="torch",
        source_env=requirements,
        custom_objects=MODULE,
        output=out,
        verify=False,
    )
    return out


def test_an_old_file_is_read_by_its_own_keras(converted: Path) -> None:
    source = (converted / "model.py").read_text(encoding="utf-8")
    assert "nn.LSTM(" in source
    assert "nn.BatchNorm2d(4" in source
    assert "momentum=0.1" in source or "momentum" not in source
    assert "nn.Dropout(0.3)" in source or "nn.Dropout(p=0.3)" in source
    assert "nn.LayerNorm(" in source
    record = json.loads((converted / "weights.json").read_text(encoding="utf-8"))
    text = json.dumps(record)
    for path in (
        "both/forward_lstm/lstm_cell/kernel",
        "gru/gru_cell/recurrent_kernel",
        "norm/moving_variance",
        "scaled/scale",
        "table/embeddings",
    ):
        assert path in text


def test_outputs_gradients_and_training_are_compared_with_it(
    models: Path, requirements: Path, converted: Path
) -> None:
    report = bridge.verify(
        models / "mixture.h5",
        converted,
        source_env=requirements,
        custom_objects=MODULE,
        batches=[3],
        gradients=True,
        training=3,
    )
    assert report.verdict == "equivalent", report.summary()
    assert "TensorFlow 2.15.1, Keras 2.15.0 and Python 3." in report.source.what
    assert "PyTorch" in report.target.what
    assert report.reference == "the source computed in float64 by its own framework"
    assert report.gradients is not None
    assert report.gradients.verdict == "equivalent"
    assert len(report.gradients.tensors) > 15
    assert report.training is not None
    assert report.training.verdict == "equivalent"
    assert report.training.training, "BatchNormalization is trained, which only Keras itself can"
    assert report.weights is not None
    assert not report.weights.differences


def test_a_fault_is_found_from_there(
    models: Path, requirements: Path, converted: Path, tmp_path: Path
) -> None:
    from shutil import copytree

    from safetensors.numpy import load_file, save_file

    wrong = tmp_path / "wrong"
    copytree(converted, wrong)
    weights = load_file(wrong / "model.safetensors")
    weights["conv.weight"] = weights["conv.weight"] * np.float32(1.001)
    save_file(weights, wrong / "model.safetensors")
    report = bridge.verify(
        models / "mixture.h5", wrong, source_env=requirements, custom_objects=MODULE, batches=[3]
    )
    assert report.verdict == "different"
    assert report.localisation is not None
    assert "conv" in json.dumps(report.to_dict()["localisation"])


def test_a_saved_model_is_read_with_its_layers(models: Path, requirements: Path, tmp_path: Path) -> None:
    result = bridge.convert(
        models / "mixture",
        to="torch",
        source_env=requirements,
        custom_objects=MODULE,
        output=tmp_path / "out",
        verify=False,
    )
    assert "nn.LSTM(" in result.source
    report = bridge.verify(
        models / "mixture",
        result,
        source_env=requirements,
        custom_objects=MODULE,
        batches=[3],
        gradients=True,
    )
    assert report.verdict == "equivalent", report.summary()
    assert "SavedModel as a Keras model under TensorFlow 2.15.1" in report.source.what


def test_both_versions_read_what_both_can(models: Path, requirements: Path, tmp_path: Path) -> None:
    """A file of Keras 2 that Keras 3 loads unchanged becomes the same model either way."""
    there = bridge.convert(
        models / "plain.h5", to="torch", source_env=requirements, output=tmp_path / "there", verify=False
    )
    here = bridge.convert(models / "plain.h5", to="torch", output=tmp_path / "here", verify=False)
    assert there.source == here.source
    assert there.weights == here.weights
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert all(np.array_equal(*pair) for pair in zip(there.run(x), here.run(x), strict=True))


def test_a_saved_model_without_keras(models: Path, requirements: Path, tmp_path: Path) -> None:
    result = bridge.convert(models / "graph", to="torch", source_env=requirements, output=tmp_path / "out")
    assert result.report is not None
    assert result.report.verdict == "equivalent", result.report.summary()
    assert "SavedModel under TensorFlow 2.15.1" in result.report.source.what
    assert any("read by TensorFlow 2.15.1" in note for note in result.notes)


def test_without_its_environment_nothing_is_guessed(models: Path) -> None:
    """The hard sigmoid of Keras 3 is another function: the file would be read without an error, and wrong."""
    with pytest.raises(InputError, match="slope 1/5") as caught:
        bridge.convert(models / "mixture.h5", to="torch", custom_objects=MODULE, verify=False)
    assert caught.value.hint is not None
    assert "--source-env" in caught.value.hint


def test_a_class_that_is_not_named_is_asked_for(models: Path, requirements: Path) -> None:
    with pytest.raises(InputError, match="Scaled") as caught:
        bridge.convert(models / "mixture.h5", to="torch", source_env=requirements, verify=False)
    assert caught.value.hint is not None
    assert "--custom-objects" in caught.value.hint
