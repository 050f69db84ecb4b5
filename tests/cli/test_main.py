import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.cli import app
from bridge.cli.app import run
from bridge.errors import BridgeError, EnvironmentFailure, InputError

COMMANDS = ["convert", "verify", "compare", "inspect", "doctor", "completion"]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def invoke(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.cli, "main", invoke)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"Usage: bridge {command}" in capsys.readouterr().out


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "Exit codes" in text


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"bridge {version('bridge-ml')}\n"


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    program = (
        "import sys\nfrom bridge.cli.app import run\nrun(['--help'])\n"
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'rich', 'torch', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)

    def seconds(*arguments: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds("-m", "bridge", "--help") <= 2 * seconds("-c", "pass") + 0.15


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["convert", "m.pt"], "missing option '--to'", "bridge convert --help"),
        (["convert", "m.pt", "--to", "jax"], "invalid value for '--to'", "bridge convert --help"),
        (["convert"], "missing argument 'source'", "bridge convert --help"),
        (["convrt"], "no such command 'convrt'", "bridge --help"),
        (["convert", "--frce"], "no such option", "bridge convert --help"),
        (["inspect", "m", "--input", "2", "--inputs", "x.npz"], "exclude each other", "--help"),
    ],
)
def test_bad_usage_is_one_error_and_one_hint(
    arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith("error: ")
    assert message in first.lower()
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            InputError("it is empty", hint="fill it", where="m.pt"),
            2,
            "error: m.pt: it is empty\nhint: fill it\n",
        ),
        (BridgeError("no"), 2, "error: no\n"),
        (
            EnvironmentFailure("the worker died", hint="try again"),
            3,
            "error: the worker died\nhint: try again\n",
        ),
        (KeyboardInterrupt(), 3, "error: interrupted\nhint: nothing was written; run the command again\n"),
        (MemoryError(), 3, "error: out of memory\nhint: free some memory, or use a machine with more\n"),
    ],
)
def test_every_error_has_its_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert run(["doctor"]) == code
    assert capsys.readouterr().err == message


def test_a_fault_of_bridge_is_reported_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, RuntimeError("x is None\nmore"))
    assert run(["doctor"]) == 3
    text = capsys.readouterr().err
    assert text.startswith("error: bridge itself failed: RuntimeError: x is None\nhint: ")
    assert "Traceback" not in text
    assert run(["doctor", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_with_json_stdout_holds_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, InputError("it is empty", hint="fill it", where="m.pt"))
    assert run(["inspect", "m.pt", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {
            "kind": "InputError",
            "message": "it is empty",
            "hint": "fill it",
            "where": "m.pt",
            "exit_code": 2,
        }
    }
    assert captured.err.startswith("error: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_bridge(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_BRIDGE_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_options() -> None:
    def complete(words: str, position: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from bridge.cli import main; main([])"],
            env={"_BRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)},
            capture_output=True,
            text=True,
        )
        return done.stdout

    assert complete("bridge con", 1).split() == ["plain,convert"]
    assert "plain,--io-layout" in complete("bridge convert --io", 2)


def test_python_m_bridge_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "inspect", "nowhere.pt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere.pt: no such file or directory")
