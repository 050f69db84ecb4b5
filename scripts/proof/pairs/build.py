"""Make the files of the right pairs, once: the versions of a framework in one process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import bridge
from scripts.proof.pairs.catalog import PAIRS, Framework, Pair

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]
_WRITER = "scripts.proof.pairs.write"
_REPRODUCIBLE = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


def torch_path(directory: Path, name: str) -> Path:
    """The PyTorch version of a pair."""
    pair = PAIRS[name]
    converted = pair.made == "converted" and pair.target == "torch"
    return directory / name / ("converted" if converted else "model.pt2")


def tf_path(directory: Path, name: str) -> Path:
    """The TensorFlow version of a pair."""
    pair = PAIRS[name]
    if pair.made == "converted" and pair.target == "tf":
        return directory / name / "converted"
    return directory / name / ("model.keras" if pair.keras else "saved_model")


def source_path(directory: Path, name: str) -> Path:
    """The version of a pair that is the source."""
    return (torch_path if PAIRS[name].source == "torch" else tf_path)(directory, name)


def target_path(directory: Path, name: str) -> Path:
    """The version of a pair that is the target."""
    return (torch_path if PAIRS[name].target == "torch" else tf_path)(directory, name)


def build(directory: Path, names: Iterable[str] | None = None) -> None:
    """Write the files of pairs (by default all) to `directory/<name>/`, unless they are there and fresh.

    Raises RuntimeError where a definition fails, and what `bridge.convert` raises.
    """
    pairs = [PAIRS[name] for name in names or PAIRS]
    stale = [pair for pair in pairs if not _is_fresh(directory, pair)]
    for pair in stale:
        shutil.rmtree(directory / pair.name, ignore_errors=True)
        (directory / pair.name).mkdir(parents=True)
    order: tuple[Framework, ...] = ("torch", "tf")
    for framework in order:  # in this order: the TensorFlow versions take PyTorch's weights
        _write(framework, directory, [pair for pair in stale if _is_defined(pair, framework)])
    for pair in stale:
        if pair.made == "converted":
            bridge.convert(
                source_path(directory, pair.name),
                to=pair.target,
                output=target_path(directory, pair.name),
                verify=False,
            )
        _stamp(directory, pair).write_text(_digest(pair))


def _is_defined(pair: Pair, framework: Framework) -> bool:
    return pair.family != "converted" or pair.source == framework


def _write(framework: Framework, directory: Path, pairs: Iterable[Pair]) -> None:
    wanted = [pair.name for pair in pairs]
    if not wanted:
        return
    command = [sys.executable, "-m", _WRITER, framework, str(directory.resolve()), *wanted]
    environment = {**os.environ, **_REPRODUCIBLE}
    done = subprocess.run(command, cwd=_ROOT, env=environment, text=True, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"the {framework} versions cannot be made:\n{done.stderr[-4000:]}")


def _stamp(directory: Path, pair: Pair) -> Path:
    return directory / pair.name / ".made-by"


def _digest(pair: Pair) -> str:
    """Of everything in this package that a pair's files depend on."""
    shared = [*_HERE.glob("*_models/*.py")]
    families = {other.family for other in PAIRS.values()} - {pair.family}
    sources = sorted(each for each in shared if each.stem not in families)
    return hashlib.sha256(repr(pair).encode() + b"".join(each.read_bytes() for each in sources)).hexdigest()


def _is_fresh(directory: Path, pair: Pair) -> bool:
    stamp = _stamp(directory, pair)
    return stamp.is_file() and stamp.read_text() == _digest(pair)
