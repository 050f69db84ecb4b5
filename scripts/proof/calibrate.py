"""Measure how far apart two right versions of a model are, in units of what rounding explains.

python -m scripts.proof.calibrate               # writes docs/calibration.md
python -m scripts.proof.calibrate --pairs unet --seeds 1 --output /tmp/calibration.md

The factor of the verdict (`bridge.verification.compare.SOURCE_FACTOR`) rests on this table.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bridge.verification import inputs as drawing
from bridge.verification.compare import EPSILONS, SOURCE_FACTOR, UNSTABLE
from bridge.verification.fitting import common_sizes, vocabularies
from bridge.verification.inputs import Draw, InputPlan
from bridge.verification.measure import Size, distance
from bridge.verification.pairing import correspond_inputs
from bridge.verification.parties import resolve
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Description, Side
from bridge.worker.standalone import write_tensors
from scripts.proof import pairs
from scripts.proof.false_alarms import WORK
from scripts.proof.pairs import PAIRS, Pair

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"
CALIBRATED = (
    "mlp",
    "activations",
    "siamese",
    "swiglu_rmsnorm",
    "lenet",
    "vgg",
    "resnet_stack",
    "mobilenet_block",
    "dilated",
    "transposed_conv",
    "unet",
    "causal_conv1d",
    "conv3d",
    "group_instance_norm",
    "large_bias_norm",
    "transformer_block",
    "embedding_classifier",
    "lstm",
    "gru",
    "deep_plain",
)
"""Twenty pairs of twenty kinds of network, written by hand in both frameworks."""
RULES = ("typical", "small", "large", "pixels")
FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_UNIT = 2.0**-23
_FLOOR = EPSILONS * 2.0**-23
_FAULT = 5e-5


@dataclass(frozen=True)
class Measurement:
    """The errors of one output over the draws of one kind and one seed, in one norm."""

    pair: str
    source: str
    seed: int
    rule: str
    norm: str
    e_s: float
    e_t: float
    e_noise: float

    @property
    def explained(self) -> float:
        """What rounding explains."""
        return max(self.e_s, self.e_noise)


class _Version:
    """One version of a pair in its worker."""

    def __init__(self, side: Side, framework: str, loading: int) -> None:
        self.side = side
        self.framework = framework
        self.description: Description = side.description(loading)

    def runs(self, plans: Sequence[InputPlan], name: str) -> bool:
        try:
            self.run(drawing.draw(plans, seed=0, index=0, rule="typical", batch=2), name)
        except TaskFailure:
            return False
        return True

    def run(self, draw: Draw, name: str) -> list[drawing.Array]:
        number = self.side.submit_run(self._write(draw), name)
        return self.side.outputs(number, name).outputs

    def run_fp64(self, draw: Draw, name: str) -> list[drawing.Array]:
        number = self.side.submit_run(self._write(draw), name, fp64=True)
        return self.side.outputs(number, name, fp64=True).outputs

    def run_noisy(self, draw: Draw, name: str) -> list[drawing.Array]:
        number = self.side.submit_noisy(self._write(draw), name, unit=_UNIT, seed=1)
        return self.side.noisy(number, name).outputs

    def _write(self, draw: Draw) -> Path:
        file = self.side.scratch / f"{draw.name}.in.safetensors"
        write_tensors(str(file), draw.arrays)
        return file


def measure_pair(pair: Pair, directory: Path, seeds: int) -> Iterator[Measurement]:
    """Run both versions, in float32, in float64 and with noise, and hold each against the other."""
    with ExitStack() as stack:
        loading = []
        for path in (pairs.torch_path(directory, pair.name), pairs.tf_path(directory, pair.name)):
            party = resolve(path, as_target=False)
            side = stack.enter_context(Side(label=f"{path.name} worker", threads=1, timeout=1200))
            loading.append((side, side.submit_load(party.loader, dict(party.request))))
        torch, tf = (
            _Version(side, framework, number)
            for framework, (side, number) in zip(("torch", "tf"), loading, strict=True)
        )
        correspondence = correspond_inputs(torch.description.inputs, tf.description.inputs)
        specs, _ = common_sizes(torch.description.inputs, tf.description, correspondence)
        plans, _ = vocabularies(drawing.plan(specs), tf.runs)
        for seed in range(seeds):
            draws = [each for each in drawing.draws(plans, seed=seed) if each.rule in RULES]
            outputs = {
                version.framework: [
                    {
                        kind: function(draw, f"{seed}-{draw.name}-{kind}")
                        for kind, function in _runs(version).items()
                    }
                    for draw in draws
                ]
                for version in (torch, tf)
            }
            for source, target in (("torch", "tf"), ("tf", "torch")):
                yield from _errors(pair.name, source, seed, draws, outputs[source], outputs[target])


def _runs(version: _Version) -> Mapping[str, Callable[[Draw, str], list[drawing.Array]]]:
    return {"run": version.run, "fp64": version.run_fp64, "noisy": version.run_noisy}


def _errors(
    pair: str,
    source: str,
    seed: int,
    draws: Sequence[Draw],
    ours: Sequence[Mapping[str, list[drawing.Array]]],
    theirs: Sequence[Mapping[str, list[drawing.Array]]],
) -> Iterator[Measurement]:
    for output, first in enumerate(ours[0]["run"]):
        if first.dtype.kind != "f":
            continue
        for rule in dict.fromkeys(draw.rule for draw in draws):
            sizes: dict[str, list[Size]] = {"reference": [], "source": [], "target": [], "noise": []}
            for draw, our, their in zip(draws, ours, theirs, strict=True):
                if draw.rule != rule:
                    continue
                runs, reference = our["run"][output], our["fp64"][output]
                found = distance(runs, their["run"][output], reference)
                noise = distance(runs, our["noisy"][output], reference)
                assert found is not None
                assert noise is not None
                sizes["reference"].append(found.reference)
                sizes["source"].append(found.source)
                sizes["target"].append(found.target)
                sizes["noise"].append(noise.target)
            totals = {name: Size.total(parts) for name, parts in sizes.items()}
            for norm in ("norm", "largest"):
                scale, e_s, e_t, e_noise = (float(getattr(each, norm)) for each in totals.values())
                if scale:
                    errors = (e_s / scale, e_t / scale, e_noise / scale)
                    yield Measurement(pair, source, seed, rule, "l2" if norm == "norm" else "max", *errors)


def document(measurements: Sequence[Measurement]) -> str:
    """docs/calibration.md."""
    stable = [each for each in measurements if each.e_s <= UNSTABLE]
    sections = (
        _introduction(stable, len(measurements) - len(stable)),
        _distribution(stable),
        _factors(stable),
        _models(stable),
        _how(),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(stable: Sequence[Measurement], unstable: int) -> str:
    models, seeds = (len({getattr(each, field) for each in stable}) for field in ("pair", "seed"))
    return f"""# Calibration of the verdict

The verdict lets a target be {SOURCE_FACTOR:g} times as far from the float64 reference as rounding explains,
plus {EPSILONS:g} eps ([verdict.md](verdict.md)). This is what right versions of a model need of that.

Measured: {models} models, written by hand in PyTorch and in TensorFlow with equal weights, each version
as the source of the other, {seeds} seeds, inputs of the kinds {", ".join(RULES)}. That makes
{len(stable)} comparisons of an output, Euclidean and of the largest element; {unstable} more are left out,
their sources being unstable (e_s above {UNSTABLE:g}). e_s is the source's error, e_t the target's, e_noise
that of the source in float64 with noise of 2^-23 on the results of its operations, all relative to the
float64 reference."""


def _distribution(stable: Sequence[Measurement]) -> str:
    ratios = {
        "e_t / e_s": [_ratio(each.e_t, each.e_s) for each in stable],
        "e_t / e_noise": [_ratio(each.e_t, each.e_noise) for each in stable],
        "e_t / max(e_s, e_noise)": [_ratio(each.e_t, each.explained) for each in stable],
    }
    shares = (0.5, 0.9, 0.99, 0.999, 1.0)
    rows = [
        [name, *(f"{np.quantile(np.array(values), share):.2f}" for share in shares)]
        for name, values in ratios.items()
    ]
    return _section("Distribution", _table(("ratio", "median", "90%", "99%", "99.9%", "largest"), rows))


def _factors(stable: Sequence[Measurement]) -> str:
    worst = max(stable, key=lambda each: _ratio(each.e_t, each.explained))
    needed = max((each.e_t - _FLOOR) / each.explained for each in stable)
    fine = f"tolerances below {_FAULT:g}"
    header = ("factor", "of e_s", "of max(e_s, e_noise)", "of e_s, + 64 eps", "of both, + 64 eps", fine)
    rows = []
    for factor in FACTORS:
        counts = (
            sum(each.e_t > factor * each.e_s for each in stable),
            sum(each.e_t > factor * each.explained for each in stable),
            sum(each.e_t > factor * each.e_s + _FLOOR for each in stable),
            sum(each.e_t > factor * each.explained + _FLOOR for each in stable),
        )
        below = sum(factor * each.explained + _FLOOR < _FAULT for each in stable) / len(stable)
        rows.append([f"{factor:g}", *map(str, counts), f"{below:.1%}"])
    return _section(
        "Factors",
        "How many comparisons of right versions each factor would fail, and how many of the tolerances of\n"
        f"the last column but one stay below {_FAULT:g}, the size of a fault that has to be found.",
        _table(header, rows),
        f"The largest e_t / max(e_s, e_noise) is {_ratio(worst.e_t, worst.explained):.2f}:\n"
        f"{worst.pair}, the source in {worst.source}, {worst.rule} inputs, {worst.norm} norm,\n"
        f"e_s {worst.e_s:.1e}, e_noise {worst.e_noise:.1e}, e_t {worst.e_t:.1e}.\n"
        f"With the 64 eps a factor of {max(needed, 0.0):.2f} would have been enough.",
    )


def _models(stable: Sequence[Measurement]) -> str:
    header = ("model", "source", "e_s", "e_noise", "e_t", "e_t / e_s", "e_t / max(e_s, e_noise)")
    rows = []
    for name, source in dict.fromkeys((each.pair, each.source) for each in stable):
        own = [each for each in stable if (each.pair, each.source) == (name, source)]
        errors = (f"{max(getattr(each, field) for each in own):.1e}" for field in ("e_s", "e_noise", "e_t"))
        ratio = max(_ratio(each.e_t, each.e_s) for each in own)
        explained = max(_ratio(each.e_t, each.explained) for each in own)
        rows.append([name, source, *errors, f"{ratio:.2f}", f"{explained:.2f}"])
    text = "The largest values over seeds, kinds of inputs and norms."
    return _section("By model", text, _table(header, rows))


def _how() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "tensorflow", "keras", "numpy"))
    return _section(
        "How to repeat this",
        "    python -m scripts.proof.calibrate",
        f"""These figures were made with {packages},
Python {platform.python_version()} and one thread a side on {_processor()}.""",
    )


def _section(title: str, *parts: str) -> str:
    return "\n\n".join((f"## {title}", *parts))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(error: float, unit: float) -> float:
    return error / unit if unit else (math.inf if error else 0.0)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", nargs="+", metavar="NAME", default=list(CALIBRATED), choices=list(PAIRS))
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 (default: 5)")
    parser.add_argument("--work", type=Path, default=WORK, help="where the models are kept")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document to write")
    options = parser.parse_args()
    pairs.build(options.work, options.pairs)
    measurements: list[Measurement] = []
    for name in options.pairs:
        found = list(measure_pair(PAIRS[name], options.work, options.seeds))
        largest = max(_ratio(each.e_t, each.explained) for each in found)
        print(
            f"{name:24} {len(found):5} comparisons, largest e_t / max(e_s, e_noise) {largest:.2f}", flush=True
        )
        measurements += found
    rows: list[dict[str, Any]] = [asdict(each) for each in measurements]
    (options.work / "calibration.json").write_text(json.dumps(rows))
    options.output.write_text(document(measurements), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
