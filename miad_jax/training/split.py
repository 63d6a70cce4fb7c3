"""A validation part for a data set that has none."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from miad_jax.crystal import Crystal


def validation_part(crystals: Crystal, fraction: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which crystals of a set are for validation.

    Crystals of one reduced formula stay together, since a crystal whose twin was trained on would
    flatter the loss. Whole formulas are taken in a random order, as far as they fit into the part.
    If none does, as where all crystals are one element, single crystals are taken.

    Args:
        crystals: Packed crystals [n], without mirage atoms.
        fraction: Share of them for validation; at least one crystal is, and one is not.
        seed: Fixes the choice.

    Raises:
        ValueError: If there are fewer than two crystals.
    """
    num = len(crystals)
    if num < 2:
        raise ValueError(
            f"{num} crystal cannot be divided into a training and a validation part: give two or "
            "more"
        )
    target = min(max(round(fraction * num), 1), num - 1)
    formula = _formulas(crystals)
    rng = np.random.default_rng(seed)
    sizes = np.bincount(formula)
    chosen: list[int] = []
    room = target
    for group in rng.permutation(len(sizes)):
        if sizes[group] <= room:
            chosen.append(int(group))
            room -= sizes[group]
    if chosen:
        return np.isin(formula, chosen)
    return np.isin(np.arange(num), rng.permutation(num)[:target])


def _formulas(crystals: Crystal) -> np.ndarray:
    """A number [n] for the reduced formula of each crystal."""
    found: dict[bytes, int] = {}
    numbers = []
    for types, mask in zip(np.asarray(crystals.atom_types), np.asarray(crystals.mask), strict=True):
        elements, counts = np.unique(types[mask], return_counts=True)
        key = np.stack([elements, counts // np.gcd.reduce(counts)]).tobytes()
        numbers.append(found.setdefault(key, len(found)))
    return np.array(numbers)
