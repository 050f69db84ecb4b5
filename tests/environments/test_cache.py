from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli.app import cli
from bridge.environments import cache
from bridge.environments.choice import EnvironmentChoice
from bridge.environments.interpreters import Interpreter, find_interpreter
from bridge.errors import EnvironmentFailure, InputError

PYTHON = Interpreter("/old/bin/python", "3.8.18", "cpython", "x86_64")
NUMPY = [{"name": "numpy", "version": "1.24.4"}, {"name": "tensorflow-cpu", "version": "2.8.4"}]


class Commands:
    """Stands in for venv and pip; `made` are the directories of environments."""

    def __init__(self) -> None:
        self.made: list[Path] = []
        self.installed: list[Any] = NUMPY
        self.failure: EnvironmentFailure | None = None
        self.seconds = 0.0

    def __call__(self, command: list[str], failure: str, say: Any) -> str:
        if "venv" in command:
            directory = Path(command[-1])
            self.made.append(directory)
            (directory / "bin").mkdir()
            (directory / "bin" / "python").write_text("")
            time.sleep(self.seconds)
        elif "install" in command:
            say("Collecting tensorflow")
            if self.failure is not None:
                raise self.failure
        elif "list" in command:
            return f"WARNING: something\n{json.dumps(self.installed)}\n"
        return ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.setenv(cache.DIRECTORY_VARIABLE, str(tmp_path / "cache"))
    found = Commands()
    monkeypatch.setattr(cache, "_run", found)
    return found


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("tensorflow-cpu==2.8.4  # the version it was trained with\n\nprotobuf<3.21\n")
    return file


def test_an_environment_is_made_once(commands: Commands, requirements: Path) -> None:
    said: list[str] = []
    first = cache.environment_for(requirements, PYTHON, on_progress=said.append)
    assert first == cache.environment_for(requirements, PYTHON)
    assert len(commands.made) == 1
    assert said == ["making an environment of Python 3.8.18", "Collecting tensorflow"]
    assert first.packages["tensorflow-cpu"] == "2.8.4"
    assert Path(first.python).is_file()
    assert first.directory in first.python
    assert not commands.made[0].exists(), "it was made elsewhere and renamed"


def test_comments_do_not_matter_and_included_files_do(commands: Commands, requirements: Path) -> None:
    first = cache.environment_for(requirements, PYTHON)
    requirements.write_text("# changed\ntensorflow-cpu==2.8.4\nprotobuf<3.21")
    assert cache.environment_for(requirements, PYTHON) == first
    requirements.write_text("-r more.txt\n")
    (requirements.parent / "more.txt").write_text("numpy==1.24\n")
    second = cache.environment_for(requirements, PYTHON)
    (requirements.parent / "more.txt").write_text("numpy==1.23\n")
    assert len({first.key, second.key, cache.environment_for(requirements, PYTHON).key}) == 3


def test_another_interpreter_has_another_environment(commands: Commands, requirements: Path) -> None:
    other = Interpreter("/old/bin/python3.9", "3.9.18", "cpython", "x86_64")
    assert cache.environment_for(requirements, PYTHON).key != cache.environment_for(requirements, other).key


def test_what_fails_leaves_nothing(commands: Commands, requirements: Path) -> None:
    commands.failure = EnvironmentFailure("pip cannot install", hint="its last lines were: no such version")
    with pytest.raises(EnvironmentFailure, match="no such version"):
        cache.environment_for(requirements, PYTHON)
    assert [each.suffix for each in cache.cache_directory().iterdir()] == [".lock"]
    commands.failure = None
    assert cache.environment_for(requirements, PYTHON).key


def test_an_environment_without_numpy_is_refused(commands: Commands, requirements: Path) -> None:
    commands.installed = [{"name": "requests", "version": "2"}]
    with pytest.raises(EnvironmentFailure, match="install no numpy"):
        cache.environment_for(requirements, PYTHON)
    assert cache.cached() == []


def test_an_interrupted_one_is_made_again(commands: Commands, requirements: Path) -> None:
    found = cache.environment_for(requirements, PYTHON)
    (Path(found.directory) / cache._RECORD).unlink()
    assert cache.cached() == []
    assert cache.environment_for(requirements, PYTHON).key == found.key
    assert len(commands.made) == 2


def test_two_that_need_the_same_one_make_it_once(commands: Commands, requirements: Path) -> None:
    commands.seconds = 0.3
    said: list[str] = []
    found: list[cache.CachedEnvironment] = []

    def make() -> None:
        found.append(cache.environment_for(requirements, PYTHON, on_progress=said.append))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(commands.made) == 1
    assert found[0] == found[1]
    assert "waiting for another process that makes the same environment" in said


def test_a_package_of_this_file_system_is_refused(commands: Commands, requirements: Path) -> None:
    requirements.write_text("numpy\n-e ../ours\n")
    with pytest.raises(InputError, match="no cache would notice"):
        cache.environment_for(requirements, PYTHON)


def test_requirements_must_be_readable(commands: Commands, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        cache.environment_for(tmp_path / "none.txt", PYTHON)
    (tmp_path / "a.txt").write_text("-r b.txt")
    (tmp_path / "b.txt").write_text("-r b.txt")
    with pytest.raises(InputError, match="include themselves"):
        cache.environment_for(tmp_path / "a.txt", PYTHON)


def test_the_command_lists_and_removes_them(commands: Commands, requirements: Path) -> None:
    found = cache.environment_for(requirements, PYTHON)
    listed = CliRunner().invoke(cli, ["environments"])
    assert found.key in listed.output
    assert "tensorflow-cpu==2.8.4" in listed.output
    missing = CliRunner().invoke(cli, ["environments", "--remove", "zz"], standalone_mode=False)
    assert isinstance(missing.exception, InputError)
    removed = CliRunner().invoke(cli, ["environments", "--remove", found.key[:4], "--json"])
    assert json.loads(removed.output)["removed"] == [found.key]
    assert not Path(found.directory).exists()
    assert cache.cached() == []


def test_pip_tells_why_it_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    script = "print('Collecting x'); print('ERROR: No matching distribution'); raise SystemExit(1)"
    with pytest.raises(EnvironmentFailure, match="No matching distribution") as caught:
        cache._run([find_interpreter().path, "-c", script], "pip cannot install it", said.append)
    assert caught.value.exit_code == 3
    assert said == ["Collecting x"]


def test_the_running_interpreter_is_the_default() -> None:
    import platform

    found = find_interpreter()
    assert found.version == platform.python_version()
    assert found.identity.startswith("cpython-3.")
    assert EnvironmentChoice().interpreter() is None
    assert EnvironmentChoice(python=found.path).interpreter() == found.path


@pytest.mark.parametrize(
    ("wanted", "says"), [("3.1", "no interpreter"), ("no-such-python", "no interpreter")]
)
def test_an_interpreter_that_is_not_there(wanted: str, says: str) -> None:
    with pytest.raises(EnvironmentFailure, match=says):
        find_interpreter(wanted)


def test_what_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="holds no interpreter"):
        find_interpreter(str(tmp_path))
    file = tmp_path / "python"
    file.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(EnvironmentFailure, match="no program"):
        find_interpreter(str(file))
    file.chmod(0o755)
    with pytest.raises(EnvironmentFailure, match="does not answer"):
        find_interpreter(str(file))
    answer = {"version": "2.7.18", "implementation": "cpython", "machine": "x", "tuple": [2, 7]}
    file.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    with pytest.raises(EnvironmentFailure, match="older than"):
        find_interpreter(str(file))
