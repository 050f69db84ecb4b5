"""Networks for the PyTorch reader's tests, importable as `reader_nets` from the current directory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `reader_nets` in a fresh current directory, as a user's own file."""
    import importlib

    shutil.copy(Path(__file__).with_name("reader_nets.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("reader_nets", None)
    yield importlib.import_module("reader_nets")
    sys.modules.pop("reader_nets", None)
