"""Measure the speed and memory of two loaded versions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bridge.verification.choosing import Choice
from bridge.verification.loaded import Loaded
from bridge.verification.pairing import Correspondence
from bridge.verification.parties import FACTORY
from bridge.verification.speed.blocks import Role
from bridge.verification.speed.measurement import Measurement, Started
from bridge.verification.speed.result import SpeedResult
from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.speed.tasks import make_tasks
from bridge.verification.surroundings import Hashes


def measure_speed(
    loaded: Loaded,
    settings: SpeedSettings,
    correspondence: Correspondence,
    choice: Choice,
    start: Callable[[Role, int, Path], Started],
    *,
    reducible: bool,
    seed: int,
    timeout: float | None,
    say: Callable[[str], None],
) -> SpeedResult:
    """Time both versions on typical inputs, each in fresh processes of its own.

    `start` loads a version in such a process, which computes in so many threads and may keep compiled code
    in the directory that it is given; it is one thread if the machine is too busy for more and that is
    `reducible`. `timeout` is in seconds for each row. The files of both are hashed first: nothing else is to
    compute meanwhile. Raises InputError for batch sizes that the inputs cannot have.
    """
    hashes = Hashes() if loaded.hashes is None else loaded.hashes.result()
    with tempfile.TemporaryDirectory(prefix="bridge-speed-") as scratch:
        directory = Path(scratch)
        cache = directory / "compiled"
        cache.mkdir()
        tasks = []
        if correspondence.mismatch is None:
            tasks = make_tasks(choice, correspondence, settings, directory, seed=seed)
        return Measurement(
            tasks,
            settings,
            lambda role, threads: start(role, threads, cache),
            threads=loaded.threads,
            reducible=reducible,
            disk_bytes={
                "source": _disk_bytes(loaded, hashes, "source"),
                "target": _disk_bytes(loaded, hashes, "target"),
            },
            why_none=correspondence.mismatch or "there is nothing that both versions run",
            timeout=timeout,
            say=say,
        ).run()


def _disk_bytes(loaded: Loaded, hashes: Hashes, role: Role) -> int | None:
    """The size of all files of a version; None for what a Python function builds."""
    party = loaded.source_party if role == "source" else loaded.target_party
    if party.request.get("format") == FACTORY:
        return None
    sizes = [each.bytes for each in hashes.files if each.role == role]
    return sum(sizes) if sizes else None
