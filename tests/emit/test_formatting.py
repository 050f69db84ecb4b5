"""The formatter: one text, formatted; nothing left behind if it is not needed."""

from __future__ import annotations

import pytest

from bridge.emit.formatting import Formatter
from bridge.errors import EnvironmentFailure


def test_text_is_formatted() -> None:
    with Formatter("model.py") as formatter:
        assert formatter.format("x = {  'a':1 }\n") == 'x = {"a": 1}\n'


def test_text_that_is_no_python_is_refused() -> None:
    with Formatter("model.py") as formatter, pytest.raises(EnvironmentFailure, match="ruff"):
        formatter.format("x = = 1\n")


def test_a_formatter_that_is_not_fed_ends() -> None:
    with Formatter("model.py") as formatter:
        process = formatter._process
    assert process.returncode is not None
