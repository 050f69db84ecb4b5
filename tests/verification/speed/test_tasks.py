from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import InputError
from bridge.verification.choosing import Choice
from bridge.verification.inputs import Draw, plan
from bridge.verification.pairing import Correspondence, PairedInput
from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.speed.tasks import make_tasks
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import read_tensors

TURNED = Correspondence({"x": PairedInput("image", (0, 2, 1))})


def _planned(*shape: int | None) -> Choice:
    return Choice(plans=plan([TensorSpec("x", "float32", shape)]))


def _given(*shapes: tuple[int, ...]) -> Choice:
    draws = [
        Draw(f"user{index}", "user", None, {"x": np.full(shape, index, np.float32)})
        for index, shape in enumerate(shapes)
    ]
    return Choice(draws=draws)


def _rows(choice: Choice, directory: Path, **settings: Any) -> list[tuple[str, str, int | None]]:
    tasks = make_tasks(choice, TURNED, SpeedSettings(**settings), directory, seed=0)
    return [(each.mode, each.variant, each.batch) for each in tasks]


def test_batches_ascend_and_the_costlier_ways_come_later(tmp_path: Path) -> None:
    assert _rows(_planned(None, 2, 3), tmp_path) == [("inference", "plain", 1), ("inference", "plain", 8)]
    assert _rows(_planned(None, 2, 3), tmp_path, batches=(4, 2, 4), training=True, compiled=True) == [
        (mode, variant, batch)
        for mode in ("inference", "training step")
        for variant in ("plain", "compiled")
        for batch in (2, 4)
    ]


def test_both_sides_get_the_same_numbers_in_their_own_layout(tmp_path: Path) -> None:
    first, second = make_tasks(_planned(None, 2, 3), TURNED, SpeedSettings(), tmp_path, seed=0)
    ours = read_tensors(str(first.inputs["source"]))["x"]
    theirs = read_tensors(str(first.inputs["target"]))["image"]
    assert ours.shape == (1, 2, 3)
    np.testing.assert_array_equal(ours.transpose(0, 2, 1), theirs)
    assert read_tensors(str(second.inputs["target"]))["image"].shape == (8, 3, 2)


def test_a_fixed_batch_is_the_only_one(tmp_path: Path) -> None:
    assert _rows(_planned(5, 2, 3), tmp_path) == [("inference", "plain", 5)]
    assert _rows(_planned(5, 2, 3), tmp_path, batches=(5,)) == [("inference", "plain", 5)]
    with pytest.raises(InputError, match="fixed"):
        _rows(_planned(5, 2, 3), tmp_path, batches=(8,))


def test_the_users_inputs_are_timed_once_for_every_size(tmp_path: Path) -> None:
    choice = _given((4, 2, 3), (1, 2, 3), (4, 2, 3))
    assert _rows(choice, tmp_path) == [("inference", "plain", 1), ("inference", "plain", 4)]
    assert _rows(choice, tmp_path, batches=(4,)) == [("inference", "plain", 4)]
    with pytest.raises(InputError, match="none of the given inputs has a batch of 2"):
        _rows(choice, tmp_path, batches=(2,))
