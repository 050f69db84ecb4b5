"""The commands on small real models, run as a user runs them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bridge.cli.app import run

MODEL = """<ir_version: 10, opset_import: ["": 20]>
    net (float[N, 4] x) => (float[N, 2] scores) {
        h = Gemm (x, w1, b1)
        a = Relu (h)
        scores = Gemm (a, w2, b2)
    }"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    proto = onnx.parser.parse_model(MODEL)
    generator = np.random.default_rng(0)
    for name, shape in {"w1": (4, 8), "b1": (8,), "w2": (8, 2), "b2": (2,)}.items():
        array = generator.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, "model.onnx")
    return tmp_path / "model.onnx"


def test_convert_verify_and_gate(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "model.onnx", "--to", "torch", "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["output"] == "model_torch"
    assert record["verdict"] == "equivalent"
    assert record["report"]["weights"]["compared"] == 4
    names = sorted(each.name for each in Path("model_torch").iterdir())
    assert names == ["anchors.json", "model.pt2", "model.py", "model.safetensors", "weights.json"]

    shutil.copytree("model_torch", "wrong")
    damage(Path("wrong/model.safetensors"))
    code = run(
        ["verify", "model.onnx", "wrong", "--junit", "junit.xml", "--html", "r.html", "--report", "r.json"]
    )
    assert code == 1
    assert "verdict: different" in capsys.readouterr().out
    suite = ElementTree.parse("junit.xml").find(".//testsuite")
    assert suite is not None
    assert int(suite.get("failures", 0)) >= 1
    assert "<html" in Path("r.html").read_text()
    assert json.loads(Path("r.json").read_text())["passed"] is False


def damage(file: Path) -> None:
    """Change one bit of the last tensor."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def test_without_verification_the_result_says_so(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "model.onnx", "--to", "onnx", "-o", "again.onnx", "--no-verify"]) == 0
    assert "verdict: not checked" in capsys.readouterr().out
    onnx.checker.check_model("again.onnx", full_check=True)
    assert sorted(each.name for each in Path().iterdir()) == ["again.onnx", "model.onnx"]


def test_names_that_are_code_stay_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = [
        '"""\nimport os\nos.system("touch ran")\n"""',
        "x'); __import__('os').system('touch ran'); ('",
        "self",
        "load",
        "def",
        "\u202elambda: 0",
        "{0.__class__}",
    ]
    nodes = []
    previous = hostile[0]
    for position, name in enumerate(hostile[1:]):
        weight = f"{name}\n# {position}"
        nodes.append(onnx.helper.make_node("Mul", [previous, weight], [name], name=f"{name}/{name}"))
        previous = name
    graph = onnx.helper.make_graph(
        nodes,
        hostile[1],
        [onnx.helper.make_tensor_value_info(hostile[0], onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.helper.make_tensor_value_info(previous, onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.arange(1, 4, dtype=np.float32), node.input[1]) for node in nodes],
        doc_string=hostile[0],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    Path("m.onnx").write_bytes(proto.SerializeToString())
    assert run(["convert", "m.onnx", "--to", "torch", "-o", "out", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "equivalent"
    program = "import sys; sys.path.insert(0, 'out'); import model; model.load()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not Path("ran").exists()
    assert not Path("out/ran").exists()


def test_inspect_shows_what_is_in_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "model.onnx", "--to", "torch", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "onnx"
    assert found["inputs"][0]["name"] == "x"
    assert found["inputs"][0]["shape"][1:] == [4]
    assert found["trainable"] == {"tensors": 4, "elements": 58, "bytes": 232}
    assert found["operators"] == {"Gemm": 2, "Relu": 1}
    assert found["unsupported"] == []


def test_inspect_lists_what_would_not_convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    header = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'
    text = f"{header} g (float[N, 3, 3] x) => (float[N, 3, 3] y) {{"
    proto = onnx.parser.parse_model(text + " y = com.microsoft.Inverse (x) }")
    onnx.save(proto, "m.onnx")
    assert run(["inspect", "m.onnx"]) == 0
    assert "com.microsoft::Inverse x1" in capsys.readouterr().out
    assert run(["inspect", "m.onnx", "--to", "torch"]) == 2
    text = capsys.readouterr().out
    assert "does not convert to torch:" in text
    assert "com.microsoft::Inverse x1" in text


def test_quiet_prints_nothing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "model.onnx", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""
