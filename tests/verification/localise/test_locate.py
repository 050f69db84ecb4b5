"""Localising in two real workers: ONNX files against each other and against a conversion."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import network

import bridge
from bridge.errors import OutputError
from bridge.formats.request import ReadRequest
from bridge.verification.localise import (
    Case,
    Evidence,
    Localisation,
    Place,
    locate_fault,
    locate_gradient_fault,
    write_reproduction,
)
from bridge.verification.localise.blame import judge
from bridge.verification.pairing import PairedOutput
from bridge.verification.parties import resolve
from bridge.worker.side import Side
from bridge.worker.standalone import write_tensors

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)


@contextmanager
def loaded(source: Path, target: Path, tmp_path: Path) -> Iterator[tuple[Side, Side, Case]]:
    parties = resolve(source, as_target=False), resolve(target, as_target=True)
    file = tmp_path / "inputs.safetensors"
    write_tensors(str(file), {"image": IMAGE})
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(Side(label=f"{name} worker", threads=1, timeout=120))
            for name in ("source", "target")
        )
        for side, party in zip((first, second), parties, strict=True):
            side.description(side.submit_load(party.loader, dict(party.request)))
        request = ReadRequest.from_json(parties[0].request)
        yield first, second, Case(file, file, [PairedOutput(0, 0)], parties[1].converted, request)


def find(source: Path, target: Path, tmp_path: Path) -> tuple[Localisation, Evidence, Case]:
    with loaded(source, target, tmp_path) as (first, second, case):
        found = locate_fault(first, second, case, timeout=120)
        assert not isinstance(found, str)
        return *found, case


def shown(directory: Path) -> dict[str, float]:
    """What the script of a reproduction prints, run where bridge is not needed."""
    command = [sys.executable, "-I", str(directory / "reproduce.py")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.rsplit(" ", 1) for line in output.splitlines() if " away from " in line]
    return {text: float(number) for text, number in lines}


@pytest.mark.parametrize(
    ("fault", "node", "before"),
    [
        ({"approximate": "tanh"}, "gelu", "bn"),
        ({"epsilon": 1e-3}, "bn", "conv"),
        ({"weight_factor": 1.0001}, "logits", "flat"),
        ({"half_weights": True}, "conv", "image"),
    ],
)
def test_the_node_with_the_fault_is_named(
    fault: dict[str, Any], node: str, before: str, tmp_path: Path
) -> None:
    source, target = network(tmp_path / "a.onnx"), network(tmp_path / "b.onnx", **fault)
    found, _, _ = find(source, target, tmp_path)
    assert (found.target.name, found.how, found.blame) == (node, "values", None)
    assert found.source is not None
    assert found.source.name == node
    assert found.last_equal == ((before, before),)
    assert found.error is not None
    assert 1e-6 < found.error < 1e-2
    assert node in found.summary()


def test_equal_functions_have_no_wrong_node(tmp_path: Path) -> None:
    source = network(tmp_path / "a.onnx")
    with loaded(source, source, tmp_path) as (first, second, case):
        assert "same outputs" in str(locate_fault(first, second, case))


def test_a_side_without_gradients_says_so(tmp_path: Path) -> None:
    source = network(tmp_path / "a.onnx")
    cotangents = tmp_path / "cotangents.safetensors"
    write_tensors(str(cotangents), {"0": np.ones((2, 5))})
    with loaded(source, source, tmp_path) as (first, second, case):
        found = locate_gradient_fault(first, second, case, cotangents, cotangents)
    assert "no gradients" in str(found)


def test_a_reproduction_from_an_onnx_file(tmp_path: Path) -> None:
    source, target = network(tmp_path / "a.onnx"), network(tmp_path / "b.onnx", epsilon=1e-3)
    found, evidence, case = find(source, target, tmp_path)
    out = write_reproduction(tmp_path / "deep" / "out", found, evidence, case)
    assert sorted(each.name for each in out.iterdir()) == [
        "expected.npz",
        "fault.json",
        "got.npz",
        "inputs.npz",
        "node.onnx",
        "reproduce.py",
    ]
    distances = shown(out)
    assert distances["target is away from the source by"] > 1e-3
    assert distances["node.onnx is away from the source by"] < 1e-6
    assert distances["node.onnx is away from the target by"] > 1e-3
    assert Localisation.from_json(json.loads((out / "fault.json").read_text())) == found
    assert list(out.parent.iterdir()) == [out]
    with pytest.raises(OutputError, match="exists"):
        write_reproduction(out, found, evidence, case)


def test_a_wrong_line_of_a_conversion_is_the_writers(tmp_path: Path) -> None:
    source = network(tmp_path / "net.onnx")
    out = tmp_path / "out"
    bridge.convert(source, to="torch", verify=False).save(out)
    model = out / "model.py"
    text = model.read_text()
    assert "F.gelu(x)" in text
    model.write_text(text.replace("F.gelu(x)", 'F.gelu(x, approximate="tanh")'))
    found, evidence, case = find(source, out, tmp_path)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "F.gelu(x)" in each)
    assert (found.how, found.blame) == ("anchors", "writer")
    assert (found.target.operator, found.target.location) == ("Gelu", f"model.py:{line}")
    assert found.source is not None
    assert found.source.name == "gelu"
    distances = shown(write_reproduction(tmp_path / "repro", found, evidence, case))
    assert distances["node.onnx is away from the source by"] < 1e-6
    assert distances["node.onnx is away from the target by"] > 1e-5


def test_blame_goes_to_the_first_part_that_is_wrong() -> None:
    right, wrong = np.arange(4.0), np.arange(4.0) + 0.1
    near_right, near_wrong = right + 1e-6, wrong - 1e-6
    assert judge({"canonical": near_right, "reader": near_right}, right, wrong)[0] == "writer"
    assert judge({"canonical": near_wrong, "reader": near_right}, right, wrong)[0] == "pass"
    assert judge({"canonical": near_wrong, "reader": near_wrong}, right, wrong)[0] == "reader"
    for unknown in ({}, {"canonical": near_wrong}):
        part, note = judge(unknown, right, wrong)
        assert part is None
        assert note is not None


@pytest.mark.parametrize("error", [None, math.inf, 1e-3])
def test_results_survive_json(error: float | None) -> None:
    place = Place("conv", "Conv", "layer1.conv", "model.py:7")
    found = Localisation(
        source=None,
        target=place,
        error=error,
        how="anchors",
        blame="pass",
        target_block=(place,),
        last_equal=(("a", "b"),),
        notes=("a sentence",),
    )
    assert Localisation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
