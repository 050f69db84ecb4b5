"""What is measured of a sequence model: convert, reload in the target's framework alone, verify gradients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fixtures import build
from fixtures.sequences import SEQUENCES, Sequence
from scripts.sequences.native import leftovers

ROOT = Path(__file__).resolve().parents[2]
WORK = build.ARTIFACTS / "sequences"
TOLERANCE = 2e-5
"""The largest relative distance between a model's outputs and its source's; both compute in float32."""

LIMIT = 600.0
"""Seconds that each step may take."""


@dataclass
class Measurement:
    """What was found about one model. `errors` are by step: convert, reload, model, artifact, verify.

    `unexported` is why the target's own exporter made no artifact beside model.py, or one of fixed sizes.
    """

    name: str
    target: str
    errors: dict[str, str] = field(default_factory=dict)
    worst: float | None = None
    cosine: float | None = None
    sizes: int = 0
    recurrent: dict[str, int] = field(default_factory=dict)
    attention: dict[str, int] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: int = 0
    refused: bool = False
    unexported: str = ""

    @property
    def passed(self) -> bool:
        """Whether it converts, reloads, agrees at every size and verifies with gradients."""
        return not self.errors

    @property
    def case(self) -> Sequence:
        return SEQUENCES[self.name]

    @property
    def not_native(self) -> dict[str, str]:
        """Layers that did not become the target's own, by kind, and why where that is known."""
        missing: dict[str, str] = {}
        if self.refused:
            return missing
        wanted = {
            **self.case.recurrent,
            **({"attention": self.case.attentions} if self.case.attentions else {}),
        }
        found = {**self.recurrent, "attention": sum(self.attention.values())}
        for kind, count in wanted.items():
            if found.get(kind, 0) < count:
                reason = self.case.exceptions.get(kind)
                missing[kind] = reason or f"{found.get(kind, 0)} of {count}"
        return missing

    @property
    def missed(self) -> bool:
        """Whether a layer that the target has did not become it."""
        return bool(self.not_native.keys() - self.case.exceptions.keys())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(name: str, *, live: bool = False) -> Measurement:
    """Convert a model with the command line, or as a live object with the Python API, and check it."""
    case = SEQUENCES[name]
    found = Measurement(name, case.target)
    made = build.artifacts(name)
    out = WORK / ("live" if live else "out") / name
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    source = made / case.file
    examples, shapes = _inputs(made, case)
    command = (
        ["scripts.sequences.live", name, str(out)]
        if live
        else [
            "bridge",
            "convert",
            str(source),
            "--to",
            case.target,
            "-o",
            str(out),
            "--no-verify",
            "--json",
            *case.options,
            *examples,
            *shapes,
        ]
    )
    code, printed, error = _step(found, "convert", command)
    record = _record(printed)
    found.notes = record.get("notes", [])
    if code != 0 or not (out / "model.py").is_file():
        reason = _told(record) or error or f"exit code {code}"
        found.refused = bool(case.refusal) and case.refusal in reason
        if not found.refused:
            found.errors["convert"] = reason
        return found
    if case.refusal:
        found.errors["convert"] = f"it must be refused: {case.refusal}"
    text = (out / "model.py").read_text()
    found.left, found.lines = leftovers(text), len(text.splitlines())
    _reload(found, case, made, out)
    if not live:
        options = [*case.options, *shapes, "--grad", "--json", "-q"]
        code, printed, error = _step(found, "verify", ["bridge", "verify", str(source), str(out), *options])
        if code != 0:
            found.errors["verify"] = f"exit {code}: {_told(_record(printed)) or error}"
    return found


def _inputs(made: Path, case: Sequence) -> tuple[list[str], list[str]]:
    """The example inputs and the specifications that a file without shapes needs, as arguments."""
    if case.program != "torch" or case.file == "model.pt2":
        return [], []
    inputs = json.loads((made / "about.json").read_text())["inputs"]
    shapes = [part for each in inputs.values() for part in ("--input", each)]
    return ["--inputs", str(made / "example.npz")], shapes


def _reload(found: Measurement, case: Sequence, made: Path, out: Path) -> None:
    command = ["scripts.sequences.probe", case.target, str(out), str(made / "runs.npz")]
    code, printed, error = _step(
        found, "reload", [*command, *(["--fresh"] if "stateful" in found.name else [])]
    )
    if code != 0:
        found.errors["reload"] = error
        return
    answer = json.loads(printed.strip().splitlines()[-1])
    found.recurrent, found.attention = answer["layers"], answer["attention"]
    found.cosine, found.sizes = answer["cosine"], len(answer["model"])
    distances = []
    found.unexported = next(
        (each for each in found.notes if "torch.export cannot" in each or "model.pt2 has fewer" in each), ""
    )
    for step in ("model",) if found.unexported else ("model", "artifact"):
        failures = {}
        for size, value in answer[step].items():
            if isinstance(value, str) or not value <= TOLERANCE:
                failures[size] = value if isinstance(value, str) else f"relative distance {value:.1e}"
            else:
                distances.append(value)
        if failures:
            size, failure = next(iter(failures.items()))
            found.errors[step] = f"{len(failures)} of {len(answer[step])} sizes, {size}: {failure}"
    found.worst = max(distances, default=None)


def _step(found: Measurement, name: str, module: list[str]) -> tuple[int, str, str]:
    """Run a module as a program; returns its exit code, what it printed, and its error in a line."""
    environment = {**os.environ, "PYTHONPATH": _path(), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return -1, "", f"over {LIMIT:.0f} s"
    finally:
        found.seconds[name] = round(time.monotonic() - started, 1)
    return done.returncode, done.stdout, _last_words(done.stderr)


def _last_words(errors: str) -> str:
    """The error of a program in one line: what `error:` and `hint:` begin, else its last line."""
    lines = [each.strip() for each in errors.strip().splitlines() if each.strip()]
    start = next(
        (index for index, each in enumerate(lines) if each.lower().startswith("error")), len(lines) - 1
    )
    return " ".join(lines[max(start, 0) :])[:700]


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


def _record(printed: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(printed) if printed.lstrip().startswith("{") else {}
    return record


def _told(record: dict[str, Any]) -> str:
    """The error or the verdict in what the command line printed with --json."""
    if "error" in record:
        return " ".join(
            str(record["error"][key]) for key in ("kind", "message", "hint") if record["error"][key]
        )
    return str(record.get("verdict") or "")
