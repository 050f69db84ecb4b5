"""Importing an emitted model.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from bridge.errors import InputError

_MODULE_NAME = "bridge_converted_model"


def load_emitted(directory: Path) -> Any:
    """The model that `load()` of a directory's model.py gives, with its weights.

    The file is imported under a name that hides no installed package. Raises InputError if there is none.
    """
    path = directory / "model.py"
    specification = importlib.util.spec_from_file_location(_MODULE_NAME, path)
    if specification is None or specification.loader is None or not path.is_file():
        raise InputError("this directory holds no model.py", where=str(directory))
    module = importlib.util.module_from_spec(specification)
    sys.modules[_MODULE_NAME] = module
    specification.loader.exec_module(module)
    return module.load()
