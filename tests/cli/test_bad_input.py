"""Bad input of every kind: one clear error and hint, the right exit code, and nothing on disk.

The messages are snapshots: a change of one is a change that a user sees. Renew with `--snapshot-update`.
"""

import io
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto
from safetensors.numpy import save_file
from syrupy.assertion import SnapshotAssertion

from bridge.cli.app import run

RELU = '<ir_version: 10, opset_import: ["": 20]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }'


def onnx_bytes(text: str = RELU) -> bytes:
    return onnx.parser.parse_model(text).SerializeToString()


class Evil:
    """A pickle that leaves a mark when it is loaded."""

    def __reduce__(self) -> object:
        return os.system, ("touch ran",)


def torch_zip(value: object) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(value, protocol=2))
        archive.writestr("m/version", "3\n")
        archive.writestr("m/byteorder", "little")
    return stream.getvalue()


def truncated_zip() -> None:
    Path("m.pt").write_bytes(torch_zip({"weight": 1})[:100])


def truncated_keras() -> None:
    Path("m.keras").write_bytes(torch_zip({})[:60])


def truncated_safetensors() -> None:
    save_file({"w": np.ones(100, np.float32)}, "m.safetensors")
    Path("m.safetensors").write_bytes(Path("m.safetensors").read_bytes()[:200])


def truncated_onnx() -> None:
    Path("m.onnx").write_bytes(onnx_bytes()[:-5])


def empty_file() -> None:
    Path("m.pt").touch()


def empty_directory() -> None:
    Path("m").mkdir()


def wrong_suffix() -> None:
    Path("m.onnx").write_bytes(torch_zip({"weight": 1}))


def text_file() -> None:
    Path("m.pt").write_text("version https://git-lfs.github.com/spec/v1\n")


def python_file() -> None:
    Path("net.py").write_text("import torch\n")


def pickle_with_code() -> None:
    Path("m.pt").write_bytes(torch_zip(Evil()))


def plain_pickle_with_code() -> None:
    Path("m.pkl").write_bytes(pickle.dumps(Evil()))


def missing_file() -> None:
    Path("model.pt2").touch()


def data_outside() -> None:
    model = onnx.parser.parse_model(RELU.replace("Relu (x)", "Add (x, w)"))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    model.graph.initializer.append(tensor)
    Path("m.onnx").write_bytes(model.SerializeToString())


def unknown_operator() -> None:
    Path("m.onnx").write_bytes(onnx_bytes(RELU.replace("Relu", "Frobnicate")))


def custom_domain() -> None:
    text = RELU.replace('["": 20]', '["": 20, "com.acme": 1]').replace("Relu", "com.acme.Relu")
    Path("m.onnx").write_bytes(onnx_bytes(text))


def string_tensors() -> None:
    text = RELU.replace("float", "string").replace("Relu", "Identity")
    Path("m.onnx").write_bytes(onnx_bytes(text))


def existing_output() -> None:
    Path("m.onnx").write_bytes(onnx_bytes())
    Path("out.pt2").write_text("precious")


def existing_project() -> None:
    Path("m.onnx").write_bytes(onnx_bytes())
    Path("project").mkdir()
    Path("project/thesis.tex").touch()


def below_a_file() -> None:
    Path("m.onnx").write_bytes(onnx_bytes())
    Path("file").touch()


def plain_onnx() -> None:
    Path("m.onnx").write_bytes(onnx_bytes())


def state_dict_alone() -> None:
    save_file({"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)}, "m.safetensors")


def state_dict_of_another_model() -> None:
    save_file({"weight": np.ones((1, 2), np.float32), "extra": np.ones(1, np.float32)}, "m.safetensors")
    Path("my_model.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(3, 1)\n")


def state_dict_of_its_model() -> None:
    save_file({"weight": np.ones((1, 3), np.float32), "bias": np.ones(1, np.float32)}, "m.safetensors")
    Path("my_model.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(3, 1)\n")


def torchscript() -> None:
    program = "import torch; torch.jit.script(torch.nn.ReLU()).save('m.pt')"
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)


CASES: dict[str, tuple[Callable[[], None], str]] = {
    "truncated zip": (truncated_zip, "convert m.pt --to tf"),
    "truncated keras": (truncated_keras, "convert m.keras --to torch"),
    "truncated safetensors": (truncated_safetensors, "convert m.safetensors --to tf"),
    "truncated onnx": (truncated_onnx, "convert m.onnx --to torch"),
    "empty file": (empty_file, "convert m.pt --to tf"),
    "empty directory": (empty_directory, "convert m --to torch"),
    "wrong suffix": (wrong_suffix, "convert m.onnx --to torch"),
    "text file": (text_file, "convert m.pt --to tf"),
    "python file": (python_file, "convert net.py --to tf"),
    "pickle with code": (pickle_with_code, "convert m.pt --to tf"),
    "plain pickle with code": (plain_pickle_with_code, "inspect m.pkl"),
    "missing file": (missing_file, "convert modle.pt2 --to tf"),
    "data outside the directory": (data_outside, "convert m.onnx --to torch"),
    "unknown operator": (unknown_operator, "convert m.onnx --to torch"),
    "custom domain": (custom_domain, "convert m.onnx --to torch"),
    "string tensors": (string_tensors, "convert m.onnx --to torch"),
    "existing output": (existing_output, "convert m.onnx --to torch -o out.pt2"),
    "existing project": (existing_project, "convert m.onnx --to torch -o project --force"),
    "output over the source": (plain_onnx, "convert m.onnx --to onnx -o m.onnx --force"),
    "unwritable output": (below_a_file, "convert m.onnx --to torch -o file/out"),
    "suffix of the other framework": (plain_onnx, "convert m.onnx --to tf -o out.pt2"),
    "suffix not written": (plain_onnx, "convert m.onnx --to tf -o out.tflite"),
    "bad input specification": (plain_onnx, "convert m.onnx --to torch --input 1x-3"),
    "input that does not exist": (plain_onnx, "convert m.onnx --to torch --input image=1x3"),
    "state_dict without a model": (state_dict_alone, "convert m.safetensors --to tf"),
    "mismatched state_dict": (
        state_dict_of_another_model,
        "convert m.safetensors --to tf --model my_model:build --input 1x3",
    ),
    "factory that does not exist": (
        state_dict_of_another_model,
        "convert m.safetensors --to tf --model my_model:bild --input 1x3",
    ),
    "state_dict without a shape": (
        state_dict_of_its_model,
        "convert m.safetensors --to tf --model my_model:build",
    ),
    "torchscript without a shape": (torchscript, "convert m.pt --to tf"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_error_one_hint_and_nothing_on_disk(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    snapshot: SnapshotAssertion,
) -> None:
    prepare, command = CASES[name]
    monkeypatch.chdir(tmp_path)
    prepare()
    before = contents(tmp_path)
    code = run([*command.split(), "--quiet"])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert captured.err.count("hint: ") == 1
    assert "Traceback" not in captured.err
    assert contents(tmp_path) == before
    assert f"$ bridge {command}\n{captured.err}" == snapshot


def contents(directory: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, what Python compiles aside."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if "__pycache__" not in path.parts
    }


def heed_interrupts() -> None:
    """A test run in the background ignores SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    save_file({"weight": np.ones((1, 2), np.float32)}, tmp_path / "m.safetensors")
    slow = """
        import pathlib, time

        def build():
            pathlib.Path("building").touch()
            time.sleep(60)
    """
    (tmp_path / "slow_model.py").write_text(textwrap.dedent(slow))
    before = contents(tmp_path)
    command = "convert m.safetensors --to tf -o new/out --model slow_model:build --input 1x2"
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", *command.split()],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    marker = tmp_path / "building"
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert marker.exists()
    marker.unlink()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert errors.endswith("error: interrupted\nhint: nothing was written; run the command again\n")
    assert contents(tmp_path) == before
