import time

import pytest

from bridge.cli import progress
from bridge.cli.progress import Progress


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as say:
        say("reading")
        say("writing")
    assert capsys.readouterr().err == ""


def test_what_takes_long_says_a_line_a_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with Progress() as say:
        say("reading")
        time.sleep(0.2)
        say("writing")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["reading", "writing"]


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(quiet=True) as say:
        say("reading")
        time.sleep(0.05)
        say("writing")
    assert capsys.readouterr().err == ""
