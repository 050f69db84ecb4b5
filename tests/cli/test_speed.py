"""The options of `bridge verify` that measure speed: what reaches the API, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import bridge.api
from bridge.cli.app import run
from bridge.errors import EnvironmentFailure


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def verify(source: str, target: str, **options: Any) -> None:
        found.update(options)
        raise EnvironmentFailure("nothing is run here")

    monkeypatch.setattr(bridge.api, "verify", verify)
    return found


def test_nothing_is_measured_unless_asked_for(asked: dict[str, Any]) -> None:
    assert run(["verify", "a", "b", "-q"]) == 3
    assert asked["speed"] is False
    assert asked["max_slowdown"] is asked["max_memory"] is asked["speed_batches"] is None


def test_all_options_reach_the_api(asked: dict[str, Any]) -> None:
    line = "verify a b -q --speed --speed-batch 1,16 --speed-seconds 5 --compile"
    assert run([*line.split(), "--max-slowdown", "1.1", "--max-memory", "2GiB", "--train", "3"]) == 3
    assert asked["speed"] is asked["compiled"] is True
    assert tuple(asked["speed_batches"]) == (1, 16)
    assert (asked["speed_seconds"], asked["max_slowdown"], asked["max_memory"]) == (5.0, 1.1, "2GiB")
    assert asked["training"] == 3


@pytest.mark.parametrize(
    "line",
    [
        "--max-slowdown 0",
        "--max-slowdown fast",
        "--max-memory lots --speed",
        "--speed-seconds 0 --speed",
        "--compile",
        "--speed --speed-batch 0",
    ],
)
def test_mistakes_exit_with_2_before_anything_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "a.onnx", "b.onnx", *line.split()]) == 2
