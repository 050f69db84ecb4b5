from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bridge
from bridge.cli.app import cli, run
from bridge.environments.choice import EnvironmentChoice
from bridge.errors import EnvironmentFailure, InputError
from bridge.settings import side_setting
from bridge.verification.compare import Sample, compare_output
from bridge.verification.parties import Party, resolve
from bridge.verification.setting import Setting, checked_device, narrowest

MODULE = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


def rough():
    model = build()
    with torch.no_grad():
        model[3].weight *= 1.2
    return model
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "device_nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return "device_nets"


def test_devices_have_one_name() -> None:
    assert [checked_device(each) for each in ("cpu", "gpu", "cuda", "gpu:1", "cuda:0")] == [
        "cpu",
        "cuda",
        "cuda",
        "cuda:1",
        "cuda:0",
    ]
    for wrong in ("tpu", "cuda:", "cuda:x", "cpu:0", ""):
        with pytest.raises(InputError, match="not a device"):
            checked_device(wrong)


def test_each_side_has_its_own_device_or_the_common_one() -> None:
    arguments = {"device": "cuda", "target_device": "cpu", "source_python": "3.8", "target_env": "old.txt"}
    source, target = side_setting("source", arguments), side_setting("target", arguments)
    assert (source.device, target.device) == ("cuda", "cpu")
    assert source.environment == EnvironmentChoice("3.8", None)
    assert target.environment == EnvironmentChoice(None, "old.txt")
    with pytest.raises(InputError, match="autocast"):
        side_setting("source", {"autocast": "int8"})


def test_the_verdict_judges_by_the_narrowest_type() -> None:
    gpu = Setting(device="cuda", allow_tf32=True)
    assert gpu.precision == "tf32"
    assert Setting(allow_tf32=True).precision is None, "a CPU has no TF32"
    assert Setting(autocast="bfloat16").precision == "bfloat16"
    assert narrowest([None, "tf32", "bfloat16"]) == "bfloat16"
    assert narrowest([None, None]) is None


def test_an_ordinary_setting_changes_nothing(nets: str) -> None:
    party = resolve(f"{nets}:build", as_target=False)
    assert Setting().applied(party) == party
    assert party.ordinary
    moved = Setting(device="cuda").applied(party)
    assert (moved.device, dict(moved.variables)) == ("cuda", {"BRIDGE_DEVICE": "cuda"})
    assert not moved.ordinary


def test_an_onnx_file_has_no_environment() -> None:
    party = Party("m.onnx", "x:load", {"path": "m.onnx", "format": "onnx"}, framework="onnx")
    with pytest.raises(InputError, match="needs no environment"):
        Setting(environment=EnvironmentChoice(python=sys.executable)).applied(party)


def _sample(error: float, epsilon: float | None) -> Sample:
    reference = np.random.default_rng(0).standard_normal((4, 50))
    noise = np.random.default_rng(1).standard_normal((4, 50))
    source = reference.astype(np.float32)
    target = (reference * (1 + error * noise)).astype(np.float32)
    return Sample("0", "typical", 4, source, target, reference, None, (), epsilon)


def test_tf32_is_judged_by_its_own_bits() -> None:
    assert compare_output("y", [_sample(5e-4, None)]).verdict == "different"
    assert compare_output("y", [_sample(5e-4, 2.0**-10)]).verdict == "equivalent"
    assert compare_output("y", [_sample(0.3, 2.0**-10)]).verdict == "different"


def test_without_a_gpu_the_request_is_refused(nets: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EnvironmentFailure, match="PyTorch sees no GPU here, and cuda was asked for"):
        bridge.verify(f"{nets}:build", f"{nets}:build", inputs="Nx3x8x8", target_device="gpu")
    code = run(["verify", f"{nets}:build", f"{nets}:build", "--input", "Nx3x8x8", "--device", "cuda:0", "-q"])
    assert code == 3


def test_autocast_is_judged_by_its_type(nets: str) -> None:
    """On the CPU, where PyTorch has it too."""
    inputs = "Nx3x8x8"
    plain = bridge.verify(f"{nets}:build", f"{nets}:build", inputs=inputs, batches=[3], autocast="bfloat16")
    assert plain.verdict == "equivalent", plain.summary()
    assert "autocast to bfloat16" in plain.source.what
    errors = plain.outputs[0].errors[0]
    assert errors.source_l2 is not None
    assert errors.source_l2 > 1e-4, "it computed in bfloat16"
    rough = bridge.verify(f"{nets}:build", f"{nets}:rough", inputs=inputs, batches=[3], autocast="bfloat16")
    assert rough.verdict == "different"


def test_a_factory_is_run_in_half_precision(nets: str) -> None:
    report = bridge.verify(f"{nets}:build", f"{nets}:build", inputs="Nx3x8x8", batches=[3], dtype="bfloat16")
    assert report.verdict == "equivalent", report.summary()
    assert report.outputs[0].dtype == "bfloat16"


def test_another_interpreter_runs_a_module(nets: str) -> None:
    """The loaders of old environments, with this one."""
    report = bridge.verify(
        f"{nets}:build",
        f"{nets}:build",
        inputs="Nx3x8x8",
        batches=[3],
        gradients=True,
        training=2,
        source_python=sys.executable,
    )
    assert report.verdict == "equivalent", report.summary()
    assert " and Python 3." in report.source.what
    assert report.training is not None
    assert report.training.verdict == "equivalent"


def test_a_module_of_another_environment_is_converted(nets: str, tmp_path: Path) -> None:
    result = bridge.convert(
        f"{nets}:build",
        to="torch",
        inputs="Nx3x8x8",
        source_python=sys.executable,
        output=tmp_path / "out",
    )
    assert result.report is not None
    assert result.report.verdict == "equivalent", result.report.summary()
    assert "nn.Conv2d(3, 8" in result.source
    assert any("read by PyTorch" in note for note in result.notes)


def test_a_live_object_is_of_this_environment() -> None:
    with pytest.raises(InputError, match="live object"):
        bridge.convert(object(), to="tf", source_python=sys.executable)


@pytest.mark.parametrize("command", ["convert", "verify"])
def test_the_options_are_explained(command: str) -> None:
    text: Any = CliRunner().invoke(cli, [command, "--help"]).output
    for option in (
        "--source-python",
        "--source-env",
        "--target-env",
        "--device",
        "--allow-tf32",
        "--autocast",
    ):
        assert option in text
