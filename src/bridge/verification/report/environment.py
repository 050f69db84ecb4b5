"""What a verification ran in, and which files it compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FileRole = Literal["source", "target", "inputs"]


@dataclass(frozen=True)
class SideEnvironment:
    """The process that ran one version: `packages` are the versions of those that it had imported."""

    python: str
    packages: dict[str, str]


@dataclass(frozen=True)
class ComparedFile:
    """A file that takes part. `path` is as it was given, or beneath the directory that was given."""

    role: FileRole
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Environment:
    """The machine and the call.

    `bridge` and `python` are versions, `platform` and `processor` what the system calls itself, `cores` how
    many it shows and `threads` how many each version was given. `command` is the command line, empty where
    Python called. A side is None where its process did not tell. `notes` say what has no hash, and why.
    """

    bridge: str
    python: str
    platform: str
    processor: str
    cores: int
    threads: int
    command: tuple[str, ...] = ()
    source: SideEnvironment | None = None
    target: SideEnvironment | None = None
    files: tuple[ComparedFile, ...] = ()
    notes: tuple[str, ...] = ()
