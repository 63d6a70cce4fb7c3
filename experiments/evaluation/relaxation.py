"""Does relaxing real crystals give back what is known of them?

    python -m experiments.evaluation.relaxation prepare --reference=DIR --out=OUT
    python -m miad_jax.evaluate OUT/test.csv --reference=DIR --out=OUT/test --num_relaxed=40
    python -m miad_jax.evaluate OUT/jittered.csv --reference=DIR --out=OUT/jittered --nocoverage
    python -m experiments.evaluation.relaxation compare --reference=DIR --out=OUT

`prepare` writes 200 crystals of the test split, as they are and with every atom displaced by
0.1 Å (root mean square). `compare` holds the energies above the hull against the data's own, and
the relaxed crystals against the originals.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path

import ase.io
import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from miad_jax import load_dataset, to_structures

NUM_CRYSTALS, JITTER_ANGSTROM = 200, 0.1


def main() -> None:
    """Prepare or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prepare", "compare"])
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    crystals, records = load_dataset(options.reference, "test")
    chosen = np.random.default_rng(0).permutation(len(crystals))[:NUM_CRYSTALS]
    originals = dict(
        zip((records.ids[i] for i in chosen), to_structures(crystals[chosen]), strict=True)
    )
    if options.what == "prepare":
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "test.csv", originals)
        rng = np.random.default_rng(1)
        moved = {name: jittered(structure, rng) for name, structure in originals.items()}
        write(options.out / "jittered.csv", moved)
        return
    own = dict(zip(records.ids, records.columns["e_above_hull"], strict=True))
    compare_energies(options.out / "test", own)
    compare_structures(options.out / "jittered", originals)


def jittered(structure: Structure, rng: np.random.Generator) -> Structure:
    """The crystal with every atom displaced by a normal vector."""
    moves = rng.normal(size=(len(structure), 3)) * JITTER_ANGSTROM / np.sqrt(3)
    coords = structure.cart_coords + moves
    return Structure(structure.lattice, structure.species, coords, coords_are_cartesian=True)


def write(path: Path, structures: dict[str, Structure]) -> None:
    """A CSV of CIFs."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["material_id", "cif"])
        table.writerows([name, s.to(fmt="cif")] for name, s in structures.items())


def compare_energies(report: Path, own: dict[str, float]) -> None:
    """Print how far the energies above the hull are from the data's own."""
    with (report / "crystals.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["e_above_hull_ev_per_atom"]]
    found = [(float(r["e_above_hull_ev_per_atom"]) - own[r["id"]], r) for r in rows]
    differences = np.array([difference for difference, _ in found])
    print(
        f"{len(found)} energies above the hull less the data's own, in eV/atom: median absolute "
        f"{np.median(abs(differences)):.4f}, mean absolute {abs(differences).mean():.4f}, "
        f"median {np.median(differences):+.4f}"
    )
    for difference, row in sorted(found, key=lambda x: -abs(x[0]))[:3]:
        print(f"  {difference:+.3f} {row['id']} {row['reduced_formula']}")


def compare_structures(report: Path, originals: dict[str, Structure]) -> None:
    """Print how many relaxed crystals match the original they were displaced from."""
    frames = ase.io.read(report / "relaxed.extxyz", index=":")
    matcher = StructureMatcher()
    lost = [
        str(frame.info["id"])
        for frame in frames
        if not matcher.fit(AseAtomsAdaptor.get_structure(frame), originals[str(frame.info["id"])])
    ]
    num = len(frames)
    print(
        f"{num - len(lost)} of {num} displaced crystals relax back to their original; not: {lost}"
    )


if __name__ == "__main__":
    main()
