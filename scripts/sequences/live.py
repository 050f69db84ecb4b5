"""Converts a live object with the Python API: `python -m scripts.sequences.live NAME OUT`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import bridge
from fixtures import build
from fixtures.sequences import SEQUENCES


def main(name: str, out: str) -> None:
    case = SEQUENCES[name]
    program: Any = importlib.import_module(f"fixtures.sequences_{case.program}")
    inputs = None
    if case.program == "torch":
        about = json.loads((build.artifacts(name) / "about.json").read_text())
        inputs = list(about["inputs"].values())
    source = program.MODULES[name]() if case.program == "tf" else program.build(name).model
    try:
        bridge.convert(source, case.target, inputs, verify=False, output=Path(out), force=True)
    except bridge.BridgeError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(*sys.argv[1:])
