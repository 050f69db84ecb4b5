"""What docs/ci offers for copying: valid for its services, and its very commands run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import JUnitXml

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "docs" / "ci"
sys.path.append(str(ROOT / "tests" / "verification"))

from onnx_models import network  # noqa: E402

_GH = """#!{python}
import json, os, sys
with open(os.environ["GH_LOG"], "a") as log:
    body = next((each[6:] for each in sys.argv if each.startswith("body=@")), None)
    log.write(json.dumps([sys.argv[1:], body and open(body).read()]) + "\\n")
if "--paginate" in sys.argv:
    print(os.environ.get("GH_ANSWER", ""))
"""


def action() -> dict[str, Any]:
    record: dict[str, Any] = yaml.safe_load((CI / "github" / "action.yml").read_text())
    return record


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A suite with an equivalent pair and one that differs, as a CI job would find it."""
    network(tmp_path / "source.onnx")
    network(tmp_path / "right.onnx")
    network(tmp_path / "wrong.onnx", approximate="tanh")
    lines = ["[defaults]", "batches = [2]"]
    for name in ("right", "wrong"):
        lines += ["[[pair]]", f'name = "{name}"', 'source = "source.onnx"', f'target = "{name}.onnx"']
    (tmp_path / "suite.toml").write_text("\n".join(lines))
    return tmp_path


def shell(command: list[str], directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, **variables}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-actions", "github/action.yml"),
        ("vendor.github-workflows", "github/workflow.yml"),
        ("vendor.gitlab-ci", "gitlab.yml"),
    ],
)
def test_the_files_fit_the_schemas_of_their_services(schema: str, file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(CI / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_action_declares_what_it_uses_and_nothing_else() -> None:
    text = (CI / "github" / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action()["inputs"])
    steps = {step.get("id") for step in action()["runs"]["steps"]}
    assert set(re.findall(r"steps\.([\w-]+)\.", text)) <= steps
    documented = re.findall(r"^\| `([\w-]+)` \|", (CI / "README.md").read_text(), re.MULTILINE)
    assert [each for each in documented if each in action()["inputs"]] == list(action()["inputs"])


def test_values_of_expressions_reach_the_shell_as_variables_only() -> None:
    for step in action()["runs"]["steps"]:
        assert set(re.findall(r"\$\{\{\s*([\w.]+)", step.get("run", ""))) <= {"github.action_path"}


def test_the_scripts_of_the_action_exist() -> None:
    named = re.findall(r"action_path \}\}/([\w.]+)", (CI / "github" / "action.yml").read_text())
    assert sorted(named) == sorted(each.name for each in (CI / "github").glob("*.sh"))


def test_the_verify_step_publishes_reports_whatever_the_verdict(project: Path) -> None:
    variables = {
        "SUITE": "suite.toml",
        "BASELINE": "",
        "ONLY": "",
        "JOBS": "1",
        "REPORTS": "reports",
        "RESUME": "true",
        "STATE": str(project / "state"),
        "GITHUB_OUTPUT": str(project / "output"),
        "GITHUB_STEP_SUMMARY": str(project / "summary"),
    }
    script = ["bash", str(CI / "github" / "verify.sh")]
    done = shell(script, project, **variables)
    assert done.returncode == 0, done.stderr
    assert (project / "output").read_text() == "exit-code=1\n"
    names = {each.name for each in (project / "reports").iterdir()}
    assert names == {"junit.xml", "suite.html", "suite.json", "suite.md", "suite.sarif"}
    assert "different" in (project / "summary").read_text()
    assert "::error" in done.stderr
    suites = JUnitXml.fromfile(str(project / "reports" / "junit.xml"))
    assert [each.errors + each.failures > 0 for each in suites] == [False, True]
    again = shell(script, project, **{**variables, "ONLY": "right", "GITHUB_OUTPUT": str(project / "second")})
    assert again.returncode == 0
    assert (project / "second").read_text() == "exit-code=0\n"
    record = json.loads((project / "reports" / "suite.json").read_text())
    assert [(each["name"], each["resumed"]) for each in record["pairs"]] == [("right", True)]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the action's scripts are for bash")
def test_there_is_one_comment_for_each_suite(project: Path) -> None:
    (project / "bin").mkdir()
    fake = project / "bin" / "gh"
    fake.write_text(_GH.replace("{python}", sys.executable))
    fake.chmod(0o755)
    (project / "reports").mkdir()
    (project / "reports" / "suite.md").write_text("all is well\n")
    variables = {
        "SUITE": "suite.toml",
        "REPORTS": "reports",
        "NUMBER": "7",
        "GITHUB_REPOSITORY": "team/models",
        "GH_LOG": str(project / "log"),
    }
    for answer in ("", "123"):
        done = shell(["bash", str(CI / "github" / "comment.sh")], project, **variables, GH_ANSWER=answer)
        assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in (project / "log").read_text().splitlines()]
    assert [call[0][0] for call in calls] == ["api"] * 4
    text = "<!-- bridge verify suite.toml -->\nall is well\n"
    posted, patched = calls[1], calls[3]
    assert posted[0][2:5] == ["--method", "POST", "repos/team/models/issues/7/comments"]
    assert patched[0][2:5] == ["--method", "PATCH", "repos/team/models/issues/comments/123"]
    assert posted[1] == patched[1] == text


def test_the_commands_of_the_gitlab_job_run(project: Path) -> None:
    (job,) = yaml.safe_load((CI / "gitlab.yml").read_text()).values()
    variables = {name: text for name, text in job["variables"].items() if name == "SUITE"}
    script = "\n".join(["set -e", *job["script"]])
    done = shell(["bash", "-c", script], project, **variables, STATE=str(project / "state"))
    assert done.returncode == 1, done.stderr
    for path in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (project / path).exists(), path
    suites = list(JUnitXml.fromfile(str(project / job["artifacts"]["reports"]["junit"])))
    assert len(suites) == 2


def test_the_options_in_the_documents_exist() -> None:
    from click.testing import CliRunner

    from bridge.cli.app import cli

    shown = CliRunner().invoke(cli, ["verify", "--help"]).output
    for file in (
        CI / "README.md",
        ROOT / "docs" / "suite.md",
        CI / "gitlab.yml",
        CI / "github" / "verify.sh",
    ):
        for line in re.findall(r"bridge verify[^`\n#]*(?:\n\s+--[^\n]*)*", file.read_text()):
            for option in re.findall(r"--[a-z][a-z-]+", line):
                assert option in shown, (file, option)


def test_the_example_of_a_suite_is_one(tmp_path: Path) -> None:
    from bridge.verification.suite import read_suite

    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "suite.md").read_text(), re.DOTALL)
    (tmp_path / "suite.toml").write_text(text)
    assert len(read_suite(tmp_path / "suite.toml").pairs) == 3
