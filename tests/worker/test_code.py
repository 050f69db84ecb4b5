from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bridge.worker.code import code_files, framework_of
from bridge.worker.named_files import named_files


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for name, text in {
        "package/__init__.py": "",
        "package/nets.py": "from . import layers\nfrom .inner.deep import thing\nimport numpy\n",
        "package/layers.py": "import torch\nfrom package import missing\n",
        "package/inner/__init__.py": "from ..up import *\n",
        "package/inner/deep.py": "def thing():\n    import lazily\n",
        "package/up.py": "",
        "lazily.py": "import package.nets\n",
        "unrelated.py": "import tensorflow\n",
        "broken.py": "def (\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(files: object, root: Path) -> set[str]:
    return {str(each.resolve().relative_to(root)) for each in files}  # type: ignore[attr-defined]


def test_all_that_a_module_imports_of_the_users_own(project: Path) -> None:
    assert names(code_files("package.nets:build"), project) == {
        "package/__init__.py",
        "package/nets.py",
        "package/layers.py",
        "package/inner/__init__.py",
        "package/inner/deep.py",
        "package/up.py",
        "lazily.py",
    }
    assert names(code_files("broken"), project) == {"broken.py"}
    assert code_files("nowhere.at.all:x") == ()
    assert code_files("numpy:array") == ()


def test_the_one_framework_of_a_module(project: Path) -> None:
    assert framework_of("package.nets:build") == "torch"
    assert framework_of("unrelated:build") == "tf"
    assert framework_of("broken:build") is None


def test_the_files_that_a_text_stands_for(project: Path) -> None:
    (project / "model.ckpt.index").write_text("")
    (project / "model.ckpt.data-00000-of-00001").write_text("")
    (project / "__pycache__").mkdir()
    (project / "package" / "x.pyc").write_text("")
    assert names(named_files("model.ckpt", project), project) == {
        "model.ckpt.index",
        "model.ckpt.data-00000-of-00001",
    }
    found = names(named_files("package", project), project)
    assert "package/inner/deep.py" in found
    assert not any(each.endswith(".pyc") for each in found)
    for text in ("", "no such thing", "x=2x3", "a" * 5000, "a\0b", "float16"):
        assert list(named_files(text, project)) == []


def test_external_data_belongs_to_a_model_unless_it_is_elsewhere(project: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    onnx.save(
        helper.make_model(graph),
        str(project / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert names(named_files("model.onnx", project), project) == {"model.onnx", "weights.bin"}
    model = onnx.load(str(project / "model.onnx"), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../outside.bin"
    (project.parent / "outside.bin").write_text("")
    (project / "model.onnx").write_bytes(model.SerializeToString())
    assert names(named_files("model.onnx", project), project) == {"model.onnx"}
