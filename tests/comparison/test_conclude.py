from __future__ import annotations

from bridge.comparison.conclude import conclude, lighter
from bridge.verification.report import Report, SideReport
from bridge.verification.speed.result import (
    Decision,
    Estimate,
    MemoryUse,
    Mode,
    Ratio,
    SideMemory,
    SpeedResult,
    SpeedRow,
    Variant,
)

MIB = 2**20


def row(
    decided: Decision,
    value: float,
    low: float,
    high: float,
    *,
    mode: Mode = "inference",
    batch: int = 1,
    variant: Variant = "plain",
    memory: tuple[int, int] = (100 * MIB, 100 * MIB),
) -> SpeedRow:
    ratio = Ratio(Estimate(value, low, high), "wall", (), 9)
    used = MemoryUse(SideMemory(memory[0]), SideMemory(memory[1]), memory[1] / memory[0])
    return SpeedRow(mode, variant, batch, None, None, ratio, ratio, None, used, decided, "")


def report(*rows: SpeedRow, verdict: str = "equivalent", reasons: tuple[str, ...] = ()) -> Report:
    speed = SpeedResult(rows, None, None, 1.1, 3, 1.0, 1.0) if rows else None
    side = SideReport("a", "b")
    return Report(verdict, reasons, side, side, 0, "it", speed=speed)  # type: ignore[arg-type]


def concluded(*rows: SpeedRow, **rest: object) -> tuple[str, str]:
    found = conclude("PyTorch", "TensorFlow", report(*rows, **rest), None)  # type: ignore[arg-type]
    return found.choice, found.sentence


def test_the_faster_one_is_taken_with_its_interval() -> None:
    choice, sentence = concluded(row("slower", 1.5, 1.3, 1.8), row("equal", 1.0, 0.95, 1.04, batch=8))
    assert choice == "first"
    assert sentence.startswith("Take PyTorch for this model on this machine: for inference, PyTorch is 1.50")
    assert "(1.30 to 1.80) at batch 1" in sentence
    assert "equally fast at batch 8" in sentence
    choice, sentence = concluded(row("faster", 0.5, 0.4, 0.8))
    assert choice == "second"
    assert "TensorFlow is 2.00 times as fast (1.25 to 2.50)" in sentence


def test_it_depends_where_each_is_faster_at_something() -> None:
    rows = row("slower", 1.5, 1.3, 1.8), row("faster", 0.5, 0.4, 0.6, mode="training step")
    choice, sentence = concluded(*rows)
    assert choice == "depends"
    assert "for training, TensorFlow is 2.00" in sentence


def test_what_is_undecided_is_said() -> None:
    choice, sentence = concluded(row("slower", 1.5, 1.3, 1.8), row("undecided", 1.1, 0.8, 1.6, batch=8))
    assert choice == "first"
    assert sentence.startswith("As far as it could be decided, take PyTorch")
    assert "undecided at batch 8 (ratio 0.80 to 1.60)" in sentence
    assert concluded(row("undecided", 1.1, 0.8, 1.6))[0] == "open"
    assert concluded(row("equal", 1.0, 0.99, 1.01))[0] == "either"


def test_compiled_rows_do_not_decide_beside_plain_ones() -> None:
    rows = row("equal", 1.0, 0.9, 1.05), row("slower", 2.0, 1.9, 2.1, variant="compiled")
    choice, sentence = concluded(*rows)
    assert choice == "either"
    assert "PyTorch is 2.00 times as fast (1.90 to 2.10) at batch 1, compiled" in sentence


def test_two_models_that_differ_are_not_compared() -> None:
    choice, sentence = concluded(row("slower", 1.5, 1.3, 1.8), verdict="different", reasons=("output y",))
    assert choice == "open"
    assert "two different models: output y" in sentence
    choice, sentence = concluded(verdict="could not be checked", reasons=("the worker died",))
    assert choice == "open"
    assert "the worker died" in sentence


def test_memory_within_the_noise_is_no_difference() -> None:
    assert lighter(100.0, 130.0, 0) == "first"
    assert lighter(130.0, 100.0, 0) == "second"
    assert lighter(100.0, 105.0, 0) == "equal"
    assert lighter(10.0 * MIB, 20.0 * MIB, 16.0 * MIB) == "equal"
    assert lighter(None, 1.0, 0) == "open"
    found = conclude("A", "B", report(row("equal", 1, 1, 1, memory=(100 * MIB, 300 * MIB))), None)
    assert any("A takes less" in point for point in found.points)
