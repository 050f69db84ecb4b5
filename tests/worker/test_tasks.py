from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import EnvironmentFailure, InputError, MissingPackage, TrustError, UnsupportedOps
from bridge.worker.tasks import run_task

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def run(name: str, **request: Any) -> dict[str, Any]:
    return run_task(f"worker_tasks:{name}", request, label="test worker", timeout=60)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_request_and_result_cross_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = {"text": "ünï\n\"'\u2028", "numbers": [1, 2.5, None], "nested": {"a": []}}
    reply = run("echo", **request)
    assert reply["request"] == request
    assert reply["seed"] == "0"
    assert reply["cwd"] == str(tmp_path)
    assert 0 < reply["_stats"]["seconds"] < 60
    assert 2**20 < reply["_stats"]["peak_bytes"] < 2**30


def test_large_request() -> None:
    text = "x" * 1_000_000
    assert run("echo", text=text)["request"]["text"] == text


def test_peak_memory_is_the_workers_own() -> None:
    ballast = bytearray(b"x" * 300_000_000)
    small = run("echo")["_stats"]["peak_bytes"]
    large = run("allocate", bytes=200_000_000)["_stats"]["peak_bytes"]
    del ballast
    assert small < 150_000_000 < large


def test_noise_reaches_neither_the_terminal_nor_the_protocol(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    reply = run_task("worker_tasks:noisy", {}, label="test worker", timeout=60, on_progress=lines.append)
    assert reply["stdin"] == ""
    assert "forged" not in reply
    assert lines == ["half way"]
    assert capfd.readouterr() == ("", "")


def test_errors_keep_class_and_text() -> None:
    with pytest.raises(InputError) as caught:
        run("refuse", kind="input")
    error = caught.value
    assert type(error) is InputError
    assert (error.message, error.hint, error.where) == ("it is empty", "fill it", "model.pt")
    assert "in refuse" in str(error.__cause__)


def test_an_unknown_subclass_arrives_as_the_nearest_known_class() -> None:
    with pytest.raises(TrustError) as caught:
        run("refuse", kind="subclass")
    assert type(caught.value) is TrustError


def test_unsupported_operators_keep_their_list() -> None:
    with pytest.raises(UnsupportedOps) as caught:
        run("refuse", kind="ops")
    (op,) = caught.value.ops
    assert (op.op_type, op.count, op.scopes, caught.value.target) == ("Foo", 3, ("layers.0",), "torch")
    assert caught.value.hint == "write a lowering"


def test_a_foreign_exception_is_an_environment_failure() -> None:
    with pytest.raises(EnvironmentFailure, match="test worker failed: ValueError: first line") as caught:
        run("refuse", kind="bug")
    assert "second line" in str(caught.value.__cause__)
    assert "second line" not in caught.value.message


def test_exit_inside_a_task_is_not_success() -> None:
    with pytest.raises(EnvironmentFailure, match="SystemExit"):
        run("refuse", kind="exit")


def test_missing_framework_names_the_extra() -> None:
    with pytest.raises(MissingPackage) as caught:
        run("refuse", kind="missing")
    assert caught.value.hint == "pip install 'bridge-ml[torch]'"


@pytest.mark.parametrize(
    ("task", "request_", "message", "hint"),
    [
        ("segfault", {}, "died from signal SIGSEGV", "about to crash"),
        ("vanish", {"status": 0}, "died with exit status 0", "it printed nothing"),
        ("vanish", {"status": 7}, "died with exit status 7", "it printed nothing"),
        ("killed", {}, "died from signal SIGKILL", "memory runs out"),
        ("garbage", {}, "Warning: a library", "it printed nothing"),
        ("not_json", {}, "TypeError", "--debug"),
        ("not_an_object", {}, "something else than an object", ""),
        ("no_such_function", {}, "AttributeError", "--debug"),
    ],
)
def test_a_broken_worker(task: str, request_: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        run(task, **request_)
    assert "test worker" in caught.value.message
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_missing_interpreter() -> None:
    with pytest.raises(EnvironmentFailure, match="could not be started"):
        run_task("worker_tasks:echo", {}, label="test worker", python="/nonexistent/python")


def test_timeout_ends_the_worker_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(EnvironmentFailure, match="had not answered after 3 seconds"):
        run_task("worker_tasks:hang", {"pids": str(pids)}, label="test worker", timeout=3)
    worker, child, temporary = pids.read_text().split()
    assert gone(int(worker))
    assert gone(int(child))
    assert not Path(temporary).exists()


def heed_interrupts() -> None:
    """A test run in the background ignores SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_worker_ends_with_its_parent(tmp_path: Path, sent: signal.Signals) -> None:
    pids = tmp_path / "pids"
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from bridge.worker.tasks import run_task\n"
        f"run_task('worker_tasks:hang', {{'pids': {str(pids)!r}}}, label='test worker')\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 30
    while not (pids.exists() and len(pids.read_text().split()) == 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(sent)
    _, stderr = parent.communicate(timeout=20)
    worker, child, temporary = pids.read_text().split()
    assert gone(int(worker))
    assert gone(int(child))
    if sent is signal.SIGINT:
        assert b"KeyboardInterrupt" in stderr
        assert not Path(temporary).exists()
        assert list(tmp_path.iterdir()) == [pids]
