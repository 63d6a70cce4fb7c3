"""Time and memory by N_m, for a small CSPNet and the transformer, on one core.

    taskset -c 0 python -m experiments.large.cells [--rounds=3]

Prints a table by N_m: milliseconds of the core for one crystal in a training step, and in one
evaluation of the network while sampling; and what the step needs beside its arguments.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from experiments.speed.programs import SIZES, Case, Program, sampling, training
from miad_jax.network import Transformer

NETWORKS: dict[str, Any] = {
    "CSPNet small": SIZES["small"],
    "transformer": Transformer(hidden_dim=256, num_layers=7, num_heads=8, pair_dim=48),
}
NUM_ATOMS = (25, 40, 64, 100)
BATCH_SIZE = 4
EVALUATIONS_A_STEP = 2


def core_seconds(program: Program, rounds: int) -> float:
    """What a step takes of the core, whoever else uses it: the median after a first run."""
    found = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        program.run()
        found.append((time.process_time() - begun) / program.steps)
    return statistics.median(found[1:])


def main() -> None:
    """Time every network at every N_m."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print("| network | N_m | training, ms | sampling, ms | training, MB |\n|---|---|---|---|---|")
    for name, net in NETWORKS.items():
        for num_atoms in NUM_ATOMS:
            case = Case(net, num_atoms, BATCH_SIZE)
            step, reverse = training(case), sampling(case)
            train = 1e3 * core_seconds(step, rounds) / BATCH_SIZE
            sample = 1e3 * core_seconds(reverse, rounds) / BATCH_SIZE / EVALUATIONS_A_STEP
            memory = step.temp_bytes / 1e6
            print(
                f"| {name} | {num_atoms} | {train:.1f} | {sample:.1f} | {memory:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
