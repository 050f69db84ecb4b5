"""Suites over workers: what goes wrong in one pair stays there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from onnx_models import network

from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.suite import read_suite, run_suite

FAULTS = '''
"""Models and inputs that end their process, or never end."""

import os
import signal
import sys
import time

import onnx
import numpy as np


def right():
    return onnx.load("right.onnx")


def segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def no_memory():
    raise MemoryError


def hang():
    time.sleep(3600)


def leaves():
    sys.exit(0)


def inputs_that_crash():
    os.kill(os.getpid(), signal.SIGSEGV)
    yield {"image": np.zeros((1, 3, 12, 12), np.float32)}


def state():
    import numpy

    assert not hasattr(numpy, "left_behind"), "another pair left something behind"
    numpy.left_behind = True
    return right()
'''


def pair(name: str, source: str = "source.onnx", target: str = "right.onnx", **options: object) -> str:
    lines = [f'name = "{name}"', f'source = "{source}"', f'target = "{target}"', "batches = [2]"]
    return "\n".join(["[[pair]]", *lines, *(f"{key} = {json.dumps(each)}" for key, each in options.items())])


def suite_of(directory: Path, *pairs: str) -> Path:
    network(directory / "source.onnx")
    network(directory / "right.onnx")
    network(directory / "wrong.onnx", approximate="tanh")
    (directory / "corrupt.onnx").write_bytes((directory / "right.onnx").read_bytes()[:-200])
    (directory / "empty.onnx").write_bytes(b"")
    (directory / "faults.py").write_text(FAULTS)
    file = directory / "suite.toml"
    file.write_text("\n".join(pairs), encoding="utf-8")
    return file


def by_name(result: SuiteReport) -> dict[str, PairReport]:
    return {each.name: each for each in result.pairs}


def test_what_goes_wrong_in_one_pair_stays_there(tmp_path: Path) -> None:
    file = suite_of(
        tmp_path,
        pair("right"),
        pair("segfault", target="faults:segfault"),
        pair("killed", target="faults:killed"),
        pair("memory", target="faults:no_memory"),
        pair("hang", target="faults:hang", timeout=4),
        pair("leaves", target="faults:leaves"),
        pair("driver", inputs="faults:inputs_that_crash"),
        pair("corrupt", target="corrupt.onnx"),
        pair("empty", target="empty.onnx"),
        pair("missing", target="rigt.onnx"),
        pair("wrong", target="wrong.onnx"),
        pair("factory", target="faults:right"),
        pair("one", target="faults:state"),
        pair("two", target="faults:state"),
    )
    finished = []
    result = run_suite(read_suite(file), jobs=3, on_finish=finished.append)
    found = by_name(result)
    assert [each.name for each in result.pairs] == [each.name for each in read_suite(file).pairs]
    assert {each.name for each in finished} == set(found)
    for name in ("right", "factory", "one", "two"):
        assert found[name].verdict == "equivalent", found[name].reasons
    assert found["wrong"].verdict == "different"
    assert found["wrong"].report is not None
    assert found["wrong"].report.localisation is not None
    for name, words in {
        "segfault": "SIGSEGV",
        "killed": "SIGKILL",
        "memory": "MemoryError",
        "hang": "had not answered after",
        "leaves": "",
        "driver": "SIGSEGV",
        "corrupt": "corrupt.onnx",
        "empty": "empty",
        "missing": "did you mean right.onnx",
    }.items():
        assert found[name].verdict == "could not be checked", name
        assert words in " ".join(found[name].reasons), found[name].reasons
    assert int(result.exit_code) == 1
    assert result.counts == {"equivalent": 4, "different": 1, "could not be checked": 9}


def test_reports_are_the_same_with_and_without_prepared_workers(tmp_path: Path) -> None:
    suite = read_suite(suite_of(tmp_path, pair("a"), pair("b", target="wrong.onnx"), pair("c", seed=7)))
    forked = run_suite(suite, jobs=1, state=tmp_path / "one")
    fresh = run_suite(suite, jobs=2, state=tmp_path / "two", reuse=False)
    for one, other in zip(forked.pairs, fresh.pairs, strict=True):
        assert one.report is not None
        assert other.report is not None
        assert _without_timing(one) == _without_timing(other)


def _without_timing(pair: PairReport) -> str:
    assert pair.report is not None
    record = pair.report.to_dict()
    for key in ("timing", "speed"):
        record.pop(key)
    return json.dumps(record)


def test_results_are_kept_until_something_changes(tmp_path: Path) -> None:
    file = suite_of(
        tmp_path, pair("right"), pair("factory", target="faults:right"), pair("missing", target="none.onnx")
    )

    def resumed(resume: bool = True) -> dict[str, bool]:
        result = run_suite(read_suite(file), resume=resume)
        return {each.name: each.resumed for each in result.pairs}

    assert resumed() == {"right": False, "factory": False, "missing": False}
    assert resumed() == {"right": True, "factory": True, "missing": False}
    assert resumed(resume=False) == {"right": False, "factory": False, "missing": False}
    (tmp_path / "faults.py").write_text(FAULTS + "\n# edited\n")
    assert resumed() == {"right": True, "factory": False, "missing": False}
    network(tmp_path / "right.onnx", weight_factor=1.1)
    result = by_name(run_suite(read_suite(file), resume=True))
    assert not result["right"].resumed
    assert result["right"].verdict == "different"
    assert (tmp_path / ".bridge-suite" / ".gitignore").exists() or (
        tmp_path / ".bridge-suite" / "suite" / ".gitignore"
    ).exists()


def test_fail_fast_begins_no_further_pair(tmp_path: Path) -> None:
    file = suite_of(tmp_path, pair("wrong", target="wrong.onnx"), pair("right"), pair("again"))
    result = run_suite(read_suite(file), jobs=1, fail_fast=True)
    assert [each.verdict for each in result.pairs] == ["different", *["could not be checked"] * 2]
    assert all("not run" in each.error for each in result.pairs[1:])


def test_an_interruption_ends_all_workers_and_keeps_what_was_found(tmp_path: Path) -> None:
    file = suite_of(tmp_path, pair("right"), pair("hang", target="faults:hang"))
    command = [sys.executable, "-m", "bridge", "verify", "--suite", str(file), "--jobs", "2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    kept = tmp_path / ".bridge-suite" / "suite" / "right.json"
    deadline = time.monotonic() + 120
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert kept.exists()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "interrupted" in errors
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_suite_without_failures_exits_with_0(tmp_path: Path) -> None:
    result = run_suite(read_suite(suite_of(tmp_path, pair("right"))))
    assert int(result.exit_code) == 0
    missing = suite_of(tmp_path, pair("right"), pair("missing", target="none.onnx"))
    assert int(run_suite(read_suite(missing), resume=True).exit_code) == 3


@pytest.mark.parametrize("option", ["speed", "max_slowdown"])
def test_pairs_that_are_timed_run_alone_after_the_others(option: str) -> None:
    from bridge.verification.suite import Pair
    from bridge.verification.suite.running import is_measured

    assert is_measured(Pair("a", "b", "c", {option: True}))
    assert not is_measured(Pair("a", "b", "c", {option: False}))
