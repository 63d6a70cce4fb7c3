"""Whether a composition could be a compound: SMACT's charge and electronegativity rules.

The definition is that of the CDVAE metrics (Xie et al., arXiv:2110.06197) with the oxidation
states of SMACT's 2014 set, on which the published numbers stand: later sets give other shares.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

MAX_COMBINATIONS = 10**7
"""Compositions with more combinations of oxidation states count as invalid."""


def valid_composition(atom_types: Int[np.ndarray, " n"]) -> bool:
    """Whether the atoms of a crystal form a composition that is valid by SMACT.

    A single element is valid, and so is an alloy: only metals. Any other composition is valid
    if each element can take one oxidation state such that the charges add up to zero and every
    cation has a smaller Pauling electronegativity than every anion (Davies et al. 2016, as
    used in arXiv:2110.06197). Atoms are counted in the reduced formula.

    Invalid are compositions with an element that SMACT does not know, that has no oxidation
    state or no electronegativity (He, Ne, Ar) beside others, and those with more than
    `MAX_COMBINATIONS` combinations of oxidation states.

    Args:
        atom_types: Atomic numbers of all atoms of the crystal, in any order.

    Raises:
        ValueError: If a number is below 1, which is a mirage atom or padding, or smact is not
            installed.
    """
    numbers, counts = np.unique(np.asarray(atom_types), return_counts=True)
    if not numbers.size:
        return False
    if numbers[0] < 1:
        raise ValueError(
            f"atom_types holds {int(numbers[0])}; allowed are atomic numbers from 1: drop mirage "
            "atoms and padding first"
        )
    counts //= np.gcd.reduce(counts)
    return _valid(tuple(numbers.tolist()), tuple(counts.tolist()))


@functools.lru_cache(maxsize=100_000)
def _valid(numbers: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """The same for a reduced composition."""
    elements = [_element(number) for number in numbers]
    known = [x for x in elements if x is not None]
    if len(known) < len(elements):
        return False
    if len(known) == 1 or all(x.is_metal for x in known):
        return True
    if math.prod(len(x.oxidation_states) for x in known) > MAX_COMBINATIONS:
        return False
    electronegativities = [x.electronegativity for x in known if x.electronegativity is not None]
    if len(electronegativities) < len(known):
        return False
    states = [x.oxidation_states for x in known]
    return balances(states, electronegativities, counts)


def balances(
    oxidation_states: Sequence[Sequence[int]],
    electronegativities: Sequence[float],
    counts: Sequence[int],
) -> bool:
    """Whether some choice of oxidation states is neutral and passes Pauling's test.

    The test asks max χ(cations) < min χ(anions), so for a choice that passes there is a border,
    the smallest χ of its anions, below which no state is negative and from which on none is
    positive; and any choice with such a border passes. (A neutral choice without anions has
    only zeros, which pass at every border.) For each border the charges that can be reached are
    collected element by element: their number grows with the sum of the numbers of states,
    that of the combinations with the product.

    Args:
        oxidation_states: The states of each element.
        electronegativities: Pauling's χ of each element.
        counts: Atoms of each element in the formula.
    """
    elements = list(zip(oxidation_states, electronegativities, counts, strict=True))
    for border in set(electronegativities):
        charges = {0}
        for states, chi, count in elements:
            allowed = [s for s in states if (s >= 0 if chi < border else s <= 0)]
            charges = {charge + count * s for charge in charges for s in allowed}
        if 0 in charges:
            return True
    return False


class _Element:
    """What SMACT knows of an element."""

    def __init__(self, symbol: str) -> None:
        import smact

        element = smact.Element(symbol)
        self.is_metal: bool = symbol in smact.metals
        self.oxidation_states: tuple[int, ...] = tuple(element.oxidation_states_smact14 or ())
        self.electronegativity: float | None = element.pauling_eneg


@functools.cache
def _element(number: int) -> _Element | None:
    """An element by its atomic number; None where SMACT does not know it."""
    from ase.data import chemical_symbols

    try:
        import smact  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            "the validity of compositions needs smact, which is not installed: pip install "
            '"miad_jax[eval]"'
        ) from error
    if number >= len(chemical_symbols):
        return None
    try:
        return _Element(chemical_symbols[number])
    except KeyError:  # what smact raises for elements that it does not know
        return None
