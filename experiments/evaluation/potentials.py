"""How long does a relaxation take with each potential?

    python -m experiments.evaluation.potentials --reference=DIR --potentials=chgnet,nequix

100 crystals of the test split with every atom displaced by 0.1 Å (root mean square) are relaxed by
one potential after the other, on all cores. Printed are the time of all, with loading, starting of
workers and compiling, the time until the first crystal was done, the processor time of all, which
other work on the machine does not change, what became of the crystals, and the machine's load.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

import numpy as np

import miad_jax
from experiments.evaluation.relaxation import jittered
from miad_jax.parallel.progress import Bar, Progress

NUM_CRYSTALS, MAX_NUM_ATOMS = 100, 20


class Clock(Progress, Bar):
    """Notes when the first crystal was done."""

    first = None

    def bar(self, *arguments, **settings) -> Bar:
        """The clock itself."""
        return self

    def advance(self, amount: float = 1) -> None:
        """Take down the time of the first."""
        self.first = self.first or time.monotonic()


def main() -> None:
    """Relax and print a line for each potential."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--potentials", default="chgnet,nequix")
    parser.add_argument("--weights", help="of nequix, for want of which they are fetched")
    parser.add_argument("--num", type=int, default=NUM_CRYSTALS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    miad_jax.cores_as_devices()
    crystals, _ = miad_jax.load_dataset(options.reference, "test")
    small = np.flatnonzero(crystals.num_atoms <= MAX_NUM_ATOMS)
    chosen = np.random.default_rng(0).permutation(small)[: options.num]
    rng = np.random.default_rng(1)
    structures = [jittered(x, rng) for x in miad_jax.to_structures(crystals[chosen])]
    print(f"{len(structures)} crystals of {np.mean([len(x) for x in structures]):.1f} atoms")
    print("| potential | all, s | first, s | processor, s | converged | steps, mean | load |")
    print("|---|---|---|---|---|---|---|")
    for name in options.potentials.split(","):
        clock, begin, processor = Clock(), time.monotonic(), sum(os.times()[:4])
        found = miad_jax.relax(
            structures,
            calculator=name,
            weights=options.weights if name == "nequix" else None,
            progress=clock,
        )
        end = time.monotonic()
        assert clock.first is not None
        steps = [x.steps for x in found if x.steps is not None]
        print(
            f"| {name} | {end - begin:.0f} | {clock.first - begin:.0f} "
            f"| {sum(os.times()[:4]) - processor:.0f} "
            f"| {sum(x.status == 'converged' for x in found)} | {np.mean(steps):.0f} "
            f"| {os.getloadavg()[1]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
