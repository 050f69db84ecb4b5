"""The example of a migration: the very commands of its README, and the mistake that it tells of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "keras-to-torch"
_MADE = ("models", "converted", "reports", ".bridge-suite", "__pycache__", "junit.xml", "suite.html")


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        ["bash", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after all commands of its README, in their order."""
    directory = tmp_path_factory.mktemp("migration") / "project"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns(*_MADE))
    commands = re.findall(r"```bash\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    assert len(commands) == 5
    for command in commands:
        done = shell(command, directory)
        assert done.returncode == 0, f"{command}{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return directory


def test_the_commands_of_the_readme_do_what_it_says(project: Path) -> None:
    suites = list(JUnitXml.fromfile(str(project / "junit.xml")))
    assert len(suites) == 4
    assert all(each.failures + each.errors == 0 for each in suites)
    assert (project / "suite.html").stat().st_size > 10_000
    assert (project / "models" / "digits.pt").exists()


def test_the_mistake_of_the_readme_is_found_at_its_line(project: Path) -> None:
    file = project / "ported" / "model.py"
    right = file.read_text()
    wrong = right.replace("32, 3, stride=2)", "32, 3, stride=2, padding=1)")
    wrong = re.sub(r" *# Keras' \"same\".*\n", "", wrong).replace("F.pad(x, (0, 1, 0, 1))", "x")
    assert wrong != right
    file.write_text(wrong)
    try:
        done = shell("pytest -k test_on_digits", project)
    finally:
        file.write_text(right)
    assert done.returncode == 1, done.stdout
    line = 1 + wrong[: wrong.index("F.relu(self.down(x))")].count("\n")
    assert f"in down (model.py:{line})" in done.stdout
    assert "in the source: Conv2D" in done.stdout
    assert "bridge/" not in done.stdout.split("FAILURES")[1].split("short test summary")[0]
    told = (project / "README.md").read_text()
    assert f"Line {line} of `ported/model.py`" in told
