"""`python -m bench.autoscale.recording`: records the six traces anew, each from the seed alone."""

from __future__ import annotations

import argparse
import math
from random import Random
from typing import TYPE_CHECKING

from bench.autoscale.traces import save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEED = 5


def step(random: Random) -> list[int]:
    """Twenty times the load from one second to the next, and back: 10/s, 200/s, 10/s."""
    rates = [10.0] * 300 + [200.0] * 600 + [10.0] * 300
    return [_poisson(random, rate) for rate in rates]


def ramp(random: Random) -> list[int]:
    """From nothing to 240/s in ten minutes, five minutes there, and down in ten."""
    up = [240 * second / 600 for second in range(600)]
    return [_poisson(random, rate) for rate in [*up, *[240.0] * 300, *reversed(up)]]


def day(random: Random) -> list[int]:
    """A day in an hour: little at night, a peak before noon, a dip at lunch, a longer one in the afternoon."""

    def rate(second: int) -> float:
        hour = 24 * second / 3600
        peaks = ((10.5, 1.8, 130), (15.5, 2.6, 160), (20.5, 1.2, 50))
        return 3 + sum(height * math.exp(-(((hour - at) / width) ** 2)) for at, width, height in peaks)

    return [_poisson(random, rate(second)) for second in range(3600)]


def bursts(random: Random) -> list[int]:
    """Nothing, but every two to five minutes 200 to 4,000 events within one to three seconds."""
    arrivals = [0] * 2400
    at = 60
    while at < len(arrivals) - 60:
        seconds = random.randint(1, 3)
        size = round(200 * math.exp(random.uniform(0, math.log(20))))
        for second in range(seconds):
            arrivals[at + second] = size // seconds
        at += random.randint(120, 300)
    return arrivals


def noise(random: Random) -> list[int]:
    """About 100/s that wander: a mean-reverting walk of the logarithm, and now and then a spike of a few seconds."""
    arrivals, level, spike = [], 0.0, 0
    for _ in range(1800):
        level = 0.97 * level + random.gauss(0, 0.09)
        if spike:
            spike -= 1
        elif random.random() < 1 / 200:
            spike = random.randint(2, 6)
        arrivals.append(_poisson(random, 100 * math.exp(level) * (3 if spike else 1)))
    return arrivals


def slow(random: Random) -> list[int]:
    """A few long jobs: up to 1.5/s in waves of ten minutes, nothing between them."""
    rates = [1.5 * max(0.0, math.sin(2 * math.pi * second / 1200)) for second in range(3600)]
    return [_poisson(random, rate) for rate in rates]


SHAPES: dict[str, Callable[[Random], list[int]]] = {
    "step": step,
    "ramp": ramp,
    "day": day,
    "bursts": bursts,
    "noise": noise,
    "slow": slow,
}


def record(name: str, seed: int = SEED) -> list[int]:
    """Arrivals of each second of one trace."""
    return SHAPES[name](Random(f"{seed}/{name}"))


def _poisson(random: Random, mean: float) -> int:
    """A Poisson-distributed count; above 30 the normal distribution that comes close to it."""
    if mean > 30:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    count, left = -1, 1.0
    bound = math.exp(-mean)
    while left > bound or count < 0:
        left *= random.random()
        count += 1
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes all traces."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale.recording", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="what the traces are made from (%(default)s)")
    seed = parser.parse_args(arguments).seed
    for name in SHAPES:
        arrivals = record(name, seed)
        save(name, arrivals)
        print(f"{name}: {len(arrivals)} s, {sum(arrivals)} events, at most {max(arrivals)}/s")


if __name__ == "__main__":
    main()
