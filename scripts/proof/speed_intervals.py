"""How often the interval of a ratio holds the true one, and what follows for decisions, on synthetic series.

python -m scripts.proof.speed_intervals           # prints the table of docs/speed.md

A pair of processes is equally lucky or unlucky all the time; blocks are disturbed in six ways.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bridge.verification.speed.result import Estimate
from bridge.verification.speed.statistics import Round, ratio

LIMIT = 1.1
Array = np.ndarray[Any, np.dtype[Any]]
Noise = Callable[[np.random.Generator, int], Array]
"""The logarithms of how much longer so many successive blocks take than they should."""


def quiet(rng: np.random.Generator, count: int) -> Array:
    return rng.normal(0.0, 0.02, count)


def broad(rng: np.random.Generator, count: int) -> Array:
    return rng.normal(0.0, 0.1, count)


def spikes(rng: np.random.Generator, count: int) -> Array:
    """Every seventh block is disturbed, up to several times its length."""
    return rng.normal(0.0, 0.05, count) + (rng.random(count) < 1 / 7) * rng.exponential(1.0, count)


def two_speeds(rng: np.random.Generator, count: int) -> Array:
    """A neighbour that is busy half of the time."""
    return rng.normal(0.0, 0.05, count) + (rng.random(count) < 0.5) * 0.4


def drifting(rng: np.random.Generator, count: int) -> Array:
    """The processor gets slower all the time."""
    return rng.normal(0.0, 0.05, count) + 0.01 * np.arange(count)


def wandering(rng: np.random.Generator, count: int) -> Array:
    """Successive blocks are disturbed alike."""
    levels = np.zeros(count)
    for index in range(1, count):
        levels[index] = 0.9 * levels[index - 1] + rng.normal(0.0, 0.08)
    return levels + rng.normal(0.0, 0.03, count)


NOISES: Mapping[str, Noise] = {
    "quiet": quiet,
    "broad": broad,
    "spikes": spikes,
    "two speeds": two_speeds,
    "drifting": drifting,
    "wandering": wandering,
}


def processes(
    rng: np.random.Generator, noise: Noise, *, true: float, luck: float, pairs: int = 3, rounds: int = 20
) -> list[list[Round]]:
    """What some pairs of processes measure, half of the rounds in each order of blocks."""
    found = []
    for _ in range(pairs):
        target = math.log(true) + rng.normal(0.0, luck)
        blocks = noise(rng, 4 * rounds)
        made = []
        for index in range(rounds):
            first, second, third, fourth = (float(each) for each in blocks[4 * index : 4 * index + 4])
            if index % 2:
                made.append(Round((first, fourth), (target + second, target + third)))
            else:
                made.append(Round((second, third), (target + first, target + fourth)))
        found.append(made)
    return found


def intervals(
    noise: Noise, *, true: float, luck: float, count: int, seed: int = 7, **shape: int
) -> list[Estimate]:
    """The estimates of so many measurements."""
    rng = np.random.default_rng(seed)
    return [ratio(processes(rng, noise, true=true, luck=luck, **shape))[0] for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400)
    count = parser.parse_args().count
    print("| blocks | processes apart by | holds the true ratio | itself called slower | 1.3 called slower |")
    print("|---|---|---|---|---|")
    for name, noise in NOISES.items():
        for luck in (0.0, 0.02, 0.04):
            equal = intervals(noise, true=1.0, luck=luck, count=count)
            slower = intervals(noise, true=1.3, luck=luck, count=count)
            held = np.mean([each.low <= 1.0 <= each.high for each in equal])
            alarms = np.mean([each.low > LIMIT for each in equal])
            found = np.mean([each.low > LIMIT for each in slower])
            print(f"| {name} | {luck:.0%} | {held:.1%} | {alarms:.1%} | {found:.1%} |")


if __name__ == "__main__":
    main()
