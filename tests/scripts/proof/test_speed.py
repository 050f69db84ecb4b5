"""The proof of the speed measurement: its table, its bars, and the networks that it times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from scripts.proof import speed
from scripts.proof.speed import Record, background, build, missed, table

RIGHT = Record("onnx", "itself", 0, 0, "equal", "passed", 1.0, 0.98, 1.02, "cpu", 1.1, 3, 0.5, 0.4, 9.0)
SLOWER = replace(RIGHT, case="1.3 times the work", decided="slower", gate="failed", ratio=1.3)


def test_a_version_called_slower_than_itself_misses_the_bar() -> None:
    assert missed([RIGHT, SLOWER, replace(RIGHT, decided="undecided", gate="undecided")]) == []
    assert len(missed([replace(RIGHT, decided="slower")])) == 1
    assert len(missed([replace(RIGHT, gate="failed")])) == 1


def test_a_slower_version_that_is_not_found_misses_the_bar() -> None:
    assert len(missed([replace(SLOWER, decided="equal"), replace(SLOWER, decided="undecided")])) == 2


def test_the_table_counts_decisions() -> None:
    lines = table([RIGHT, replace(RIGHT, run=1, ratio=1.04), SLOWER])
    assert len(lines) == 4
    assert lines[2].startswith("| onnx | itself | 0 processes | 2 | 0 | 2 | 0 | 1.00 to 1.04, median 1.02 |")
    assert lines[3].startswith("| onnx | 1.3 times the work | 0 processes | 1 | 1 | 0 | 0 |")


def test_a_repeated_layer_is_three_tenths_more_work(tmp_path: Path) -> None:
    nodes = []
    for layers in speed.CASES.values():
        build("onnx", layers, tmp_path / "net.onnx")
        model = onnx.load(str(tmp_path / "net.onnx"))
        onnx.checker.check_model(model)
        nodes.append(sum(node.op_type == "Conv" for node in model.graph.node))
    assert nodes[1] / nodes[0] == pytest.approx(1.3)


def test_the_load_ends_with_its_block() -> None:
    with background(1) as started:
        assert all(each.poll() is None for each in started)
    assert all(each.poll() is not None for each in started)
