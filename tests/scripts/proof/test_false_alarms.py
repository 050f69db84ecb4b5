"""The records of the sweep over right pairs, and what is concluded from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scripts.proof import false_alarms
from scripts.proof.false_alarms import Record, read_records, row, summarise, sweep
from scripts.proof.pairs import PAIRS

RIGHT = Record("mlp", 0, "equivalent", [], 1e-7, 2e-7, 0.02, None, 0, "output typical l2", 1.5)


def test_false_alarms_outweigh_what_could_not_be_checked() -> None:
    unchecked = replace(RIGHT, seed=1, verdict="could not be checked")
    alarm = replace(RIGHT, seed=2, verdict="different")
    assert summarise([RIGHT])[1] == 0
    assert summarise([RIGHT, unchecked])[1] == 3
    summary, code = summarise([RIGHT, unchecked, alarm])
    assert code == 1
    assert (summary["verifications"], summary["false alarms"], summary["not checked"]) == (3, 1, 1)


def test_a_pair_declared_unstable_may_go_unchecked() -> None:
    name = next(name for name, pair in PAIRS.items() if pair.unstable)
    summary, code = summarise([replace(RIGHT, pair=name, verdict="could not be checked")])
    assert code == 0
    assert summary["not checked"] == 1


def test_a_row_shows_the_comparison_that_used_most_of_its_tolerance() -> None:
    close = replace(RIGHT, seed=1, source=1e-6, target=3e-6, used=0.26, function=1e-9)
    text = row(PAIRS["mlp"], [RIGHT, close])
    assert text.split()[:4] == ["mlp", "torch", "->", "tf"]
    assert text.split()[5:] == ["2/2", "1.0e-06", "3.0e-06", "0.26", "1.0e-09", "3.0"]


def test_resuming_verifies_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[int]]] = []

    def verified(pair, directory, seeds, timeout) -> Iterator[Record]:
        asked.append((pair.name, list(seeds)))
        for seed in seeds:
            yield replace(RIGHT, pair=pair.name, seed=seed)

    monkeypatch.setattr(false_alarms, "verify_pair", verified)
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(asdict(RIGHT)) + "\n")
    records = sweep(["mlp", "unet"], 2, tmp_path, results, resume=True, timeout=1)
    assert asked == [("mlp", [1]), ("unet", [0, 1])]
    assert len(records) == 4
    assert read_records(results) == records
    sweep(["mlp"], 1, tmp_path, results, resume=False, timeout=1)
    assert len(read_records(results)) == 1
