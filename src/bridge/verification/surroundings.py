"""What a report says about the machine, the processes and the files that a verification rests on."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from bridge.errors import BridgeError
from bridge.verification.parties import FACTORY, Party
from bridge.verification.report.environment import ComparedFile, Environment, FileRole, SideEnvironment
from bridge.verification.user_inputs import UserInputs
from bridge.worker.references import is_reference
from bridge.worker.side import Side

_LEFT_OUT = frozenset({"__pycache__", ".git"})


@dataclass(frozen=True)
class Hashes:
    """The hashes of files, and sentences about what has none."""

    files: tuple[ComparedFile, ...] = ()
    notes: tuple[str, ...] = ()


def start_hashing(source: Party, target: Party, inputs: UserInputs | None) -> Future[Hashes]:
    """Hash what takes part, in a thread of its own: the workers compute meanwhile."""
    with_inputs = inputs if isinstance(inputs, str | Path) else None
    executor = ThreadPoolExecutor(1, thread_name_prefix="hashes")
    try:
        return executor.submit(_hashes, source, target, with_inputs)
    finally:
        executor.shutdown(wait=False)


def environment(source: Side, target: Side, threads: int, hashes: Hashes) -> Environment:
    """This machine, and what both workers say about theirs."""
    requests = [(side, side.submit("environment")) for side in (source, target)]
    sides = [_side_environment(side, number) for side, number in requests]
    return Environment(
        bridge=version("bridge-ml"),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=threads,
        source=sides[0],
        target=sides[1],
        files=hashes.files,
        notes=hashes.notes,
    )


def started_at(started: float) -> str:
    """The date of a reading of `time.monotonic`, in UTC; that of SOURCE_DATE_EPOCH where it is set.

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = float(epoch) if epoch.isdecimal() else time.time() - (time.monotonic() - started)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _side_environment(side: Side, number: int) -> SideEnvironment | None:
    try:
        found: Mapping[str, Any] = side.result(number)
    except BridgeError:
        # What a verification found stands, whether or not a worker of another version tells its versions.
        return None
    return SideEnvironment(str(found["python"]), dict(sorted(found["packages"].items())))


def _processor() -> str:
    """The processor's name; Linux has it in /proc alone."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _hashes(source: Party, target: Party, inputs: str | Path | None) -> Hashes:
    files: list[ComparedFile] = []
    notes: list[str] = []
    for role, party in (("source", source), ("target", target)):
        found = list(_files(party))
        files += _hashed("source" if role == "source" else "target", found)
        if not found:
            notes.append(f"the {role} {party.path} is no file that could be hashed")
    if inputs is not None:
        given = _module_file(str(inputs)) if is_reference(str(inputs)) else Path(inputs)
        if given is not None and given.is_file():
            files += _hashed("inputs", [(str(given), given)])
    return Hashes(tuple(files), tuple(notes))


def _hashed(role: FileRole, files: Iterable[tuple[str, Path]]) -> Iterator[ComparedFile]:
    for name, file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield ComparedFile(role, name, file.stat().st_size, digest)


def _files(party: Party) -> Iterator[tuple[str, Path]]:
    """The files of a version, and what to call each."""
    form = party.request.get("format")
    if form == FACTORY:
        file = _module_file(party.path)
        if file is not None:
            yield str(file), file
        return
    if "path" not in party.request:
        return
    path = Path(str(party.request["path"]))
    named = Path(party.path)
    if path.is_dir():
        for file in sorted(each for each in path.rglob("*") if each.is_file()):
            beneath = file.relative_to(path)
            if _LEFT_OUT.isdisjoint(beneath.parts):
                yield str(named / beneath), file
        return
    if path.is_file():
        yield str(named / path.name if named.is_dir() else named), path
        if form == "onnx":
            yield from _external_data(path, named)
        return
    # A TensorFlow 1 checkpoint is named by the stem of its files.
    for file in sorted(path.parent.glob(f"{path.name}.*")) if path.parent.is_dir() else ():
        yield str(named.parent / file.name), file


def _external_data(model: Path, named: Path) -> Iterator[tuple[str, Path]]:
    """The files beside an ONNX model that hold its weights."""
    proto = onnx.load(str(model), load_external_data=False)
    locations = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for location in sorted(locations):
        file = model.parent / location
        if file.is_file() and file.resolve().is_relative_to(model.parent.resolve()):
            yield str(named.parent / location), file


def _module_file(reference: str) -> Path | None:
    """The file of the module in `pkg.mod:name`, found without importing anything."""
    path = [os.getcwd(), *sys.path]
    found = None
    for name in reference.partition(":")[0].split("."):
        found = PathFinder.find_spec(name, path)
        if found is None:
            return None
        path = list(found.submodule_search_locations or ())
    if found is None or found.origin is None or not found.has_location:
        return None
    return Path(found.origin)
