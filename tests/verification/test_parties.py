from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import network

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.verification.parties import Party, resolve
from bridge.worker.side import Side
from bridge.worker.sides import factory
from bridge.worker.standalone import write_tensors

CODE = """
import onnx
from pathlib import Path

def build():
    return onnx.load(Path(__file__).with_name("net.onnx"))

def text():
    return "not a model"

def nothing():
    pass

def breaks():
    raise KeyError("checkpoint")

def asks(size):
    return build()

model = build()
number = 5
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    network(tmp_path / "net.onnx")
    (tmp_path / "zoo_of_parties.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("zoo_of_parties", None)


@pytest.mark.parametrize("as_target", [False, True])
def test_any_file_is_either_side(models: Path, as_target: bool) -> None:
    party = resolve(models / "net.onnx", as_target=as_target)
    assert (party.framework, party.loader) == ("onnx", "bridge.worker.sides.onnx_file:load")
    assert not party.sorts_names
    party = resolve("zoo_of_parties:build", as_target=as_target)
    assert party.loader == "bridge.worker.sides.factory:load"
    assert party.framework is None
    assert ReadRequest.from_json(party.request).path == "zoo_of_parties:build"
    assert resolve(party, as_target=as_target) is party


def converted(directory: Path, *artifacts: str) -> Path:
    directory.mkdir()
    for name in ("model.py", "weights.json", *artifacts):
        (directory / name).write_text("")
    return directory


def described(party: Party) -> tuple[str, str | None, Path | None]:
    return party.loader.rpartition(".")[2], party.framework, party.converted


def test_converted_directories_are_either_side(models: Path) -> None:
    plain = converted(models / "plain")
    assert described(resolve(plain, as_target=True)) == ("torch_directory:load", "torch", plain)
    assert described(resolve(plain, as_target=False)) == ("torch_directory:load", "torch", plain)
    exported = converted(models / "exported")
    with zipfile.ZipFile(exported / "model.pt2", "w") as archive:
        archive.writestr("model/models/model.json", "{}")
    assert described(resolve(exported, as_target=True)) == ("torch_directory:load", "torch", exported)
    source = resolve(exported, as_target=False)
    assert described(source) == ("torch_source:load", "torch", exported)
    assert source.request["path"] == str(exported / "model.pt2")
    assert source.path == str(exported)


def test_a_text_that_is_no_path_and_no_factory(models: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        resolve("zoo of parties:build()", as_target=False)
    assert "package.module:function" in (caught.value.hint or "")
    (models / "odd:name").write_bytes((models / "net.onnx").read_bytes())
    assert resolve("odd:name", as_target=False).framework == "onnx"


def request(reference: str) -> dict[str, Any]:
    return dict(resolve(reference, as_target=False).request)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("zoo_of_parties:text", "returns an object of str, which is not a model"),
        ("zoo_of_parties:nothing", "returns None"),
        ("zoo_of_parties:breaks", "KeyError"),
        ("zoo_of_parties:asks", "missing 1 required positional argument"),
        ("zoo_of_parties:absent", "has no 'absent'"),
        ("zoo_of_parties:number", "neither a model nor a function"),
        ("no_such_zoo:build", "no module 'no_such_zoo'"),
        ("zoo_of_parties.inner:build", "no module 'zoo_of_parties.inner'"),
    ],
)
def test_factories_that_give_no_model(models: Path, reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        factory.load(request(reference))


@pytest.mark.parametrize("name", ["build", "model"])
def test_a_factory_of_onnx_runs(models: Path, name: str) -> None:
    side = factory.load(request(f"zoo_of_parties:{name}"))
    assert side.inputs[0]["name"] == "image"
    image = np.zeros((2, 3, 12, 12), np.float32)
    assert len(side.run({"image": image})[0]) == 2


def test_a_factory_is_found_from_the_current_directory_of_the_worker(models: Path) -> None:
    party = resolve("zoo_of_parties:build", as_target=True)
    with Side(label="worker", threads=1, timeout=60) as side:
        description = side.description(side.submit_load(party.loader, dict(party.request)))
        assert description.inputs[0].name == "image"
        file = side.scratch / "in.safetensors"
        write_tensors(str(file), {"image": np.ones((1, 3, 12, 12), np.float32)})
        assert side.outputs(side.submit_run(file, "run"), "run").outputs[0].shape[0] == 1
