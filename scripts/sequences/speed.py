"""Time per step of emitted layers over the target's own layers written by hand, with the same weights.

`python -m scripts.sequences.speed --target torch|tf [--only lstm] [--rounds 40]`: every kind of layer in two
widths is made in the other framework and converted; one process of the target framework then runs emitted
and handwritten layers in turn (A B A B ...) and prints the ratio of their medians with a 95% interval by
bootstrap. A miss is an interval wholly above 1.05.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fixtures import build
from scripts.sequences.measure import ROOT

WORK = build.ARTIFACTS / "sequences" / "speed"
KINDS = ("lstm", "gru", "attention", "norm")
WIDTHS = (64, 256)
LIMIT = 1.05
DRAWS = 2000


def converted(kind: str, width: int, target: str) -> Path:
    """The directory of a layer converted to the target; made if it is not there."""
    directory = WORK / target / f"{kind}{width}"
    if not (directory / "model.py").is_file():
        source = WORK / target / f"{kind}{width}.{'pt' if target == 'tf' else 'keras'}"
        source.parent.mkdir(parents=True, exist_ok=True)
        program = "speed_torch" if target == "tf" else "speed_tf"
        _run("scripts.sequences." + program, "make", kind, str(width), str(source))
        options = ["--trust", "--input", f"x=NxTx{width}"] if target == "tf" else []
        _run(
            "bridge",
            "convert",
            str(source),
            "--to",
            target,
            "-o",
            str(directory),
            "-q",
            "--no-verify",
            *options,
        )
    return directory


def _run(*module: str) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", *module], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(module)} failed: {done.stderr.strip()[-1500:]}")
    return done.stdout


def interval(ours: np.ndarray, native: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """The ratio of the medians of two series taken in turn, and its 95% interval by bootstrap over turns."""
    rng = np.random.default_rng(seed)
    turns = rng.integers(0, len(ours), size=(DRAWS, len(ours)))
    ratios = np.median(ours[turns], axis=1) / np.median(native[turns], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(ours) / np.median(native)), float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time emitted layers against handwritten ones.")
    parser.add_argument("--target", choices=("torch", "tf"), required=True)
    parser.add_argument("--only", choices=KINDS, action="append", help="kinds of layers (default: all)")
    parser.add_argument("--rounds", type=int, default=40, help="turns of both (default: %(default)s)")
    options = parser.parse_args()
    missed = 0
    titles = f"{'layer':10} {'width':>5} {'steps':>5} {'batch':>5} {'mode':22} {'native':>9} {'ratio':>6}"
    print(f"{titles}  95% interval")
    for kind in options.only or KINDS:
        for width in WIDTHS:
            directory = converted(kind, width, options.target)
            printed = _run(
                f"scripts.sequences.speed_{options.target}",
                "time",
                kind,
                str(width),
                str(directory),
                str(options.rounds),
            )
            for each in json.loads(printed.strip().splitlines()[-1]):
                ratio, low, high = interval(np.array(each["ours"]), np.array(each["native"]))
                missed += low > LIMIT
                print(
                    f"{kind:10} {width:5} {each['steps']:5} {each['batch']:5} {each['mode']:22} "
                    f"{np.median(each['native']) * 1e3:6.2f} ms {ratio:6.3f}  {low:.3f} to {high:.3f}"
                    f"{'  MISS' if low > LIMIT else ''}",
                    flush=True,
                )
    print(f"{missed} intervals lie wholly above {LIMIT}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
