"""The paper's rates from the rows of judged samples, every definition beside its number.

All rates have every sample in the denominator unless their definition says otherwise: a
sample that failed, or whose energy is not known, counts as not stable, not unique, not novel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from miad_jax.data.symmetry import PYMATGEN_ANGLE_TOLERANCE_DEGREES
from miad_jax.evaluation.describe import SYMPREC_ANGSTROM
from miad_jax.evaluation.statistics import Quantity, Rate, bootstrap
from miad_jax.evaluation.validity.plausible import (
    DENSITIES_G_PER_CM3,
    MAX_NIGGLI_EDGE_ANGSTROM,
    MIN_HEIGHT_ANGSTROM,
    MIN_SHARE_OF_RADII,
)

Rows = Sequence[Mapping[str, Any]]

METASTABLE_EV_PER_ATOM = 0.1
THRESHOLDS: dict[str, Callable[[float], bool]] = {
    "< 0": lambda e: e < 0,
    "≤ 0": lambda e: e <= 0,
    "< 0.1": lambda e: e < METASTABLE_EV_PER_ATOM,
    "≤ 0.1": lambda e: e <= METASTABLE_EV_PER_ATOM,
}
"""Energies above the hull, in eV/atom, that count as stable; the paper's are the strict ones."""

POTENTIAL, DFT = "e_above_hull_ev_per_atom", "dft_e_above_hull_ev_per_atom"
"""Columns of energies above the hull."""

SYMMETRIES = (
    (
        "spacegroup_number", "",
        "space group by spglib, with its own rule for angles, other than P1, of the crystals; "
        "where spglib finds none it is not known, which counts in the total and not as above P1",
    ),
    (
        "spacegroup_number_pymatgen", f" and {PYMATGEN_ANGLE_TOLERANCE_DEGREES:g}°",
        "space group by spglib, with the angle tolerance that pymatgen gives it and papers print, "
        "other than P1, of the crystals, those where spglib finds none included",
    ),
)  # fmt: skip
"""Columns of space groups, how their names in tables end, and what they say."""

MATCHED_ON = {"generated": "", "relaxed": "_relaxed"}
"""Which structures are compared for uniqueness and novelty, and how their columns end."""


_LIGHTEST, _DENSEST = DENSITIES_G_PER_CM3
PLAUSIBLE = (
    f"every two atoms at least {MIN_SHARE_OF_RADII:g} times the sum of their covalent radii "
    f"apart, density {_LIGHTEST:g} to {_DENSEST:g} g/cm³, heights of the Niggli cell at least "
    f"{MIN_HEIGHT_ANGSTROM:g} Å and its edges at most {MAX_NIGGLI_EDGE_ANGSTROM:g} Å"
)
"""What `plausible` means, in words."""


def with_sun(rows: Rows) -> list[dict[str, Any]]:
    """The rows with `sun` and `msun` as the paper defines them."""
    return [
        {**row, "sun": is_sun(row, "< 0"), "msun": is_sun(row, "< 0.1")}
        if row.get(POTENTIAL) is not None
        else {**row, "sun": None, "msun": None}
        for row in rows
    ]


def is_sun(
    row: Mapping[str, Any],
    threshold: str,
    matched_on: str = "generated",
    single: bool = False,
    energy: str = POTENTIAL,
) -> bool:
    """Whether a sample is stable, unique and novel.

    Args:
        row: Of a judged sample.
        threshold: A key of `THRESHOLDS`.
        matched_on: A key of `MATCHED_ON`.
        single: Whether crystals of a single element count too.
        energy: Column of the energy above the hull.
    """
    above, end = row.get(energy), MATCHED_ON[matched_on]
    return (
        above is not None
        and THRESHOLDS[threshold](above)
        and bool(row.get(f"unique{end}"))
        and bool(row.get(f"novel{end}"))
        and (single or num_elements(row) > 1)
    )


def structure_rates(rows: Rows) -> list[Rate | Quantity]:
    """Read, valid as a structure and plausible, valid as a composition, and both valid."""
    total = len(rows)
    valid, neutral = (
        [bool(row.get(name)) for row in rows] for name in ("valid_structure", "valid_composition")
    )
    found: list[Rate | Quantity] = [
        Rate(
            "read", sum(not r["reason"] for r in rows), total,
            "samples that are crystals, of all samples",
        ),
        Rate(
            "valid structure", sum(valid), total,
            "smallest distance of two sites at least 0.5 Å and volume at least 0.1 Å³, of all "
            "samples",
        ),
        Rate(
            "plausible structure", sum(bool(row["plausible"]) for row in rows), total,
            f"{PLAUSIBLE}; of all samples; beside the published validity, which passes needles",
        ),
    ]  # fmt: skip
    definitions = {
        "valid composition": "charge-neutral with the SMACT14 oxidation states and Pauling's order "
        "of electronegativities; single elements and alloys are valid; of all samples",
        "valid": "valid structure and valid composition, of all samples",
    }
    if all(row.get("valid_composition") is None for row in rows):
        return found + [Quantity(name, None, None, "", text) for name, text in definitions.items()]
    counts = sum(neutral), sum(a and b for a, b in zip(valid, neutral, strict=True))
    return found + [
        Rate(name, count, total, text)
        for (name, text), count in zip(definitions.items(), counts, strict=True)
    ]


def matching_rates(rows: Rows) -> list[Rate]:
    """Unique, novel, and both, on the generated structures."""
    total = len(rows)
    unique = [bool(row.get("unique")) for row in rows]
    novel = [bool(row.get("novel")) for row in rows]
    matcher = (
        "by pymatgen's StructureMatcher with its defaults, on the generated structures, of all "
        "samples"
    )
    return [
        Rate("unique", sum(unique), total, f"matches no earlier sample {matcher}"),
        Rate("novel", sum(novel), total, f"matches no reference crystal {matcher}"),
        Rate(
            "unique and novel", sum(a and b for a, b in zip(unique, novel, strict=True)), total,
            "both of these, of all samples",
        ),
    ]  # fmt: skip


def composition_statistics(
    rows: Rows, reference_histogram: Int[np.ndarray, " counts"]
) -> list[Rate | Quantity]:
    """What the crystals are made of: sizes, elements, symmetry.

    Args:
        rows: Of judged samples.
        reference_histogram: Number of reference crystals with 0, 1, 2, … atoms.
    """
    good = [row for row in rows if not row["reason"]]
    sizes = np.array([row["num_atoms"] for row in good], int)
    elements = np.array([num_elements(row) for row in good], int)
    found: list[Rate | Quantity] = [
        _mean("atoms per cell", sizes, "mean number of atoms of the crystals"),
        Quantity(
            "distance of atoms per cell", _total_variation(sizes, reference_histogram), None, "",
            "total variation distance of the numbers of atoms from the reference's: 0 if equal, "
            "1 if disjoint",
        ),
        _mean("elements a crystal", elements, "mean number of different elements"),
    ]  # fmt: skip
    for tolerance in SYMPREC_ANGSTROM:
        for column, end, definition in SYMMETRIES:
            groups = [row[f"{column}_{tolerance:g}"] for row in good]
            above = sum((g or 1) > 1 for g in groups)
            name = f"symmetry above P1 at {tolerance:g} Å{end}"
            found.append(Rate(name, above, len(good), definition))
    return found


def _mean(name: str, values: np.ndarray, definition: str) -> Quantity:
    if not values.size:
        return Quantity(name, None, None, "", definition)
    return Quantity(name, float(values.mean()), bootstrap(np.mean, values), "", definition)


def _total_variation(sizes: np.ndarray, reference: np.ndarray) -> float | None:
    """Half the sum of absolute differences of two shares."""
    if not sizes.size or not reference.sum():
        return None
    counts = np.bincount(sizes, minlength=len(reference)) / len(sizes)
    known = np.pad(reference / reference.sum(), (0, len(counts) - len(reference)))
    return float(np.abs(counts - known).sum() / 2)


def stability_rates(rows: Rows, energy: str = POTENTIAL) -> list[Rate]:
    """Stable, metastable, what of them is unique and novel, S.U.N. and M.S.U.N.

    Args:
        rows: Of the samples that were to get an energy: the denominator.
        energy: Column of the energy above the hull.
    """
    total, found = len(rows), []
    of_all = f"of the {total} samples that were to get an energy"
    how = "after relaxation, converged or not" if energy == POTENTIAL else "by DFT"
    known = [row for row in rows if row.get(energy) is not None]
    found.append(
        Rate("energy known", len(known), total, f"an energy above the hull is known, {of_all}")
    )
    for name, threshold in (("stable", "< 0"), ("metastable", "< 0.1")):
        those = [row for row in known if THRESHOLDS[threshold](row[energy])]
        new = sum(bool(row.get("unique")) and bool(row.get("novel")) for row in those)
        found += [
            Rate(
                name, len(those), total,
                f"energy above the hull {threshold} eV/atom {how}, {of_all}",
            ),
            Rate(
                f"unique and novel among the {name}", new, len(those),
                f"unique and novel {name} samples, of the {name} ones",
            ),
        ]  # fmt: skip
    for name, threshold in (("S.U.N.", "< 0"), ("M.S.U.N.", "< 0.1")):
        found.append(
            Rate(
                name, sum(is_sun(row, threshold, energy=energy) for row in rows), total,
                f"energy above the hull {threshold} eV/atom, unique and novel on the generated "
                f"structures, more than one element, {of_all}",
            )
        )  # fmt: skip
    return found


def variants(rows: Rows) -> list[Rate]:
    """S.U.N. by every definition in use: threshold, structures compared, single elements."""
    definition = (
        "energy above the hull as named; matched by nothing earlier and nothing known, comparing "
        "the structures named; crystals of a single element counted or not; the first is S.U.N."
    )
    return [
        Rate(
            f"{threshold} eV/atom, {matched_on}, single elements {'in' if single else 'out'}",
            sum(is_sun(row, threshold, matched_on, single) for row in rows),
            len(rows),
            definition,
        )
        for threshold, matched_on, single in itertools.product(
            THRESHOLDS, MATCHED_ON, (False, True)
        )
    ]


def num_elements(row: Mapping[str, Any]) -> int:
    """Number of different elements of a sample; 0 if that is not known."""
    return len(row["chemical_system"].split("-")) if row["chemical_system"] else 0
