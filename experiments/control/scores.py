"""Does a score tell crystals that exist from the same crystals spoilt?

    python -m experiments.control.scores --reference=DIR [--weights=mp20-transformer] [--num=64]

Test crystals and spoilt copies of them are scored on the same noise. "pairs" is how often a crystal
scores better than its own copy, "all" how often than the copy of any crystal (1/2 tells nothing).
"""

from __future__ import annotations

import argparse

import numpy as np
from pymatgen.core import Structure

import miad_jax
from experiments.control.questions import crystals_to_predict
from experiments.control.tables import markdown


def main() -> None:
    """Score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True, help="the data set, with test.csv")
    parser.add_argument("--weights", default="mp20-transformer")
    parser.add_argument("--num", type=int, default=64, help="crystals")
    parser.add_argument("--num_draws", type=int, default=64)
    options = parser.parse_args()
    model = miad_jax.load_model(options.weights)
    slots = len(model.histogram) - 1
    known = [x for x in crystals_to_predict(options.reference, 10**6) if 2 <= len(x) <= slots]
    known = [x for x in known if len(x.symbol_set) > 1][: options.num]
    rng = np.random.default_rng(0)

    def losses(structures: list[Structure]) -> np.ndarray:
        scores = miad_jax.score(structures, model, num_draws=options.num_draws, progress=True)
        return np.array([x.loss for x in scores])

    own = losses(known)
    rows = []
    for name, spoil in SPOILT.items():
        other = losses([spoil(x.copy(), rng) for x in known])
        rows.append(
            {
                "spoilt by": name,
                "crystals": len(known),
                "pairs": float((own < other).mean()),
                "all": float((own[:, None] < other).mean()),
                "rise of the score": f"{(other - own).mean():.3f}",
            }
        )
    print(markdown(rows))


def moved(structure: Structure, rng: np.random.Generator, angstrom: float) -> Structure:
    """Every atom displaced by so much in a random direction."""
    steps = rng.normal(size=(len(structure), 3))
    steps *= angstrom / np.linalg.norm(steps, axis=1, keepdims=True)
    sites = structure.cart_coords + steps
    return Structure(structure.lattice, structure.species, sites, coords_are_cartesian=True)


def strained(structure: Structure, rng: np.random.Generator, share: float) -> Structure:
    """Edges longer or shorter by a share, at random."""
    return structure.apply_strain(rng.choice([-share, share], 3), inplace=False)


def swapped(structure: Structure, rng: np.random.Generator) -> Structure:
    """An atom of one element and one of another in each other's place."""
    while True:
        one, two = rng.choice(len(structure), 2, replace=False)
        species = list(structure.species)
        if species[one] != species[two]:
            species[one], species[two] = species[two], species[one]
            return Structure(structure.lattice, species, structure.frac_coords)


def replaced(structure: Structure, rng: np.random.Generator) -> Structure:
    """One atom of another element, drawn from all up to bismuth."""
    species = [x.Z for x in structure.species]
    place = rng.integers(len(species))
    species[place] = rng.choice([z for z in range(1, 84) if z != species[place]])
    return Structure(structure.lattice, species, structure.frac_coords)


SPOILT = {
    "atoms moved by 0.05 Å": lambda x, rng: moved(x, rng, 0.05),
    "atoms moved by 0.1 Å": lambda x, rng: moved(x, rng, 0.1),
    "atoms moved by 0.3 Å": lambda x, rng: moved(x, rng, 0.3),
    "edges strained by 5 %": lambda x, rng: strained(x, rng, 0.05),
    "two atoms swapped": swapped,
    "one atom of another element": replaced,
}
"""What is done to a crystal, by name."""


if __name__ == "__main__":
    main()
