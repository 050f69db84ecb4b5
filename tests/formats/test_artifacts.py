from pathlib import Path

import pytest

from bridge.errors import InputError
from bridge.formats.artifacts import Target, artifact, default_output


@pytest.mark.parametrize(
    ("output", "to", "kind"),
    [
        ("out", "torch", "directory"),
        ("out/", "tf", "directory"),
        ("v1.2/", "torch", "directory"),
        ("m.pt2", "torch", "pt2"),
        ("m.PT2", "torch", "pt2"),
        ("m.onnx", "onnx", "onnx"),
    ],
)
def test_the_suffix_chooses_the_artifact(output: str, to: Target, kind: str) -> None:
    assert artifact(output, to).kind == kind


@pytest.mark.parametrize(
    ("output", "to", "message", "hint"),
    [
        ("m.pt2", "tf", "is for --to torch", "--to torch"),
        ("m.onnx", "torch", "is for --to onnx", "--to onnx"),
        ("m.keras", "tf", "not written by bridge yet", "-o m/"),
        ("m.weights.h5", "tf", "not written by bridge yet", "-o m.weights/"),
        ("m.tflite", "tf", "not written by bridge yet", "-o m/"),
        ("m.xyz", "torch", "means no artifact", "-o m/ or -o m.pt2"),
        ("m", "onnx", "ends in .onnx", "-o m.onnx"),
    ],
)
def test_other_suffixes_say_what_to_write(output: str, to: Target, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        artifact(output, to)
    assert hint in str(caught.value.hint)


def test_an_existing_directory_is_one_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    assert artifact(tmp_path / "v1.2", "tf").kind == "directory"


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        ("a/model.pt2", "tf", "a/model_tf"),
        ("a/resnet18.a1_in1k.pt", "tf", "a/resnet18_a1_in1k_tf"),
        ("a/model.keras", "onnx", "a/model.onnx"),
        ("saved_model/", "torch", "saved_model_torch"),
    ],
)
def test_the_default_output_lies_beside_the_source(source: str, to: Target, expected: str) -> None:
    assert default_output(source, to) == Path(expected)
    assert artifact(default_output(source, to), to)


def test_the_default_output_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sm").mkdir()
    monkeypatch.chdir(tmp_path / "sm")
    assert default_output(".", "torch") == tmp_path / "sm_torch"
