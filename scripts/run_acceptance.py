"""Convert every model that must work and measure what was promised of each.

Each model is converted by the command line and verified; reloaded in a fresh process that can import
nothing but the target framework, and run there with batches of 1, 3 and 17; verified again; and converted
a second time under another hash seed and working directory, to compare bytes. Results are kept in
fixtures/artifacts/acceptance, so that `--resume` goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fixtures import build

ROOT = Path(__file__).resolve().parents[1]
WORK = build.ARTIFACTS / "acceptance"
BATCHES = (1, 3, 17)
SAME_BYTES = ("model.py", "model.safetensors", "weights.json", "anchors.json")

LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "embeddings": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclass(frozen=True)
class Case:
    """A model that must work: its fixture, the file to convert, and what the command line needs beside it.

    `names` is the file whose framework lists the trained tensors, `weights` the one whose training can be
    continued, `peak_limit` the memory that the conversion may take, in bytes.
    """

    fixture: str
    file: str
    to: str
    names: str
    options: tuple[str, ...] = ()
    convolutional: bool = False
    weights: str | None = None
    peak_limit: float | None = None

    @property
    def name(self) -> str:
        return f"{self.fixture}/{self.file}"

    @property
    def identifier(self) -> str:
        """The name as one word, for files."""
        return re.sub(r"\W", "_", self.name)


LINEAR = ("--input", "Nx2")
REGRESSION = "fixtures.linear_torch:build"
CASES = (
    Case("linear_torch", "state_dict.pt", "tf", "model.pt2", ("--model", REGRESSION, *LINEAR)),
    Case("linear_torch", "module.pt", "tf", "model.pt2", ("--trust", *LINEAR)),
    Case("linear_torch", "torchscript.pt", "tf", "model.pt2", LINEAR),
    Case("linear_torch", "model.pt2", "tf", "model.pt2", weights="state_dict.pt"),
    Case("digits_torch", "model.pt2", "tf", "model.pt2", convolutional=True),
    Case("resnet18", "model.pt2", "tf", "model.pt2", convolutional=True),
    Case("mobilenetv3_small_050", "model.pt2", "tf", "model.pt2", convolutional=True),
    Case("vgg11_bn", "model.pt2", "tf", "model.pt2", convolutional=True),
    Case("linear_tf1", "checkpoint", "torch", "checkpoint", weights="checkpoint"),
    Case("linear_tf1", "frozen.pb", "torch", "checkpoint"),
    Case("linear_tf1", "saved_model", "torch", "checkpoint"),
    Case("digits_keras", "model.keras", "torch", "model.keras", convolutional=True),
    Case("mobilenet_v2", "model.keras", "torch", "model.keras", convolutional=True),
    Case("resnet50", "model.keras", "torch", "model.keras", convolutional=True, peak_limit=1.5e9),
    *(
        Case(fixture, file, "torch", "model.keras", convolutional=True)
        for fixture in ("sequential", "functional")
        for file in ("model.keras", "model.h5", "exported", "saved_model")
    ),
    Case("tf_module", "saved_model", "torch", "saved_model"),
)


@dataclass
class Measurement:
    """What was found about one case. Every check is a pair: whether it holds, and a figure or a reason."""

    name: str
    to: str
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(ok for ok, _ in self.checks.values())


def bridge(*arguments: str, cwd: Path = ROOT, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Run the command line with --json; returns exit code, its object and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments, "--json", "--quiet"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        text=True,
        capture_output=True,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr.strip()


def probe(*arguments: str) -> dict[str, Any]:
    """Run the probe in a fresh process outside the checkout; its last line is its answer."""
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "scripts" / "acceptance_probe.py"), *arguments],
        cwd=WORK,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
        capture_output=True,
    )
    if done.returncode != 0:
        raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-1:]) or "the probe failed")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure(case: Case) -> Measurement:
    found = Measurement(case.name, case.to)
    source = build.artifacts(case.fixture) / case.file
    out = WORK / case.identifier
    for directory in (out, twin(out)):
        shutil.rmtree(directory, ignore_errors=True)
    code, record, errors = bridge("convert", str(source), "--to", case.to, "-o", str(out), *case.options)
    found.checks["converted"] = code == 0, record.get("verdict") or errors.replace("\n", " ")
    if "output" not in record:
        return found
    times = record["timings"]
    own = sum(seconds for step, seconds in times.items() if step in ("passes", "emit"))
    found.checks["own share"] = own <= times["exporter"], f"{own:.2f} s of {times['exporter']:.2f} s"
    peak = max(record["peak_bytes"].values())
    limit = case.peak_limit or peak
    found.checks["peak memory"] = peak <= limit, f"{peak / 1e9:.2f} GB"
    check_text(found, out)
    if record["report"] is not None:
        check_reload(found, case, out, record["report"]["draws"][0]["inputs"])
    if case.weights is not None:
        check_training(found, case, out)
    code, again, errors = bridge("verify", str(source), str(out), *case.options)
    found.checks["verified again"] = code == 0, again.get("verdict") or errors.replace("\n", " ")
    check_bytes(found, case, source, out)
    return found


def check_text(found: Measurement, out: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--no-cache",
            "--output-format",
            "concise",
            "model.py",
        ],
        cwd=out,
        text=True,
        capture_output=True,
    )
    text = (out / "model.py").read_text()
    words = sorted(set(re.findall(r"(?i)\w*onnx\w*|\bnode_\d+\b", text)))
    problems = [*(done.stdout.splitlines()[:2] if done.returncode else ()), *words]
    found.checks["model.py"] = not problems, "; ".join(problems) or f"{len(text.splitlines())} lines"


def check_reload(found: Measurement, case: Case, out: Path, inputs: list[dict[str, Any]]) -> None:
    generator = np.random.default_rng(0)
    arrays = {}
    for batch in BATCHES:
        for position, each in enumerate(inputs):
            shape = (batch, *each["shape"][1:])
            arrays[f"{batch}/{position}"] = generator.normal(size=shape).astype(each["dtype"])
    examples = WORK / "inputs.npz"
    np.savez(examples, **arrays)
    try:
        answer = probe(case.to, str(out), str(examples))
        expected = probe("names", str(build.artifacts(case.fixture) / case.names))
    except RuntimeError as error:
        found.checks["reload"] = False, str(error)
        return
    worst = max(answer["distances"].values())
    found.checks["reload"] = worst < 1e-5, f"batches {', '.join(answer['distances'])}: {worst:.1e}"
    found.checks["signature"] = (
        answer["dynamic_batch"] and answer["inputs_named"],
        "named inputs, free batch" if answer["inputs_named"] else "inputs without names",
    )
    trained = sum(answer["trainable"].values())
    found.checks["train step"] = answer["moved"] >= trained > 0, f"{answer['moved']} of {trained} moved"
    found.checks["names"] = compare_names(expected, answer)
    if case.convolutional:
        allowed = sum(len(each["shape"]) > 2 for each in inputs) + (1 if "functional" in case.name else 0)
        found.checks["transposes"] = (
            answer["transposes"] <= allowed,
            f"{answer['transposes']} ({allowed} at boundary)",
        )


def check_training(found: Measurement, case: Case, out: Path) -> None:
    """1000 further steps from the same weights on both sides: the losses at every step."""
    assert case.weights is not None
    weights = str(build.artifacts(case.fixture) / case.weights)
    origin = "tf" if case.to == "torch" else "torch"
    for dtype in ("float64", "float32"):
        try:
            theirs = np.array(probe("train", origin, weights, dtype)["losses"])
            ours = np.array(probe("train", case.to, str(out), dtype)["losses"])
        except RuntimeError as error:
            found.checks[f"training {dtype}"] = False, str(error)
            continue
        scale, limit = (theirs, 1e-9) if dtype == "float64" else (theirs[0], 1e-5)
        worst = float(np.max(np.abs(ours - theirs) / scale))
        found.checks[f"training {dtype}"] = worst <= limit, f"{worst:.1e} of {limit:.0e} at the worst step"


def compare_names(expected: dict[str, Any], answer: dict[str, Any]) -> tuple[bool, str]:
    theirs = {normal(name): trainable for name, trainable in expected["trainable"].items()}
    ours = {normal(name): trainable for name, trainable in answer["trainable"].items()}
    buffers, ours_buffers = (
        {name for name in map(normal, listed) if not name.endswith("num_batches_tracked")}
        for listed in (expected["buffers"], answer["buffers"])
    )
    # A variable that is not trained is a buffer in PyTorch.
    frozen = {name for name, trainable in theirs.items() if not trainable} & ours_buffers
    theirs = {name: trainable for name, trainable in theirs.items() if name not in frozen}
    ours_buffers -= frozen
    wrong = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    wrong += sorted(buffers ^ ours_buffers)
    if wrong:
        return False, f"{len(wrong)} differ: {', '.join(wrong[:4])}"
    return True, f"{len(theirs)} and {len(buffers)} buffers"


def normal(name: str) -> str:
    """A tensor's path, framework aside: `layer1/0/conv1/kernel` and `layer1.0.conv1.weight` are one."""
    parts = re.split(r"[./]", name)
    return "/".join([*parts[:-1], LEAVES.get(parts[-1], parts[-1])])


def twin(out: Path) -> Path:
    return out.with_name(out.name + "-again")


def check_bytes(found: Measurement, case: Case, source: Path, out: Path) -> None:
    elsewhere = WORK / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    command = ("convert", str(source), "--to", case.to, "-o", str(twin(out)), "--no-verify", *case.options)
    code, _, errors = bridge(*command, cwd=elsewhere, PYTHONHASHSEED="12345")
    if code != 0:
        found.checks["same bytes"] = False, errors.replace("\n", " ")
        return
    different = [name for name in SAME_BYTES if (out / name).read_bytes() != (twin(out) / name).read_bytes()]
    found.checks["same bytes"] = not different, ", ".join(different) or "yes"
    shutil.rmtree(twin(out))


def startup() -> tuple[bool, str]:
    """The wall time of `bridge --help`, against Python doing nothing."""

    def quickest(*arguments: str) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
        return min(times)

    help_time, nothing = quickest("-m", "bridge", "--help"), quickest("-c", "pass")
    return (
        help_time <= 2 * nothing + 0.15,
        f"{help_time * 1000:.0f} ms, python -c pass {nothing * 1000:.0f} ms",
    )


def kept(case: Case) -> Path:
    return WORK / f"{case.identifier}.json"


def load(case: Case) -> Measurement:
    record = json.loads(kept(case).read_text())
    checks = {name: (bool(ok), str(text)) for name, (ok, text) in record["checks"].items()}
    return Measurement(case.name, case.to, checks)


def show(found: Measurement) -> str:
    mark = "ok  " if found.passed else "FAIL"
    lines = [f"{mark} {found.name} to {found.to}"]
    lines += [f"     {'ok  ' if ok else 'FAIL'} {name}: {text}" for name, (ok, text) in found.checks.items()]
    return "\n".join(lines)


def table(results: list[Measurement]) -> str:
    names = list(dict.fromkeys(name for each in results for name in each.checks))
    lines = ["", "measured over all models:"]
    for name in names:
        having = [each for each in results if name in each.checks]
        good = sum(each.checks[name][0] for each in having)
        missing = f", {len(results) - len(having)} not reached" if name in ("reload", "same bytes") else ""
        lines.append(f"  {name:15} {good} of {len(having)}{missing}")
    ok, text = startup()
    lines.append(f"  {'bridge --help':15} {'ok' if ok else 'FAIL'}: {text}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure what bridge promises, on every model that must work."
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases whose name contains it"
    )
    parser.add_argument("--resume", action="store_true", help="keep results of an earlier run")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results = []
    for case in CASES:
        if options.only and not any(text in case.name for text in options.only):
            continue
        if options.resume and kept(case).is_file():
            found = load(case)
        else:
            found = measure(case)
            kept(case).write_text(json.dumps({"checks": found.checks}, indent=1))
        print(show(found), flush=True)
        results.append(found)
    print(table(results))
    return int(not all(each.passed for each in results))


if __name__ == "__main__":
    sys.exit(main())
