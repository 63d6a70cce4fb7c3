"""Does the nearest crystal by average minimum distance tell what StructureMatcher tells?

    python -m experiments.evaluation.nearest --reference=DIR [--samples=CSV] [--num=500]

Three kinds of samples: crystals of the test split; crystals of the training split with every atom
displaced by 0.1 Å (root mean square) and every edge strained by up to 2 %; and, if given, the
crystals of a CSV that some generator made. Each is held against the training split by
StructureMatcher, and by the distance to the nearest crystal of its formula. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from pymatgen.core import Structure

from experiments.evaluation.relaxation import jittered
from miad_jax import to_structures
from miad_jax.evaluation.novelty import novelty_columns
from miad_jax.evaluation.novelty.nearest import nearest_columns, reference_amds
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.samples import load_samples

CUTOFFS_ANGSTROM = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--samples")
    parser.add_argument("--num", type=int, default=500)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    reference = load_reference(options.reference, progress=True)
    started = time.perf_counter()
    amds = reference_amds(reference, progress=True)
    seconds = time.perf_counter() - started
    print(f"{len(amds)} reference AMDs in {seconds:.1f} s (or read from the cache)\n")
    print("| samples | by StructureMatcher | seconds | by AMD | seconds |")
    print("|---|---|---|---|---|")
    found = {
        name: compare(name, structures, reference)
        for name, structures in samples_of(reference, options.samples, options.num).items()
    }
    print("\n| samples | cut-off, Å | agree | known by AMD only | by StructureMatcher only |")
    print("|---|---|---|---|---|")
    for name, (known, apart) in found.items():
        for cutoff in CUTOFFS_ANGSTROM:
            near = apart <= cutoff
            print(
                f"| {name} | {cutoff:g} | {100 * (near == known).mean():.1f} % of {len(known)} | "
                f"{(near & ~known).sum()} | {(known & ~near).sum()} |"
            )


def samples_of(reference: Reference, path: str | None, num: int) -> dict[str, list[Structure]]:
    """The kinds of samples."""
    assert reference.test is not None
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(reference.test))[:num]
    moved = rng.permutation(len(reference.train))[:num]
    found = {
        "test split": to_structures(reference.test[chosen]),
        "training split, moved": [
            jittered(x, rng).apply_strain(rng.uniform(-0.02, 0.02, 3), inplace=False)
            for x in to_structures(reference.train[moved])
        ],
    }
    if path is not None:
        found["generated"] = [x for x in load_samples(path).structures if x is not None]
    return found


def compare(
    name: str, structures: list[Structure], reference: Reference
) -> tuple[np.ndarray, np.ndarray]:
    """Whether StructureMatcher knows each, and how near the nearest of its formula is, in Å."""
    started = time.perf_counter()
    columns, _ = novelty_columns(structures, [str(i) for i in range(len(structures))], reference)
    middle = time.perf_counter()
    near = nearest_columns(structures, reference)
    ended = time.perf_counter()
    known = np.array([x["known_as"] is not None for x in columns])
    apart = np.array(
        [
            np.inf if x["amd_same_formula_angstrom"] is None else x["amd_same_formula_angstrom"]
            for x in near
        ]
    )
    same = np.sum(
        [a["known_as"] == b["nearest_by_amd"] for a, b in zip(columns, near, strict=True)]
    )
    print(
        f"| {name}, {len(structures)} | {known.sum()} known | {middle - started:.1f} | the nearest "
        f"is that crystal for {same} | {ended - middle:.1f} |"
    )
    return known, apart


if __name__ == "__main__":
    main()
