"""How honest the stop adviser is: how often its range holds the gain that another batch would truly bring, on made
learning curves whose law is known.

A curve is 1 - F1 = a h n^-b, with a, b and the hardness h of every validation patch drawn at random; objects are found
or missed one by one, and each training is a little better or worse than the law (`noise`, standard deviation of F1).
"""

from __future__ import annotations

import numpy as np

from alapp.domain import InstanceScores
from alapp.stages.stopping import gain_of_more
from benchmarks import cli

BATCH = 8
ROUNDS = (2, 3, 5)
PATCHES = (6, 15)
NOISE = (0.0, 0.02)


def scored(found: int, objects: int) -> InstanceScores:
    """`found` of `objects` are right, and as many are invented as are missed."""
    wrong = objects - found
    f1 = found / objects
    return InstanceScores(f1, f1, f1, f1, f1, objects, objects, found, wrong, wrong)


def trial(
    rounds: int, patches: int, noise: float, rng: np.random.Generator
) -> tuple[float, float, tuple[float, float]]:
    """(true gain, expected gain, range) of one made curve."""
    sizes = [BATCH * number for number in range(1, rounds + 1)]
    power, scale = rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.2)
    hardness = np.clip(rng.normal(1, 0.3, patches), 0.2, 2)
    objects = rng.integers(5, 40, patches)
    scores = []
    for n in sizes:
        right = np.clip(1 - scale * hardness * n**-power + rng.normal(0, noise), 0.01, 0.99)
        scores.append([scored(int(rng.binomial(k, p)), int(k)) for k, p in zip(objects, right, strict=True)])
    found = gain_of_more(sizes, scores, BATCH)
    mean = float(np.average(hardness, weights=objects))
    true = scale * mean * (sizes[-1] ** -power - (sizes[-1] + BATCH) ** -power)
    return true, found.expected, found.interval


def main() -> None:
    """Run from the command line."""
    options = cli.parser(__doc__).parse_args()
    trials = 40 if options.quick else 400
    figures: dict[str, float] = {}
    for rounds in ROUNDS:
        for patches in PATCHES:
            for noise in NOISE:
                rng = np.random.default_rng([rounds, patches, round(100 * noise)])
                made = [trial(rounds, patches, noise, rng) for _ in range(trials)]
                name = f"{rounds}rounds_{patches}patches_{'noise' if noise else 'exact'}"
                figures[f"held_{name}"] = np.mean([low <= true <= high for true, _, (low, high) in made])
                figures[f"error_{name}"] = np.mean([abs(expected - true) for true, expected, _ in made])
    settings = {"trials": trials, "batch": BATCH, "noise": NOISE[1]}
    cli.write(options.json, {key: float(value) for key, value in figures.items()}, settings | cli.machine("numpy"))


if __name__ == "__main__":
    main()
