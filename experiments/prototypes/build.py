"""Build the embedded dataset `prototypes`: AFLOW prototypes with similar elements put in.

    python -m experiments.prototypes.build [--out FILE] [--only NAME ...]

Every prototype that pymatgen ships with at most 20 atoms in its primitive cell gives up to a
few dozen crystals, as a rule itself among them:

1. *Cell.* Primitive, then Niggli-reduced, then rebuilt from its lengths and angles.
2. *Elements.* Each element is replaced by similar ones (`substitution.py`). A formula of ions
   stays neutral. The sum of the logarithms of the similarities, with a penalty on a change of
   the radius ratios, ranks the candidates; each formula is kept once for a prototype.
3. *Volume.* From data-mined bond lengths and ionic radii; see `predict_volume`.
4. *Distances.* A crystal with two atoms closer than 0.7 of the sum of their covalent radii,
   periodic images included, is rejected; so is one with an atom that has no neighbour within
   1.5 of that sum, and one that is mostly empty.

Prototypes that differ by a distortion only (pymatgen's StructureMatcher holds them equal when
the elements are ignored) share their formulas out, but each keeps its own elements. Nothing is
drawn at random; scores and coordinates are rounded before they are compared or written, so two
builds give equal bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Structure

from experiments.prototypes.library import MAX_ATOMS, Ion, Prototype, alike, prototypes
from experiments.prototypes.substitution import candidates
from experiments.prototypes.volume import dls_volume, predict_volume
from miad_jax.crystal import Crystal
from miad_jax.data.packed import Records, pad, save_packed

OUT = Path(__file__).parents[2] / "miad_jax" / "data" / "prototypes.npz"
MAX_CRYSTALS = {1: 12, 2: 26, 3: 36, 4: 44}
"""Most crystals of one prototype, by its number of elements."""
MIN_DISTANCE, MAX_DISTANCE = 0.7, 1.5
"""Bounds on an atom's nearest distance, in sums of covalent radii."""
MAX_VOLUME = 10.0
"""Bound on the volume, in volumes of spheres of the covalent radii (metals have 1 to 2)."""
MIN_OWN_VOLUME = math.exp(-0.85)
"""A prototype whose cell is smaller than this share of its DLS volume has atoms that overlap."""


def substitute(prototype: Prototype, ions: Sequence[Ion]) -> Structure | None:
    """The prototype with other elements at their predicted volume, or None if unphysical."""
    volume = predict_volume(prototype, ions)
    if volume is None:
        return None
    scale = (volume / prototype.structure.volume) ** (1 / 3)
    first, second, distance = prototype.pairs
    radius = np.array([covalent_radii[e.Z] for e, _ in ions])[prototype.sites]
    relative = scale * distance / (radius[first] + radius[second])
    nearest = np.full(len(radius), np.inf)
    np.minimum.at(nearest, first, relative)
    if nearest.min() < MIN_DISTANCE + 1e-3 or nearest.max() > MAX_DISTANCE:
        return None
    if volume > MAX_VOLUME * (4 / 3 * np.pi * radius**3).sum() and ions != prototype.ions:
        return None
    lattice = np.round(prototype.structure.lattice.matrix * scale, 4) + 0.0
    coords = np.round(prototype.structure.frac_coords, 5) % 1.0
    return Structure(lattice, [ions[i][0] for i in prototype.sites], coords)


def crystals_of(prototype: Prototype) -> Iterable[tuple[str, Structure]]:
    """Formula and structure of the crystals of one prototype, the likeliest first."""
    family = [
        other
        for other in prototypes()
        if other is prototype or alike(*sorted((prototype, other), key=lambda p: p.name))
    ]
    own_volume = dls_volume(prototype, prototype.ions) or 0.0
    if prototype.structure.volume < MIN_OWN_VOLUME * own_volume:
        return
    made = 0
    for formula, (_, ions) in candidates(prototype).items():
        scores = {p: candidates(p)[formula][0] for p in family if formula in candidates(p)}
        best = [p for p in family if scores.get(p) == max(scores.values())]
        owner = best[_hash(formula) % len(best)]
        if owner is not prototype and ions != prototype.ions:
            continue
        structure = substitute(prototype, ions)
        if structure is not None:
            yield formula, structure
            made += 1
        if made == MAX_CRYSTALS[len(ions)]:
            return


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(crystal_id: str) -> int:
    """0 (train, 90 %), 1 (validation, 5 %) or 2 (test, 5 %), by a hash of the id."""
    percent = _hash(crystal_id) % 100
    return int(percent >= 90) + int(percent >= 95)


def build(names: Iterable[str] | None = None) -> tuple[Crystal, Records]:
    """Build the dataset, or the part of it that some prototypes give.

    Args:
        names: Prototypes by name, as `prototypes()` has them; all when None.

    Returns:
        The crystals and their records, with the columns `prototype`, `mineral`,
        `strukturbericht` and `split`.

    Raises:
        ValueError: If there is no prototype of such a name.
    """
    known = {p.name: p for p in prototypes()}
    wanted = set(known if names is None else names)
    if wanted - set(known):
        raise ValueError(
            f"no prototype of at most {MAX_ATOMS} atoms is called {sorted(wanted - set(known))}; "
            f"the names are AFLOW labels such as AB_cF8_225_a_b"
        )
    rows = [
        (f"{name}:{formula}", prototype, structure)
        for name, prototype in known.items()
        if name in wanted
        for formula, structure in crystals_of(prototype)
    ]
    ids = [row[0] for row in rows]
    columns = {
        "prototype": np.array([row[1].label for row in rows]),
        "mineral": np.array([row[1].mineral for row in rows]),
        "strukturbericht": np.array([row[1].strukturbericht for row in rows]),
        "split": np.array([split_of(x) for x in ids], np.float64),
    }
    structures = [row[2] for row in rows]
    crystal = pad(
        np.array([s.lattice.matrix for s in structures]),
        np.concatenate([s.frac_coords for s in structures]),
        np.concatenate([s.atomic_numbers for s in structures]),
        np.array([len(s) for s in structures]),
    )
    return crystal, Records(ids=ids, columns=columns)


def main() -> None:
    """Build the file and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the packed file to write")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="build these prototypes only")
    args = parser.parse_args()
    if args.only and args.out == OUT:
        parser.error("--only builds a part: name another file with --out")
    crystal, records = build(args.only)
    save_packed(args.out, crystal, records)
    atom_types = crystal.atom_types[crystal.mask]
    sizes, counts = np.unique(crystal.num_atoms, return_counts=True)
    print(
        f"{args.out}: {len(crystal)} crystals of {len({x.split(':')[0] for x in records.ids})} "
        f"prototypes, {len(np.unique(atom_types))} elements, "
        f"{args.out.stat().st_size / 1e6:.2f} MB\n"
        f"atoms: {dict(zip(sizes.tolist(), counts.tolist(), strict=True))}\n"
        f"train, val, test: {np.bincount(records.columns['split'].astype(int)).tolist()}"
    )


if __name__ == "__main__":
    main()
