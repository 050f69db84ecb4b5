"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from onnx_models import network

from bridge.verification.report.suite import SuiteReport

_TEST = """
import pytest

def test_right(assert_equivalent):
    assert assert_equivalent("source.onnx", "right.onnx", batches=[2]).passed

def test_wrong(assert_equivalent):
    assert_equivalent("source.onnx", "wrong.onnx", batches=[2])

def test_missing(assert_equivalent):
    assert_equivalent("source.onnx", "none.onnx")
"""

_MARKED = """
import pytest

pytestmark = pytest.mark.bridge(batches=[2])

@pytest.mark.bridge(seeds=[0, 1, 2])
def test_seeds(assert_equivalent):
    assert assert_equivalent("source.onnx", "right.onnx").seed == 2

@pytest.mark.bridge(max_error=1e-12)
def test_stricter(assert_equivalent):
    assert_equivalent("source.onnx", "other.onnx")

@pytest.mark.bridge(max_error=10.0)
def test_never_weaker(assert_equivalent):
    assert_equivalent("source.onnx", "wrong.onnx")

@pytest.mark.parametrize("seed", [3, 4])
def test_parametrised(assert_equivalent, seed):
    assert assert_equivalent("source.onnx", "right.onnx", seed=seed).seed == seed
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    network(tmp_path / "source.onnx")
    network(tmp_path / "right.onnx")
    network(tmp_path / "other.onnx", epsilon=1.00001e-5)
    network(tmp_path / "wrong.onnx", approximate="tanh")
    return tmp_path


def run(directory: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_models.py").write_text(test)
    plugin = [] if _registered() else ["-p", "bridge.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def _registered() -> bool:
    from importlib.metadata import entry_points

    return any(each.value == "bridge.pytest_plugin" for each in entry_points(group="pytest11"))


def test_the_fixture_asserts_records_and_reports(models: Path) -> None:
    done = run(models, _TEST, "--junitxml=out.xml", "--bridge-report=reports", "-Werror")
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    cases = list(ElementTree.parse(models / "out.xml").getroot().iter("testcase"))
    for case, verdict in zip(cases[:2], ("equivalent", "different"), strict=True):
        properties = {each.get("name"): each.get("value") for each in case.iter("property")}
        assert properties["bridge_verdict"] == verdict
        assert float(properties["bridge_source_error"] or "nan") < 1e-6
    suite = SuiteReport.from_json(models / "reports" / "suite.json")
    assert {each.name.partition("::")[2]: each.verdict for each in suite.pairs} == {
        "test_right": "equivalent",
        "test_wrong": "different",
        "test_missing": "could not be checked",
    }
    names = {each.name for each in (models / "reports").iterdir()}
    assert {"index.html", "summary.md", "test_models.py_test_wrong.html"} <= names


def test_a_failure_shows_the_first_wrong_node_and_no_internals(models: Path) -> None:
    done = run(models, _TEST, "-k", "wrong")
    text = done.stdout
    assert "verdict: different" in text
    assert "worst output: logits at [" in text
    assert "first wrong node: Gelu" in text
    assert "in the source: Gelu" in text
    assert "bridge/api.py" not in text
    assert "pytest_plugin.py" not in text
    shown = text[text.index("FAILURES") : text.index("short test summary")]
    assert len(shown.splitlines()) < 25, shown


def test_markers_give_seeds_options_and_stricter_bounds(models: Path) -> None:
    done = run(models, _MARKED, "--bridge-report=reports", "--strict-markers")
    assert "2 failed, 3 passed" in done.stdout, done.stdout
    assert "at most 1e-12 allowed" in done.stdout
    assert "FAILED test_models.py::test_never_weaker" in done.stdout
    names = {each.name for each in SuiteReport.from_json(models / "reports" / "suite.json").pairs}
    assert {f"test_models.py::test_seeds seed {seed}" for seed in range(3)} < names


def test_a_baseline_is_recorded_and_held_against(models: Path) -> None:
    right = ["-k", "right", "--bridge-baseline=b.json"]
    done = run(models, _TEST, *right, "--bridge-update-baseline")
    assert "1 passed" in done.stdout, done.stdout
    text = (models / "b.json").read_text()
    record = json.loads(text)
    assert list(record["pairs"]) == ["test_models.py::test_right"]
    assert "1 passed" in run(models, _TEST, *right).stdout
    errors = record["pairs"]["test_models.py::test_right"]["errors"]
    record["pairs"]["test_models.py::test_right"]["errors"] = dict.fromkeys(errors, -1e-3)
    (models / "b.json").write_text(json.dumps(record))
    done = run(models, _TEST, *right)
    assert "1 failed" in done.stdout
    assert "instead of the recorded -0.001" in done.stdout
    assert "needs --bridge-baseline" in run(models, _TEST, "--bridge-update-baseline").stderr


def test_workers_of_xdist_report_to_one_page_and_one_baseline(models: Path) -> None:
    pytest.importorskip("xdist")
    done = run(
        models,
        _MARKED,
        "-n2",
        "--bridge-report=reports",
        "--bridge-baseline=b.json",
        "--bridge-update-baseline",
    )
    assert "2 failed, 3 passed" in done.stdout, done.stdout
    suite = SuiteReport.from_json(models / "reports" / "suite.json")
    assert len(suite.pairs) == 7
    recorded = json.loads((models / "b.json").read_text())["pairs"]
    assert "test_models.py::test_seeds seed 2" in recorded
    assert "test_models.py::test_never_weaker" not in recorded


def test_markers_take_keyword_arguments_only(models: Path) -> None:
    test = "import pytest\n\n@pytest.mark.bridge(3)\ndef test_it(assert_equivalent):\n    pass\n"
    assert "takes keyword arguments only" in run(models, test).stdout
