from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bridge.cli.app import run

sys.path.append(str(Path(__file__).parents[1] / "verification"))

from onnx_models import network


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing argument 'SOURCE'"),
        (["a"], "missing argument 'TARGET'"),
        (["a", "b", "--only", "x"], "--only is for a suite"),
        (["a", "b", "--update-baseline"], "--update-baseline is for a suite"),
        (["--suite", "s", "--grad"], "--grad cannot be given with --suite"),
        (["a", "b", "--suite", "s", "--seed", "1"], "--seed, SOURCE, TARGET cannot be given with --suite"),
        (["--suite", "s", "--update-baseline"], "--update-baseline needs --baseline"),
        (["--suite", "s", "--jobs", "0"], "invalid value for '--jobs'"),
    ],
)
def test_bad_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", *arguments]) == 2
    assert message.lower() in capsys.readouterr().err.lower()


def test_a_suite_with_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("source", "right"):
        network(tmp_path / f"{name}.onnx")
    lines = ["[defaults]", "batches = [2]"]
    for name in ("one", "two"):
        lines += ["[[pair]]", f'name = "{name}"', 'source = "source.onnx"', 'target = "right.onnx"']
    (tmp_path / "suite.toml").write_text("\n".join(lines))
    command = ["verify", "--suite", "suite.toml", "--baseline", "b.json"]
    assert run(command) == 2
    assert "the baseline cannot be read" in capsys.readouterr().err
    files = [
        "--html",
        "s.html",
        "--junit",
        "s.xml",
        "--markdown",
        "s.md",
        "--sarif",
        "s.sarif",
        "--report",
        "s.json",
    ]
    assert run([*command, "--update-baseline", *files]) == 0
    output = capsys.readouterr().out
    assert "new in the baseline" in output
    for name in files[1::2]:
        assert (tmp_path / name).stat().st_size > 0
    assert run([*command, "--resume", "--only", "tw*", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["resumed"]) for each in record["pairs"]] == [("two", True)]
    baseline = json.loads((tmp_path / "b.json").read_text())
    baseline["pairs"]["one"]["errors"] = dict.fromkeys(baseline["pairs"]["one"]["errors"], -1e-3)
    (tmp_path / "b.json").write_text(json.dumps(baseline))
    assert run([*command, "--resume", "-q"]) == 1
    (tmp_path / "suite.toml").write_text("[[pair]]\nnane = 1\n")
    assert run(command) == 2
    assert "line 2: there is no option nane: did you mean name?" in capsys.readouterr().err
