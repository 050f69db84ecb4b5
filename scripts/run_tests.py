"""Run pytest so that no process imports both TensorFlow and PyTorch.

The test files are sorted by the framework that they import, directly or through the converters, and
each group runs in a pytest of its own; two at a time. Arguments go to every pytest. With a path among
them, pytest runs once, with exactly those arguments.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
EITHER = r"scripts\.onnx_suite\.engines"
"""What runs models in whichever framework it is asked for."""
TORCH = re.compile(
    rf"^(torch|timm|safetensors\.torch|bridge_converters\.(onnx_to_torch|torch_to_onnx)|{EITHER})\b"
)
TF = re.compile(rf"^(tensorflow|keras|tf2onnx|bridge_converters\.(onnx_to_tf|tf_to_onnx)|{EITHER})\b")
NO_TESTS = 5


class Outcome(NamedTuple):
    """One pytest: the name of its group, its exit code and output, and how many tests ended how."""

    group: str
    code: int
    output: str
    counts: Counter[str]


def imported_modules(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("importorskip", "import_module")
        ):
            names |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}
    return names


def groups() -> dict[str, list[str]]:
    """Test files by what they import; a file that needs both frameworks is a group of its own."""
    found: dict[str, list[str]] = {"torch": [], "tensorflow": [], "neither": []}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        modules = imported_modules(file)
        torch, tf = (any(kind.match(name) for name in modules) for kind in (TORCH, TF))
        path = str(file.relative_to(ROOT))
        if torch and tf:
            found[path] = [path]
        else:
            found["torch" if torch else "tensorflow" if tf else "neither"].append(path)
    return {name: files for name, files in found.items() if files}


def run(group: str, files: list[str], arguments: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "junit.xml"
        command = [sys.executable, "-m", "pytest", f"--junit-xml={record}", "-o", "cache_dir=" + directory]
        done = subprocess.run(
            [*command, *arguments, *files],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        return Outcome(group, done.returncode, done.stdout, counts(record))


def counts(record: Path) -> Counter[str]:
    """How many tests passed, failed (errors included) and were skipped, from pytest's JUnit file."""
    total: Counter[str] = Counter()
    if record.is_file():
        for suite in ElementTree.parse(record).iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            total["failed"] += failed
            total["skipped"] += skipped
            total["passed"] += int(suite.get("tests", 0)) - failed - skipped
    return total


def main(arguments: list[str]) -> int:
    if any((ROOT / each.split("::")[0]).exists() for each in arguments if not each.startswith("-")):
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    total: Counter[str] = Counter()
    worst = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = [pool.submit(run, group, files, arguments) for group, files in groups().items()]
        for each in running:
            outcome = each.result()
            print(f"== tests with {outcome.group} ==\n{outcome.output}", flush=True)
            total += outcome.counts
            if outcome.code != NO_TESTS:
                worst = max(worst, outcome.code)
    if total.total() == 0:
        worst = worst or NO_TESTS
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
