"""Workflow commands: one line each, escaped, at the first wrong node."""

from __future__ import annotations

import re

import pytest
from examples import DIFFERENT, EQUIVALENT, MEASURED, REPORTS, SUITE, UNCHECKED

_COMMAND = re.compile(r"::(?P<level>error|warning|notice) (?P<properties>[^:]*)::(?P<message>.*)")


def _read(text: str) -> list[tuple[str, dict[str, str], str]]:
    """The commands as GitHub's runner reads them."""
    found = []
    for line in text.split("\n")[:-1]:
        match = _COMMAND.fullmatch(line)
        assert match is not None, line
        properties = dict(each.split("=", 1) for each in match["properties"].split(","))
        properties = {name: _unescaped(value, "property") for name, value in properties.items()}
        found.append((match["level"], properties, _unescaped(match["message"], "data")))
    return found


def _unescaped(text: str, kind: str) -> str:
    pairs = [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] if kind == "property" else [])]
    for escape, character in [*pairs, ("%25", "%")]:
        text = text.replace(escape, character)
    return text


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_gives_commands_that_can_be_read(name: str) -> None:
    commands = _read(REPORTS[name].annotations())
    assert bool(commands) is not REPORTS[name].passed
    for level, properties, message in commands:
        assert set(properties) <= {"file", "line", "title"}
        assert message
        assert "forged" not in level


def test_a_difference_is_at_the_line_of_the_first_wrong_node() -> None:
    ((level, properties, message),) = _read(DIFFERENT.annotations())
    assert (level, properties["file"], properties["line"]) == ("error", "out/model.py", "13")
    assert properties["title"] == "An output of the target is not the source's"
    assert "scores: typical inputs" in message
    assert "net.py:7" in message


def test_paths_are_relative_to_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(str(tmp_path))
    assert _read(DIFFERENT.annotations())[0][1]["file"] == "out/model.py"


def test_what_has_no_line_has_no_place() -> None:
    assert _read(UNCHECKED.annotations())[0][:2] == (
        "warning",
        {"title": "It could not be decided whether the versions are equivalent"},
    )
    assert _read(MEASURED.annotations())[0][2] == "slower: 1.31 times, at most 1.1"
    assert EQUIVALENT.annotations() == ""


def test_a_suite_names_the_pair() -> None:
    commands = _read(SUITE.annotations())
    assert [properties["title"].partition(":")[0] for _, properties, _ in commands] == [
        "wrong <b>",
        "crashed",
        "slower",
    ]
