from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.comparison.data import read_data
from bridge.errors import InputError
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import write_tensors


def test_labels_are_found_by_their_usual_names_or_the_given_one(tmp_path: Path) -> None:
    x, y = np.zeros((6, 2), np.float32), np.arange(6)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = read_data(tmp_path / "a.npz")
    assert list(data.arrays) == ["x"]
    assert data.labels is not None
    np.savez(tmp_path / "b.npz", x=x, answers=y)
    assert read_data(tmp_path / "b.npz").labels is None
    assert read_data(tmp_path / "b.npz", "answers").labels is not None
    write_tensors(str(tmp_path / "c.safetensors"), {"y": x})
    assert list(read_data(tmp_path / "c.safetensors").arrays) == ["y"]


def test_chunks_have_the_models_names_and_its_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.arange(300.0).reshape(300, 1), y=np.zeros(300))
    data = read_data(tmp_path / "a.npz")
    dynamic = [TensorSpec("x", "float32", (None, 1))]
    sizes = [chunk["x"].shape[0] for chunk in data.chunks(dynamic)]  # type: ignore[call-overload]
    assert sum(sizes) == 300
    fixed = [TensorSpec("image", "float32", (7, 1))]
    assert [len(chunk["image"]) for chunk in data.chunks(fixed)] == [7] * 42  # type: ignore[call-overload]
    with pytest.raises(InputError, match="500 samples at a time"):
        list(data.chunks([TensorSpec("image", "float32", (500, 1))]))
    with pytest.raises(InputError, match="the inputs a, b"):
        list(data.chunks([TensorSpec("a", None, None), TensorSpec("b", None, None)]))


def test_bad_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no")
    np.savez(tmp_path / "uneven.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    np.savez(tmp_path / "scalar.npz", x=np.float32(1))
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    for name in ("bad.npz", "uneven.npz", "scalar.npz", "one.npy", "object.npz", "none.npz"):
        with pytest.raises(InputError):
            read_data(tmp_path / name)
    np.savez(tmp_path / "good.npz", x=np.zeros((3, 2)))
    with pytest.raises(InputError, match="no array 'y'"):
        read_data(tmp_path / "good.npz", "y")
