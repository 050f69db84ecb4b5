"""The protocol of docs/worker-protocol.md, from the parent's end and from the outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import EnvironmentFailure, InputError
from bridge.worker import standalone
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Side, TensorSpec
from bridge.worker.standalone import read_tensors, write_tensors

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "worker-protocol.md"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def side(timeout: float = 60) -> Side:
    return Side(label="test side", threads=1, timeout=timeout)


def feeds(directory: Path, batch: int = 2) -> Path:
    file = directory / "in.safetensors"
    x = np.random.default_rng(0).standard_normal((batch, 4)).astype(np.float32)
    write_tensors(str(file), {"x": x, "scale": np.float32(2)})
    return file


def test_load_weights_and_runs() -> None:
    with side() as worker:
        loading = worker.submit_load("side_models:load", {})
        file = feeds(worker.scratch)
        numbers = [worker.submit_weights(), worker.submit_run(file, "a"), worker.submit_run(file, "b")]
        double = worker.submit_run(file, "a", fp64=True)
        description = worker.description(loading)
        assert description.inputs == (
            TensorSpec("x", "float32", (None, 4)),
            TensorSpec("scale", "float32", ()),
        )
        assert description.outputs == ("y", "best")
        assert description.notes == ("made by hand",)
        in_double = worker.outputs(double, "a", fp64=True)
        run = worker.outputs(numbers[1], "a")
        weights = worker.weights(numbers[0])
        assert weights is not None
        assert weights["offset"] == np.float32(0.5)
        x = read_tensors(str(file))["x"]
        assert np.array_equal(run.outputs[0], x * np.float32(2) + np.float32(0.5))
        assert [each.dtype.name for each in run.outputs] == ["float32", "int64"]
        assert [each.dtype.name for each in in_double.outputs] == ["float64", "int64"]
        assert run.seconds >= 0
        assert run.peak_bytes > 2**20
        scratch = worker.scratch
    assert not scratch.exists()


def test_a_side_may_have_no_names_for_its_weights() -> None:
    with side() as worker:
        worker.submit_load("side_models:load", {"weights": False})
        assert worker.weights(worker.submit_weights()) is None


def test_a_model_that_cannot_be_loaded_keeps_its_error() -> None:
    with side() as worker, pytest.raises(InputError) as caught:
        worker.description(worker.submit_load("side_models:load", {"refuse": True}))
    assert (caught.value.message, caught.value.where) == ("it is not a model", "model.x")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", "died from signal SIGSEGV"),
        ("killed", "died from signal SIGKILL"),
        ("garbage", "is not a message"),
        ("memory", "ran out of memory"),
        ("hang", "had not answered"),
    ],
)
def test_a_broken_side_is_a_failure_of_the_environment(fault: str, message: str) -> None:
    with side(timeout=5) as worker:
        worker.submit_load("side_models:load", {"fault": fault})
        number = worker.submit_run(feeds(worker.scratch), "a")
        with pytest.raises(EnvironmentFailure, match=message) as caught:
            worker.outputs(number, "a")
        assert not isinstance(caught.value, TaskFailure)


@pytest.mark.parametrize(
    ("fault", "text"), [("raise", "ValueError: no such shape"), ("exit", "SystemExit: 0")]
)
def test_a_model_that_raises_leaves_the_worker_alive(fault: str, text: str) -> None:
    with side() as worker:
        worker.submit_load("side_models:load", {"fault": fault})
        number = worker.submit_run(feeds(worker.scratch), "a")
        with pytest.raises(TaskFailure) as caught:
            worker.outputs(number, "a")
        assert caught.value.text == text
        assert worker.description(worker.submit("describe")).what == "a model of the tests"


def test_what_a_model_prints_is_no_answer() -> None:
    with side() as worker:
        worker.submit_load("side_models:load", {"fault": "noise"})
        number = worker.submit_run(feeds(worker.scratch), "a")
        assert len(worker.outputs(number, "a").outputs) == 2


def test_another_version_of_the_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "PROTOCOL", standalone.PROTOCOL + 1)
    with side() as worker, pytest.raises(EnvironmentFailure, match="version 1 of the protocol, not 2"):
        worker.result(worker.submit("describe"))


def _talk(*requests: Any) -> list[dict[str, Any]]:
    """Everything a worker answers, spoken to as the document says and not through bridge's own client."""
    read, write = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, standalone.__file__, str(write)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(write,),
    )
    os.close(write)
    text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in requests)
    worker.communicate(text.encode(), timeout=30)
    with os.fdopen(read) as replies:
        answers = [json.loads(line) for line in replies]
    assert worker.returncode == 0
    return answers


def test_the_document_lists_version_operations_and_fields() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    version = re.search(r"protocol version (\d+)", text)
    assert version is not None
    assert int(version[1]) == standalone.PROTOCOL
    (greeting,) = _talk()
    assert greeting["hello"]["protocol"] == standalone.PROTOCOL
    for name in [*greeting["hello"], *greeting["hello"]["operations"], "close", "classes", "traceback"]:
        assert f"`{name}`" in text, name


def test_every_request_is_answered_once_and_in_order(tmp_path: Path) -> None:
    file = feeds(tmp_path)
    _, *answers = _talk(
        {"id": 1, "op": "run", "inputs": str(file), "outputs": str(tmp_path / "out")},
        {"id": 2, "op": "load", "loader": "side_models:load", "request": {}, "path": [str(HERE)]},
        {"id": 3, "op": "run", "inputs": str(file), "outputs": str(tmp_path / "out")},
        {"id": 4, "op": "dance"},
        "this is no JSON\n",
        {"id": 5, "op": "describe"},
        {"id": 6, "op": "close"},
        {"id": 7, "op": "describe"},
    )
    assert [each["id"] for each in answers] == [1, 2, 3, 4, None, 5]
    assert ["ok" in each for each in answers] == [False, True, True, False, False, True]
    assert answers[2]["ok"]["count"] == 2
    assert list(read_tensors(str(tmp_path / "out"))) == ["0", "1"]
    assert "unknown operation 'dance'" in answers[3]["error"]["message"]
