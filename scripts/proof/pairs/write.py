"""Write one framework's versions of pairs: the process that `build` starts for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path


def write(framework: str, directory: Path, names: Iterable[str]) -> None:
    """Write the versions of `framework` ("torch" or "tf") into the pairs' directories."""
    models = importlib.import_module(f"scripts.proof.pairs.{framework}_models")
    for name in names:
        try:
            models.write(name, directory / name)
        except Exception as error:
            raise RuntimeError(f"the {framework} version of {name} cannot be made") from error


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
