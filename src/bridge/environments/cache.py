"""Virtual environments made from requirements files, kept in the user's cache directory.

An environment belongs to the text of its requirements, that of every file they include, and the exact
version of its interpreter. It is made in a directory beside its place and renamed when it is complete, under
a lock, so that two processes that need the same one make it once, and an interrupted one is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.environments.interpreters import Interpreter
from bridge.errors import EnvironmentFailure, InputError

DIRECTORY_VARIABLE = "BRIDGE_CACHE_DIR"
"""The environment variable that names another cache directory."""

_RECORD = "bridge-environment.json"
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]\s*(\S+)")
_LOCAL = re.compile(r"^(?:-e|--editable)\s|^\.{0,2}/|^file:")
_STEPS = ("Collecting", "Downloading", "Building", "Installing")
_LAST_LINES = 12
_KEY_LENGTH = 16

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CachedEnvironment:
    """An environment in the cache.

    `packages` are the versions that pip installed, by name, `requirements` the text they come from, `made`
    when (ISO 8601, UTC), `bytes` its size on disk.
    """

    key: str
    directory: str
    python: str
    interpreter: str
    requirements: str
    packages: Mapping[str, str]
    made: str
    bytes: int

    @property
    def summary(self) -> str:
        """One line: the key, the interpreter, the requirements, and the size."""
        wanted = ", ".join(self.requirements.split("\n")[:4])
        return (
            f"{self.key}: {self.interpreter}, {wanted} ({self.bytes / 2**20:.0f} MiB, made {self.made[:10]})"
        )


def cache_directory() -> Path:
    """Where environments are kept: `environments` in the user's cache directory of bridge."""
    from platformdirs import user_cache_path

    chosen = os.environ.get(DIRECTORY_VARIABLE)
    return (Path(chosen) if chosen else user_cache_path("bridge")) / "environments"


def environment_for(
    requirements: str | Path, interpreter: Interpreter, *, on_progress: Progress | None = None
) -> CachedEnvironment:
    """The environment of a requirements file, made if it is not there yet.

    Raises InputError for a file that cannot be read, EnvironmentFailure where pip or venv fail, with the last
    lines that they printed, and where the packages that a worker needs are not among those installed.
    """
    say = on_progress or (lambda text: None)
    text = _flattened(Path(requirements))
    key = hashlib.sha256(f"{interpreter.identity}\n{text}".encode()).hexdigest()[:_KEY_LENGTH]
    place = cache_directory() / key
    found = _read(place)
    if found is not None:
        return found
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place, say):
        found = _read(place)
        return found if found is not None else _make(place, Path(requirements), text, interpreter, say)


def cached() -> list[CachedEnvironment]:
    """Every complete environment in the cache, the newest first."""
    folder = cache_directory()
    found = [_read(each) for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    return sorted((each for each in found if each is not None), key=lambda each: each.made, reverse=True)


def remove(key: str) -> CachedEnvironment:
    """Remove an environment by its key or the beginning of it.

    Raises InputError where none or several have it.
    """
    found = [each for each in cached() if key and each.key.startswith(key)]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} cached environments have the key {key!r}",
            hint="bridge environments lists them",
        )
    place = Path(found[0].directory)
    with _locked(place, lambda text: None):
        doomed = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        place.rename(doomed / place.name)
        shutil.rmtree(doomed)
    _lock_file(place).unlink(missing_ok=True)
    return found[0]


def _flattened(file: Path, seen: frozenset[Path] = frozenset()) -> str:
    """The lines that say what is installed, those of included files in place, without comments."""
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the requirements cannot be read: {error}",
            hint="name a requirements file of pip, with the old framework and its version in it",
            where=str(file),
        ) from error
    lines = []
    for line in content.splitlines():
        plain = re.sub(r"(^|\s)#.*$", "", line).strip()
        included = _INCLUDE.match(plain)
        if included and "://" not in included[1]:
            path = (file.parent / included[1]).resolve()
            if path in seen:
                raise InputError("the requirements include themselves", where=str(path))
            kind = "-c" if plain.startswith(("-c", "--constraint")) else "-r"
            lines.append(f"{kind}:\n{_flattened(path, seen | {path})}")
        elif _LOCAL.match(plain):
            raise InputError(
                f"{plain!r} is a package in this file system, whose changes no cache would notice",
                hint="make the environment yourself, and give its --source-python env/bin/python",
                where=str(file),
            )
        elif plain:
            lines.append(plain)
    return "\n".join(lines)


def _read(place: Path) -> CachedEnvironment | None:
    """The environment at a place, None where there is none that is complete."""
    try:
        record: dict[str, Any] = json.loads((place / _RECORD).read_text(encoding="utf-8"))
        python = place / "bin" / "python"
        if not python.exists():
            return None  # the interpreter that it was made from is gone
        return CachedEnvironment(key=place.name, directory=str(place), python=str(python), **record)
    except (OSError, ValueError, TypeError):
        return None


def _make(
    place: Path, requirements: Path, text: str, interpreter: Interpreter, say: Progress
) -> CachedEnvironment:
    if place.exists():
        shutil.rmtree(place)
    for left_over in place.parent.glob(f"{place.name}.making-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=f"{place.name}.making-", dir=place.parent))
    try:
        say(f"making an environment of Python {interpreter.version}")
        _run([interpreter.path, "-m", "venv", str(making)], "venv cannot make an environment", say)
        python = str(making / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        install = [*pip, "install", "--progress-bar", "off", "-r", str(requirements)]
        _run(install, f"pip cannot install {requirements}", say)
        frozen = _run([*pip, "list", "--format", "json"], "pip cannot list what it installed", say)
        packages = _packages(frozen)
        record = {
            "interpreter": f"Python {interpreter.version}",
            "requirements": text,
            "packages": packages,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "bytes": sum(each.lstat().st_size for each in making.rglob("*")),
        }
        if "numpy" not in packages:
            raise EnvironmentFailure(
                "the requirements install no numpy, which a worker needs",
                hint="put the framework and numpy into them",
                where=str(requirements),
            )
        (making / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        making.rename(place)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    found = _read(place)
    if found is None:
        raise EnvironmentFailure("the environment vanished while it was made", where=str(place))
    return found


def _packages(listed: str) -> dict[str, str]:
    start = listed.find("[{")
    return {each["name"].lower(): each["version"] for each in json.loads(listed[start:].splitlines()[0])}


def _run(command: list[str], failure: str, say: Progress) -> str:
    """What a command prints, its steps told as they come. Raises EnvironmentFailure where it fails."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    last: deque[str] = deque(maxlen=_LAST_LINES)
    printed = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                printed.append(line)
                if line.strip():
                    last.append(line.rstrip())
                if line.lstrip().startswith(_STEPS):
                    say(_shortened(line.strip()))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise EnvironmentFailure(
            failure,
            hint="\n  ".join(["its last lines were:", *last]) if last else "it printed nothing",
            where=command[0],
        )
    return "".join(printed)


def _shortened(line: str) -> str:
    return line if len(line) <= 100 else f"{line[:97]}..."


def _lock_file(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


@contextmanager
def _locked(place: Path, say: Progress) -> Iterator[None]:
    """Be the only process that makes or removes this environment."""
    with _lock_file(place).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that makes the same environment")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def as_record(environment: CachedEnvironment) -> dict[str, Any]:
    """An environment as JSON values."""
    return asdict(environment)
