import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from safetensors.numpy import save_file

from bridge.errors import InputError
from bridge.formats.detect import FORMATS, detect, is_converted, locate


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def torch_zip(path: Path, content: bytes, **more: bytes) -> Path:
    stem = path.stem
    return write_zip(
        path,
        {f"{stem}/data.pkl": content, f"{stem}/version": b"3\n"}
        | {f"{stem}/{name}": data for name, data in more.items()},
    )


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protocol-buffer field; lengths up to 127."""
    return bytes([number << 3 | 2, len(content)]) + content


def onnx_bytes() -> bytes:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    return model.SerializeToString()


STATE_DICT = pickle.dumps(OrderedDict(weight=[1.0, 2.0]), protocol=2)
# `cos` is no module of PyTorch, but what counts is that it is none of tensors' own.
CODE = b"\x80\x02cmymodels\nNet\nq\x00)\x81q\x01."
GRAPH_NODE = field(1, b"x") + field(2, b"Placeholder")
HDF5_HEAD = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(8)


def hdf5(body: bytes, *, size: int | None = None) -> bytes:
    length = 96 + len(body) if size is None else size
    head = HDF5_HEAD + bytes(8) + bytes(8) + struct.pack("<Q", length)
    return head + bytes(96 - len(head)) + body


def test_zip_archives_are_told_apart_by_their_members(tmp_path: Path) -> None:
    assert detect(torch_zip(tmp_path / "a.pt", STATE_DICT)) == "state_dict"
    assert detect(torch_zip(tmp_path / "b.pth", CODE)) == "pickle_module"
    script = {"code/__torch__/net.py": b"", "constants.pkl": STATE_DICT}
    assert detect(torch_zip(tmp_path / "c.pt", STATE_DICT, **script)) == "torchscript"
    exported = {"m/models/model.json": b"{}", "m/archive_format": b"pt2", "m/data/x/data.pkl": CODE}
    assert detect(write_zip(tmp_path / "d.pt2", exported)) == "pt2"
    keras = {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}
    assert detect(write_zip(tmp_path / "e.keras", keras)) == "keras"


def test_every_detected_format_is_declared(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_bytes())
    assert detect(tmp_path / "m.onnx") in FORMATS
    assert {each.framework for each in FORMATS.values()} == {"torch", "tf", "onnx"}


def test_a_pickle_is_not_run_to_be_told(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> object:
            return os.system, (f"touch {marker}",)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    torch_zip(tmp_path / "evil.pt", pickle.dumps(Evil(), protocol=2))
    assert detect(tmp_path / "evil.pkl") == "pickle_module"
    assert detect(tmp_path / "evil.pt") == "pickle_module"
    assert not marker.exists()


def test_safetensors_must_end_where_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": np.ones((3, 2), np.float32)}, path)
    assert detect(path) == "safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"\0", whole[:20]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="safetensors file is truncated"):
            detect(path)


def test_safetensors_without_tensors_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({}, path)
    assert detect(path) == "safetensors"


def test_hdf5_of_a_model_and_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(hdf5(b"...model_config\0..."))
    assert detect(path) == "h5"
    path.write_bytes(hdf5(b"...layers..."))
    assert detect(path) == "h5_weights"
    path.write_bytes(hdf5(b"...layers...", size=1000))
    with pytest.raises(InputError, match="HDF5 file is truncated"):
        detect(path)


def test_protocol_buffers_are_told_apart(tmp_path: Path) -> None:
    graph = tmp_path / "frozen.pb"
    graph.write_bytes(field(1, GRAPH_NODE) + field(4, b""))
    assert detect(graph) == "frozen_graph"
    model = tmp_path / "m.onnx"
    model.write_bytes(onnx_bytes())
    assert detect(model) == "onnx"


def test_a_saved_model_of_tensorflow_2_has_an_object_graph(tmp_path: Path) -> None:
    graph = tmp_path / "saved_model.pb"
    graph.write_bytes(b"\x08\x01" + field(2, field(2, b"graph") + field(7, b"objects")))
    assert detect(tmp_path) == "saved_model"
    assert locate(graph).path == tmp_path
    graph.write_bytes(b"\x08\x01" + field(2, field(2, b"graph")))
    assert detect(tmp_path) == "saved_model_v1"
    graph.write_bytes(graph.read_bytes()[:-2])
    with pytest.raises(InputError, match="SavedModel is truncated"):
        detect(tmp_path)


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.meta", "model.ckpt.index", "."])
def test_a_checkpoint_goes_by_its_prefix(tmp_path: Path, name: str) -> None:
    for suffix in (".meta", ".index", ".data-00000-of-00001"):
        (tmp_path / f"model.ckpt{suffix}").write_bytes(b"x")
    location = locate(tmp_path / name)
    assert location.format == "tf1_checkpoint"
    assert location.path == tmp_path / "model.ckpt"


def test_of_several_checkpoints_the_latest_counts(tmp_path: Path) -> None:
    for step in (1, 2):
        for suffix in (".meta", ".index", ".data-00000-of-00001"):
            (tmp_path / f"model-{step}{suffix}").write_bytes(b"x")
    with pytest.raises(InputError, match="2 checkpoints"):
        locate(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model-1"\n')
    assert locate(tmp_path).path == tmp_path / "model-1"


def test_a_checkpoint_without_graph_or_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no \.meta file"):
        detect(tmp_path / "model")
    (tmp_path / "model.meta").write_bytes(b"x")
    with pytest.raises(InputError, match="no data file"):
        detect(tmp_path / "model")


def test_a_converted_directory_is_read_through_its_artifact(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "weights.json").write_text("{}")
    assert is_converted(tmp_path)
    with pytest.raises(InputError, match=r"no model\.pt2"):
        locate(tmp_path)
    write_zip(tmp_path / "model.pt2", {"m/models/model.json": b"{}"})
    assert locate(tmp_path).path == tmp_path / "model.pt2"
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01" + field(2, field(7, b"objects")))
    assert locate(tmp_path).format == "saved_model"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.pt", b"", "the file is empty"),
        ("m.onnx", b"", "the file is empty"),
        ("m.pt", b"PK\x03\x04rest", "truncated"),
        ("m.pkl", pickle.dumps({"a": 1})[:-1], "pickle is truncated"),
        ("m.onnx", onnx_bytes()[:-3], "truncated"),
        ("m.py", b"import torch\n", "text"),
        ("m.pt", b"version https://git-lfs.github.com/spec/v1\n", "text"),
        ("m.bin2", b"\x00\x01\x02\x03" * 9, "no format that bridge knows"),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        ("m.onnx", pickle.dumps({"a": 1}), r"suffix \.onnx does not fit"),
        ("m.keras", hdf5(b"model_config\0"), r"suffix \.keras does not fit"),
    ],
)
def test_what_is_no_model_says_so(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        detect(path)
    assert caught.value.hint
    assert str(path) in str(caught.value)


def test_unknown_suffixes_go_by_content(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(onnx_bytes())
    assert detect(path) == "onnx"
    path = tmp_path / "model.ONNX"
    path.write_bytes(onnx_bytes())
    assert detect(path) == "onnx"


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model that bridge knows"):
        detect(write_zip(tmp_path / "m.zip", {"readme.txt": b"hello"}))
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="numpy arrays") as caught:
        detect(tmp_path / "arrays.npz")
    assert "--inputs" in str(caught.value.hint)


def test_a_missing_file_suggests_close_names(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pt2").write_bytes(b"x")
    with pytest.raises(InputError, match="no such file") as caught:
        detect(tmp_path / "resnet81.pt2")
    assert "resnet18.pt2" in str(caught.value.hint)
    with pytest.raises(InputError, match="no such file") as caught:
        detect(tmp_path / "nowhere" / "model.pt")
    assert "does not exist either" in str(caught.value.hint)


def test_a_directory_without_a_model_names_a_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        detect(tmp_path)
    (tmp_path / "a.onnx").write_bytes(onnx_bytes())
    with pytest.raises(InputError, match="holds no model") as caught:
        detect(tmp_path)
    assert "a.onnx" in str(caught.value.hint)


def test_a_hostile_safetensors_header_is_no_crash(tmp_path: Path) -> None:
    for header in ({"a": 1}, [1], {"a": {"data_offsets": "xy"}}, {"a": {"data_offsets": [0, "z"]}}):
        text = json.dumps(header).encode()
        path = tmp_path / "w.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(InputError):
            detect(path)
