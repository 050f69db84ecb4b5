"""Workers that are forked from prepared processes behave as those that are started afresh."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import EnvironmentFailure, InputError
from bridge.worker import pool as pools
from bridge.worker.launch import Start, launching
from bridge.worker.pool import Client, Pool, prepared_for, supported
from bridge.worker.process import WorkerProcess
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors
from bridge.worker.tasks import run_task

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not supported(), reason="prepared processes are for Linux")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with Pool() as pool:
        yield pool.address


@pytest.fixture(autouse=True)
def _forking(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(HERE))
    with launching(Client(address)):
        yield


def run(name: str, *, timeout: float = 60, **request: Any) -> dict[str, Any]:
    return run_task(f"worker_tasks:{name}", request, label="forked worker", timeout=timeout, prepared="onnx")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_forked_worker_has_its_own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reply = run("echo", key=[1, 2])
    assert reply["request"] == {"key": [1, 2]}
    assert reply["seed"] == "0"
    assert reply["cwd"] == str(tmp_path)
    started = run_task("worker_tasks:echo", {}, label="worker", prepared="onnx", directory=str(HERE))
    assert started["cwd"] == str(HERE)


def test_forked_workers_end_in_every_way_that_others_do() -> None:
    with pytest.raises(InputError, match="it is empty"):
        run("refuse", kind="input")
    with pytest.raises(EnvironmentFailure, match="died from signal SIGSEGV") as caught:
        run("segfault")
    assert "about to crash" in str(caught.value.hint)
    with pytest.raises(EnvironmentFailure, match="died from signal SIGKILL"):
        run("killed")
    with pytest.raises(EnvironmentFailure, match="exit status 7"):
        run("vanish", status=7)
    with pytest.raises(EnvironmentFailure, match="not a message"):
        run("garbage")
    assert run("noisy")["stdin"] == ""


def test_a_forked_worker_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(EnvironmentFailure, match="had not answered"):
        run("hang", timeout=3, pids=str(pids))
    worker, child, temporary = pids.read_text().split()
    assert gone(int(worker))
    assert gone(int(child))
    assert not Path(temporary).exists()


def test_a_forked_worker_may_be_interrupted_from_another_thread(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    workers: list[WorkerProcess] = []

    def interrupt() -> None:
        while not pids.exists() or not pids.read_text():
            time.sleep(0.05)
        workers[0].interrupt()

    threading.Thread(target=interrupt).start()
    with pytest.raises(EnvironmentFailure, match="SIGKILL"):
        run_task(
            "worker_tasks:hang",
            {"pids": str(pids)},
            label="worker",
            prepared="onnx",
            on_start=workers.append,
            timeout=60,
        )


def test_sides_are_forked_and_share_no_state(tmp_path: Path) -> None:
    outputs = []
    for _ in range(2):
        with Side(label="side", threads=1, timeout=60, prepared="onnx") as side:
            side.description(side.submit_load("side_models:load", {}))
            file = tmp_path / "in.safetensors"
            write_tensors(str(file), {"x": np.ones((2, 4), np.float32), "scale": np.float32(2)})
            outputs.append(side.outputs(side.submit_run(file, "a"), "a").outputs[0].copy())
    np.testing.assert_array_equal(*outputs)


def test_what_cannot_be_forked_is_started_afresh(address: str, tmp_path: Path) -> None:
    client = Client(address)
    with (tmp_path / "log").open("wb") as log:
        rest = (dict(os.environ), 0, log, 1, str(tmp_path))
        assert client.launch(Start(["/usr/bin/python-of-others"], *rest, "side", "onnx")) is None
        assert client.launch(Start([sys.executable], *rest, None, "onnx")) is None
        assert client.launch(Start([sys.executable], *rest, "side", None)) is None
        assert (
            Client(str(tmp_path / "nothing")).launch(Start([sys.executable], *rest, "side", "onnx")) is None
        )


def test_another_environment_is_another_prepared_process(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run("echo")["seed"] == "0"
    monkeypatch.setattr(pools, "LARGEST", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    assert run("echo")["seed"] == "0"  # started afresh


def test_the_end_of_the_pool_is_the_end_of_its_workers(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with Pool() as pool, launching(Client(pool.address)):
        worker = WorkerProcess(
            [sys.executable, "-c", "raise SystemExit"], label="w", program="task", prepared="onnx"
        )
        path = [str(HERE), *sys.path]
        worker.send({"function": "worker_tasks:hang", "request": {"pids": str(pids)}, "path": path})
        deadline = time.monotonic() + 30
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
    hanging = int(pids.read_text().split()[0])
    assert gone(hanging)
    worker.close()


def test_a_pool_whose_owner_is_killed_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "from bridge.worker.launch import launching\n"
        "from bridge.worker.pool import Client, Pool\n"
        "from bridge.worker.tasks import run_task\n"
        "with Pool() as pool, launching(Client(pool.address)):\n"
        f"    run_task('worker_tasks:hang', {{'pids': {str(pids)!r}}}, label='w', prepared='onnx')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    owner = subprocess.Popen([sys.executable, "-c", program], env=environment)
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(pids.read_text().split()[0])
    prepared = parent_of(worker)
    owner.kill()
    owner.wait()
    assert gone(worker)
    assert gone(prepared)


@pytest.mark.parametrize(
    ("loader", "request_", "kind"),
    [
        ("bridge.worker.sides.torch_source:load", {}, "torch"),
        ("bridge.worker.sides.saved_model:load", {}, "tf"),
        ("bridge.worker.sides.onnx_file:load", {}, "onnx"),
        ("bridge.worker.sides.tf_source:load", {"device": "cuda:0"}, None),
        ("mine.sides:load", {}, None),
        ("bridge.worker.sides.factory:load", {"path": "nets_torch:build"}, "torch"),
        ("bridge.worker.sides.factory:load", {"path": "nets_keras:build"}, "tf"),
        ("bridge.worker.sides.factory:load", {"path": "nets_both:build"}, None),
        ("bridge.worker.sides.factory:load", {"path": "nets_sets:build"}, None),
        ("bridge.worker.sides.factory:load", {"path": "nowhere:build"}, None),
    ],
)
def test_the_kind_of_prepared_process(
    loader: str, request_: dict[str, Any], kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_torch.py").write_text("import layers_torch\n")
    (tmp_path / "layers_torch.py").write_text("from torch import nn\n")
    (tmp_path / "nets_keras.py").write_text("import keras\nimport tensorflow as tf\n")
    (tmp_path / "nets_both.py").write_text("import keras, torch\n")
    (tmp_path / "nets_sets.py").write_text("import os\nos.environ['A'] = '1'\nimport torch\n")
    monkeypatch.chdir(tmp_path)
    assert prepared_for(loader, request_) == kind
