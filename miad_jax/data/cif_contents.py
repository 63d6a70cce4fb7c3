"""Whether a crystal holds what its CIF says: the formula, and how often the cell holds it.

This module imports nothing of miad_jax: it lies beside `standard`, which worker processes run.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from enum import IntEnum

_TERM = re.compile(r"([A-Za-z]{1,2})(\d*\.?\d*)")
_DECIMALS = 0.01
"""How far from its number, relatively, an element's may be where a formula is in decimals."""


class Agreement(IntEnum):
    """How much of a crystal's contents its file confirms."""

    NOTHING = 0
    ELEMENTS = 1
    CELL = 2
    ATOMS = 3


def compare_contents(counts: Mapping[str, int], formula: str, units: str) -> Agreement:
    """Hold the atoms of a cell against a formula and the number Z of its units.

    The formula is that of one unit, as databases give it, or of the whole cell, as pymatgen
    does; Z then counts the units of which it is made.

    Args:
        counts: Atoms of each element in the cell.
        formula: `_chemical_formula_sum`, or an empty text.
        units: `_cell_formula_units_Z`, or an empty text.

    Returns:
        ATOMS if Z confirms their number, CELL if the formula may be that of the cell, ELEMENTS if
        their ratios are confirmed, NOTHING if there is no formula that is understood.

    Raises:
        ValueError: If they contradict each other.
    """
    said = _formula(formula)
    found = " ".join(f"{symbol}{n}" for symbol, n in counts.items())
    if not said:
        z = _number(units)
        if not formula and z == round(z) and math.gcd(*counts.values()) % max(z, 1):
            raise ValueError(
                f"says that its cell holds {z:g} formula units, but it holds {found}: atoms or "
                "symmetry operations are missing"
            )
        elements = _elements(formula)
        if elements and elements != counts.keys():
            raise ValueError(f"has the formula {formula!r}, but its cell holds {found}")
        return Agreement.NOTHING
    missing, extra = sorted(said.keys() - counts.keys()), sorted(counts.keys() - said.keys())
    if missing or extra:
        parts = [f"{', '.join(missing)} is not placed"] if missing else []
        parts += [f"{', '.join(extra)} is not in the formula"] if extra else []
        because = " and ".join(parts)
        raise ValueError(f"has the formula {formula!r}, but its cell holds {found}: {because}")
    whole = all(n == round(n) for n in said.values())
    per_formula = sum(counts.values()) / sum(said.values())
    for symbol, n in said.items():
        off = abs(counts[symbol] - per_formula * n)
        if off > (1e-6 if whole else _DECIMALS) * counts[symbol]:
            raise ValueError(
                f"has the formula {formula!r}, but its cell holds {found}, in other ratios"
            )
    z = _number(units)
    divisor = math.gcd(*(int(n) for n in said.values())) if whole else 1
    if not z > 0:
        if per_formula < 1 - _DECIMALS:
            raise ValueError(
                f"has the formula {formula!r}, but its cell holds only {found}: atoms or "
                "symmetry operations are missing"
            )
        return Agreement.CELL if per_formula == 1 and divisor > 1 else Agreement.ELEMENTS
    if math.isclose(per_formula, z, rel_tol=_DECIMALS):
        return Agreement.ATOMS
    if per_formula != 1 or divisor % z:
        raise ValueError(
            f"says that its cell holds {z:g} units of {formula!r}, but it holds {found}: atoms or "
            "symmetry operations are missing, or copies of an atom did not meet"
        )
    return Agreement.CELL


def _number(text: str) -> float:
    """A number without its uncertainty; 0 where there is none."""
    try:
        found = float(re.sub(r"\(\d*\)?$", "", text))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _elements(text: str) -> set[str]:
    """The elements of a formula in parts, such as "Na Cl, 2(H2 O)"; none if there is a word."""
    from pymatgen.core import Element

    found = re.findall(r"[A-Z][a-z]?", text)
    rest = re.sub(r"[A-Z][a-z]?|\d*\.?\d+[+-]?|\bn\b|[\s()\[\]{},.;:?*+~_-]", "", text)
    if rest or not all(map(Element.is_valid_symbol, found)):
        return set()
    return {"H" if x in ("D", "T") else x for x in found}


def _formula(text: str) -> dict[str, float]:
    """The numbers of a formula by element, deuterium as H; empty if it is not understood."""
    from pymatgen.core import Composition, Element

    terms = [_TERM.fullmatch(re.sub(r"\d*[+-]\d*$", "", x)) for x in text.split()]
    numbers: Counter[str] = Counter()
    if all(terms) and all(Element.is_valid_symbol(x[1].title()) for x in terms if x):
        for term in filter(None, terms):
            numbers[term[1].title()] += float(term[2] or 1)  # type: ignore[assignment]
    else:
        try:
            composition = Composition(text)
        except Exception:  # it raises whatever it meets
            return {}
        if not composition.valid:
            return {}
        numbers.update({str(x): n for x, n in composition.get_el_amt_dict().items()})
    for isotope in ("D", "T"):
        if isotope in numbers:
            numbers["H"] += numbers.pop(isotope)
    if not all(map(math.isfinite, numbers.values())):
        return {}
    return {symbol: n for symbol, n in numbers.items() if n > 0}
