"""Weight maps and anchors: what is written is read back, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import InputError
from bridge.hub import recipe
from bridge.hub.anchors import Anchor, Anchors
from bridge.hub.weights import TensorMap, WeightMap

MAP = WeightMap(
    source_framework="torch",
    target_framework="tf",
    tensors=(
        TensorMap(
            target="fc/kernel",
            shape=(2, 1),
            dtype="float32",
            kind="parameter",
            trainable=True,
            recipe=recipe.step("transpose", recipe.Source("fc.weight"), perm=(1, 0)),
        ),
        TensorMap("table", (3,), "int64", "constant", False, None),
    ),
    aliases={"fc.weight": ("head.weight",)},
    unused=("counter",),
)
ANCHORS = Anchors(
    "model.py",
    (Anchor("fc", "linear", "fc", "net.py:3", "Gemm", "", (0,), 12, "x", (0, 2, 1), (1, 0, 2)),),
)


@pytest.mark.parametrize("written", [MAP, ANCHORS])
def test_what_is_written_is_read_back(written: WeightMap | Anchors, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    written.save(file)
    assert type(written).load(file) == written


@pytest.mark.parametrize("kind", [WeightMap, Anchors])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "bridge.other"}', "not json"])
def test_another_file_is_refused(kind: type[WeightMap | Anchors], text: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(InputError, match="this is not"):
        kind.load(file)


@pytest.mark.parametrize("written", [MAP, ANCHORS])
def test_another_version_is_refused(written: WeightMap | Anchors, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({**written.to_json(), "version": 99}))
    with pytest.raises(InputError, match="version 99"):
        type(written).load(file)


def test_a_map_moves_another_checkpoint_and_lists_what_is_missing() -> None:
    import numpy as np

    moved = MAP.apply({"fc.weight": np.array([[1.0, 2.0]], np.float32)})
    np.testing.assert_array_equal(moved["fc/kernel"], [[1.0], [2.0]])
    with pytest.raises(InputError, match=r"fc\.weight"):
        MAP.apply({})


def test_anchors_without_the_layout_of_the_source_are_read(tmp_path: Path) -> None:
    file = tmp_path / "anchors.json"
    record = ANCHORS.to_json()
    del record["anchors"][0]["source_permutation"]
    file.write_text(json.dumps(record))
    assert Anchors.load(file).anchors[0].source_permutation is None
