"""Timings over the protocol, with a model in numpy, and the readings of memory and waiting."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.formats.request import ReadRequest
from bridge.worker import standalone
from bridge.worker.failures import TaskFailure, Unavailable
from bridge.worker.side import Side
from bridge.worker.standalone import ArrayTiming, time_calls, write_tensors
from tests.worker.network import Network

LOADER = "tests.worker.network:load"


def _side() -> Side:
    return Side(label="test side", threads=2, timeout=60, alone=True)


def _feeds(directory: Path) -> Path:
    file = directory / "in.safetensors"
    write_tensors(str(file), {"x": np.ones((2, 4), np.float32)})
    return file


def test_a_model_that_knows_no_better_is_timed_from_array_to_array() -> None:
    with _side() as worker:
        description = worker.description(worker.submit_load(LOADER, {}))
        cost = description.cost
        assert cost.import_bytes > 2**20
        assert cost.peak_bytes >= cost.loaded_bytes > 0
        assert cost.import_seconds > 0
        timing = worker.open_timing(_feeds(worker.scratch))
        assert timing.timed == "a run from numpy arrays to numpy arrays"
        assert (timing.device, timing.within, timing.between) == ("cpu", None, None)
        block = worker.time(timing.number, 5, 3)
        assert len(block.seconds) == 5
        assert all(each > 0 for each in block.seconds)
        assert block.wall >= 3 * sum(block.seconds)
        assert block.device_seconds is None
        peak, on_device = worker.close_timing(timing.number)
        assert peak > 2**20
        assert on_device is None
        with pytest.raises(TaskFailure):
            worker.time(timing.number, 1, 1)


def test_what_a_model_cannot_do_is_unavailable() -> None:
    with _side() as worker:
        worker.description(worker.submit_load(LOADER, {}))
        for way in ({"training": True}, {"compiled": True}):
            with pytest.raises(Unavailable, match="can only be timed as it runs"):
                worker.open_timing(_feeds(worker.scratch), **way)


class _Counting:
    """A timing that counts its calls, on an accelerator of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.collecting: list[bool] = []

    def call(self) -> None:
        self.calls += 1
        self.collecting.append(gc.isenabled())

    def device_seconds(self) -> float:
        return 0.25 * self.calls

    def device_peak_bytes(self) -> int:
        return 77

    def close(self) -> None:
        self.calls = -1


def test_groups_of_calls_are_one_sample_each() -> None:
    ticks = iter(float(each) for each in range(100))
    timing = _Counting()
    found = time_calls(timing, 3, 4, clock=lambda: next(ticks))
    assert timing.calls == 12
    assert found["seconds"] == [0.25] * 3
    assert found["wall"] == 7.0
    assert found["device_seconds"] == [1.0, 2.0, 3.0]
    assert found["cpu"] >= 0.0


def test_garbage_is_not_collected_while_calls_are_timed() -> None:
    side: Any = standalone.Side()
    timing = _Counting()
    side._timings[0] = timing
    side.time(0, 2, 1)
    assert timing.collecting == [False, False]
    assert gc.isenabled()
    assert side.close_timing(0)["device_peak_bytes"] == 77
    assert timing.calls == -1


def test_a_timing_whose_first_call_fails_is_closed(tmp_path: Path) -> None:
    closed: list[bool] = []

    class Failing(ArrayTiming):
        def call(self) -> None:
            raise ValueError("it does not run")

        def close(self) -> None:
            closed.append(True)

    side: Any = standalone.Side()
    side._model = Network({})
    side._model.timing = lambda feeds, training, compiled: Failing(None, feeds)
    with pytest.raises(ValueError, match="does not run"):
        side.open_timing(str(_feeds(tmp_path)), False, False)
    assert closed == [True]
    assert side._timings == {}


def test_memory_can_be_counted_from_a_point_on() -> None:
    if not standalone.restart_peak_memory():
        pytest.skip("this system cannot restart the count")
    before = standalone.peak_memory()
    assert abs(before - standalone.resident_memory()) < 64 * 2**20
    block = np.ones(64 * 2**20, np.uint8)
    assert standalone.peak_memory() >= before + block.nbytes // 2
    del block
    assert standalone.restart_peak_memory()
    assert standalone.peak_memory() < before + 32 * 2**20


def test_waiting_is_told_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = standalone.waiting_time()
    assert waited is None or waited >= 0.0
    listed = standalone.os.listdir
    monkeypatch.setattr(standalone.os, "listdir", lambda path: [*listed(path), "ended meanwhile"])
    again = standalone.waiting_time()
    assert (again is None) == (waited is None)
    monkeypatch.setattr(standalone.os, "listdir", lambda path: ["ended meanwhile"])
    assert standalone.waiting_time() is None


_FACTORY = """
import onnx
from onnx import TensorProto, helper


def build():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
"""


def test_what_the_module_of_a_factory_imports_is_no_part_of_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timed_factory.py").write_text(_FACTORY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with _side() as worker:
        request = ReadRequest("timed_factory:build", "factory", trust=True).to_json()
        cost = worker.description(worker.submit_load("bridge.worker.sides.factory:load", request)).cost
        bare = worker.submit_load(LOADER, {})
        assert worker.description(bare).cost.import_bytes > 2**20
    assert cost.import_bytes > 30 * 2**20
    assert cost.loaded_bytes - cost.import_bytes < cost.import_bytes
