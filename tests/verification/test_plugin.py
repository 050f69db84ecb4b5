from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from onnx_models import network

_TEST = """
def test_right(assert_equivalent):
    assert assert_equivalent("source.onnx", "right.onnx", batches=[2]).passed

def test_wrong(assert_equivalent):
    assert_equivalent("source.onnx", "wrong.onnx", batches=[2])
"""


def test_the_fixture_asserts_and_records(tmp_path: Path) -> None:
    network(tmp_path / "source.onnx")
    network(tmp_path / "right.onnx")
    network(tmp_path / "wrong.onnx", approximate="tanh")
    (tmp_path / "test_models.py").write_text(_TEST)
    plugin = [] if _registered() else ["-p", "bridge.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider", "--junitxml=out.xml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "verdict: different" in done.stdout
    right, wrong = ElementTree.parse(tmp_path / "out.xml").getroot().iter("testcase")
    for case, verdict in ((right, "equivalent"), (wrong, "different")):
        properties = {each.get("name"): each.get("value") for each in case.iter("property")}
        assert properties["bridge_verdict"] == verdict
        assert float(properties["bridge_source_error"] or "nan") < 1e-6


def _registered() -> bool:
    from importlib.metadata import entry_points

    return any(each.value == "bridge.pytest_plugin" for each in entry_points(group="pytest11"))
