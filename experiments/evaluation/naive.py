"""Uniqueness and novelty by comparing all pairs, timed beside the package's way.

    python -m experiments.evaluation.naive --reference=DIR [--num_samples=60] [--num_known=600]

Takes the first crystals of the test split as samples and the first of the training split as known
ones, checks that both ways give the same matches, and prints both times.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from miad_jax import load_dataset, to_structures
from miad_jax.evaluation.novelty.matching import Matches, match


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--num_samples", type=int, default=60)
    parser.add_argument("--num_known", type=int, default=600)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    samples = to_structures(load_dataset(options.reference, "test")[0][: options.num_samples])
    known = load_dataset(options.reference, "train")[0][: options.num_known]

    started = time.perf_counter()
    ours = match(samples, known)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    naive = all_pairs(samples, to_structures(known))
    naive_seconds = time.perf_counter() - started
    assert ours == naive
    pairs = len(samples) * (len(samples) - 1) // 2 + len(samples) * len(known)
    print(f"{len(samples)} samples, {len(known)} known crystals, {pairs} pairs; equal matches")
    print(f"all pairs {naive_seconds:.1f} s, {1e3 * naive_seconds / pairs:.2f} ms a pair")
    print(f"match     {seconds:.2f} s; {naive_seconds / seconds:.0f} times faster")


def all_pairs(samples: list[Structure], known: list[Structure]) -> Matches:
    """Every sample against every earlier sample and every known crystal."""
    matcher = StructureMatcher()

    def first(structure: Structure, others: list[Structure]) -> int | None:
        fits = np.flatnonzero([matcher.fit(structure, other) for other in others])
        return int(fits[0]) if len(fits) else None

    return Matches(
        [first(structure, samples[:i]) for i, structure in enumerate(samples)],
        [first(structure, known) for structure in samples],
        [True] * len(samples),
        [""] * len(samples),
        [False] * len(samples),
    )


if __name__ == "__main__":
    main()
