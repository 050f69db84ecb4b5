"""Time a model against itself, and against itself with a layer repeated, many times.

python -m scripts.proof.speed                                  # every case, 30 runs each, two loads
python -m scripts.proof.speed --resume                         # goes on after an interruption
python -m scripts.proof.speed --frameworks onnx --runs 5 --load 0
python -m scripts.proof.speed --frameworks torch --device cuda --batch 256

The first must never be called slower by more than 1.1, the second, which does 1.3 times the work, always.
The load is made by processes of this script that compute and copy memory in bursts of random length. A line
of JSON is kept for every run. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.verification import Session
from bridge.verification.parties import resolve
from bridge.verification.setting import Setting
from bridge.verification.speed.result import SpeedResult
from bridge.verification.speed.settings import SpeedSettings

WORK = Path(__file__).resolve().parents[2] / "fixtures" / "artifacts"
LIMIT = 1.1
LAYERS = 10
REPEATED = 13
"""13 equal layers do 1.3 times the work of 10."""
FRAMEWORKS = ("onnx", "torch", "tf")
CASES = {"itself": LAYERS, "1.3 times the work": REPEATED}
_CHANNELS = 24
_SIZE = 32
_BURSTS = """
import random, sys, time
import numpy as np
order = random.Random(int(sys.argv[1]))
block = np.ones(2**22)
while True:
    until = time.monotonic() + order.uniform(0.02, 2.0)
    kind = order.random()
    while time.monotonic() < until:
        block.copy() if kind < 0.5 else sum(range(20_000))
    time.sleep(order.uniform(0.0, 1.0))
"""


@dataclass(frozen=True)
class Record:
    """One run: what was decided, and the ratio with its interval. `reading` is the clock that decided."""

    framework: str
    case: str
    load: int
    run: int
    decided: str
    gate: str
    ratio: float
    low: float
    high: float
    reading: str
    wall: float
    processes: int
    waiting: float | None
    others: float | None
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.framework, self.case, self.load, self.run


def record(framework: str, case: str, load: int, run: int, result: SpeedResult) -> Record:
    """The record of one measurement."""
    (row,) = result.rows
    (gate,) = result.gates
    assert row.ratio is not None
    assert row.wall is not None
    assert row.noise is not None
    return Record(
        framework,
        case,
        load,
        run,
        row.decided,
        gate.state,
        row.ratio.estimate.value,
        row.ratio.estimate.low,
        row.ratio.estimate.high,
        row.ratio.reading,
        row.wall.estimate.value,
        result.processes,
        row.noise.waiting,
        row.noise.others,
        result.seconds,
    )


def table(records: Sequence[Record]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| framework | target | load | runs | slower | equal | undecided | ratios | waiting |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = dict.fromkeys((each.framework, each.case, each.load) for each in records)
    for framework, case, load in groups:
        found = [
            each for each in records if (each.framework, each.case, each.load) == (framework, case, load)
        ]
        count = {
            kind: sum(each.decided == kind for each in found) for kind in ("slower", "equal", "undecided")
        }
        ratios = [each.ratio for each in found]
        waiting = statistics.median(each.waiting or 0.0 for each in found)
        lines.append(
            f"| {framework} | {case} | {load} processes | {len(found)} | {count['slower']} | "
            f"{count['equal']} | {count['undecided']} | {min(ratios):.2f} to {max(ratios):.2f}, median "
            f"{statistics.median(ratios):.2f} | {100 * waiting:.0f} % |"
        )
    return lines


def missed(records: Sequence[Record]) -> list[Record]:
    """The runs that are not what they should be."""
    return [
        each
        for each in records
        if (
            (each.decided == "slower" or each.gate == "failed")
            if each.case == "itself"
            else each.decided != "slower"
        )
    ]


@contextlib.contextmanager
def background(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that compute in bursts."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _BURSTS, str(seed)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for seed in range(count)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def build(framework: str, layers: int, path: Path) -> None:
    """Save a network of equal convolutions, each followed by ReLU."""
    if framework == "onnx":
        _build_onnx(layers, path)
        return
    program = _BUILD_TORCH if framework == "torch" else _BUILD_KERAS
    subprocess.run(
        [sys.executable, "-c", program, str(path), str(layers), str(_CHANNELS), str(_SIZE)],
        check=True,
        stderr=subprocess.DEVNULL,
    )


_BUILD_TORCH = """
import sys
import torch
path, layers, channels, size = sys.argv[1], *map(int, sys.argv[2:])
torch.manual_seed(0)
net = torch.nn.Sequential(*(
    module
    for _ in range(layers)
    for module in (torch.nn.Conv2d(channels, channels, 3, padding=1), torch.nn.ReLU())
)).eval()
batch = torch.export.Dim("batch")
example = torch.randn(2, channels, size, size)
torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: batch},)), path)
"""
_BUILD_KERAS = """
import sys
import keras
path, layers, channels, size = sys.argv[1], *map(int, sys.argv[2:])
keras.utils.set_random_seed(0)
keras.Sequential([
    keras.Input((size, size, channels)),
    *(keras.layers.Conv2D(channels, 3, padding="same", activation="relu") for _ in range(layers)),
]).save(path)
"""


def _build_onnx(layers: int, path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32) / 15
    nodes = []
    name = "x"
    for layer in range(layers):
        nodes.append(helper.make_node("Conv", [name, "w"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name = f"r{layer}"
    shape = ["n", _CHANNELS, _SIZE, _SIZE]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), str(path))


_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "tf": ".keras"}


def _runs(options: argparse.Namespace, done: set[tuple[str, str, int, int]]) -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as scratch:
        for framework in options.frameworks:
            files = {
                layers: Path(scratch, f"{framework}{layers}{_SUFFIXES[framework]}")
                for layers in CASES.values()
            }
            for layers, file in files.items():
                build(framework, layers, file)
            for load in options.load:
                for case, layers in CASES.items():
                    missing = [run for run in range(options.runs) if (framework, case, load, run) not in done]
                    if not missing:
                        continue
                    place = Setting(device=options.device)
                    source, target = (
                        place.applied(resolve(files[each], as_target=True)) for each in (LAYERS, layers)
                    )
                    with (
                        background(load),
                        Session(source, target, threads=options.threads or None) as session,
                    ):
                        for run in missing:
                            yield record(
                                framework, case, load, run, session.speed(_settings(options, seed=run))
                            )


def _settings(options: argparse.Namespace, *, seed: int) -> SpeedSettings:
    return SpeedSettings(batches=(options.batch,), seconds=options.seconds, max_slowdown=LIMIT, seed=seed)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument(
        "--load", type=int, nargs="+", default=[0, 2], help="processes that compute meanwhile"
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1, help="0 leaves them to bridge")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=WORK / "speed.jsonl")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    records = []
    if options.resume and options.out.exists():
        records = [
            Record(**json.loads(line)) for line in options.out.read_text(encoding="utf-8").splitlines()
        ]
    with options.out.open("a" if options.resume else "w", encoding="utf-8") as file:
        started = time.monotonic()
        for each in _runs(options, {each.key for each in records}):
            records.append(each)
            file.write(json.dumps(asdict(each)) + "\n")
            file.flush()
            print(
                f"{time.monotonic() - started:6.0f} s  {each.framework}, {each.case}, load {each.load}, "
                f"run {each.run}: {each.decided}, {each.ratio:.3f} ({each.low:.3f} to {each.high:.3f}) by "
                f"{each.reading}",
                flush=True,
            )
    print("\n".join(table(records)))
    wrong = missed(records)
    for each in wrong:
        print(f"missed: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
