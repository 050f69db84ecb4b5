from __future__ import annotations

import ast
import json
import struct
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from bridge.worker import standalone

SOURCE = Path(standalone.__file__).read_text(encoding="utf-8")


def test_the_syntax_is_that_of_python_3_7() -> None:
    ast.parse(SOURCE, feature_version=(3, 7))


def test_only_the_standard_library_numpy_and_ml_dtypes_are_imported() -> None:
    names = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy", "ml_dtypes"}
    top = {each.names[0].name for each in ast.parse(SOURCE).body if isinstance(each, ast.Import)}
    assert "numpy" not in top


def test_no_annotation_is_evaluated() -> None:
    """`dict[str, Any]` is an error where it is evaluated before Python 3.9."""
    assert "from __future__ import annotations" in SOURCE


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from(
                ["bool", "uint8", "int16", "float16", "int64", "float32", "float64", "complex64"]
            ),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=4,
    )
)
def test_tensors_survive_bit_for_bit(tensors: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/t.safetensors"
        standalone.write_tensors(path, tensors)
        for writable in (False, True):
            read = standalone.read_tensors(path, writable=writable)
            assert list(read) == list(tensors)
            for name, array in tensors.items():
                assert read[name].dtype == array.dtype
                assert read[name].shape == array.shape
                assert read[name].tobytes() == array.tobytes()
                if writable and array.size:
                    assert read[name].flags.writeable
                    assert read[name].flags.aligned


def test_the_files_are_those_of_safetensors(tmp_path: Path) -> None:
    tensors = {
        "a": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.array(True),
        "strided": np.arange(10, dtype=np.int64)[::3],
        "half": np.array([1.5], ml_dtypes.bfloat16),
    }
    standalone.write_tensors(str(tmp_path / "ours"), tensors)
    theirs = load_file(tmp_path / "ours")
    for name, array in tensors.items():
        assert np.array_equal(theirs[name], array)
        assert theirs[name].shape == array.shape
    save_file({name: np.array(array, order="C") for name, array in theirs.items()}, tmp_path / "theirs")
    read = standalone.read_tensors(str(tmp_path / "theirs"))
    assert all(np.array_equal(read[name], theirs[name]) for name in theirs)
    assert read["half"].dtype == ml_dtypes.bfloat16


def test_what_safetensors_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        standalone.write_tensors(str(tmp_path / "x"), {"x": np.array([print])})


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 7),
        ({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, 8),
        ({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, 8),
        ({"x": {"dtype": "Q99", "shape": [2], "data_offsets": [0, 8]}}, 8),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(tmp_path: Path, header: Any, size: int) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * size)
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        standalone.read_tensors(str(path))


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"hello world, this is text"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        standalone.read_tensors(str(path))
