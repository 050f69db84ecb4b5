"""python -m scripts.proof.pairs DIRECTORY [NAME ...]: make the files of right pairs."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.proof.pairs.build import build

if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:] or None)
