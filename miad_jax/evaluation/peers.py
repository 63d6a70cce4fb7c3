"""S.U.N. as other models' authors count it, from the rows of one run.

What differs is the energy above the hull that counts as stable, the structures that are compared,
when two of them are the same, whether crystals of a single element count, and whether P1 does. What
a run cannot take over is said in each definition: the potential, the hull and the crystals that are
known are those of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.data.symmetry import PYMATGEN_ANGLE_TOLERANCE_DEGREES
from miad_jax.data.written import structure_as_written
from miad_jax.evaluation.describe import SYMPREC_ANGSTROM, spacegroup
from miad_jax.evaluation.metrics import POTENTIAL, THRESHOLDS, Rows, num_elements
from miad_jax.evaluation.statistics import Rate

if TYPE_CHECKING:
    from pymatgen.core import Structure

STABLE = THRESHOLDS | {"< 0.08": lambda e: e < 0.08}
"""Energies above the hull, in eV/atom, that count as stable."""

SYMPREC = SYMPREC_ANGSTROM[0]


@dataclass(frozen=True)
class Definition:
    """How somebody counts S.U.N.

    Attributes:
        name: Whose it is, and what they call it.
        threshold: A key of `STABLE`.
        unique: Column of uniqueness.
        novel: Column of novelty.
        compared: Which structures are compared, and how, in words.
        single: Whether crystals of a single element count.
        symmetric: Whether crystals count only if their space group is not P1.
        paper: Where it is defined.
    """

    name: str
    threshold: str
    unique: str
    novel: str
    compared: str
    single: bool
    paper: str
    symmetric: bool = False

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Whether a sample counts."""
        above = row.get(POTENTIAL)
        return (
            above is not None
            and STABLE[self.threshold](above)
            and bool(row.get(self.unique))
            and bool(row.get(self.novel))
            and (self.single or num_elements(row) > 1)
            and (not self.symmetric or (row.get("spacegroup_number_relaxed") or 1) > 1)
        )

    @property
    def text(self) -> str:
        """The definition in words, without its denominator."""
        parts = [f"energy above the hull {self.threshold} eV/atom", self.compared]
        parts += ["space group after relaxation other than P1"] * self.symmetric
        parts += ["more than one element"] * (not self.single)
        return f"{'; '.join(parts)} ({self.paper})"


_RELAXED = "unique and novel after relaxation by pymatgen's StructureMatcher"
_AS_DISORDERED = (
    "unique and novel after relaxation, where orderings of one disordered crystal are the same: "
    "elements whose atomic radii differ by at most 30 % and electronegativities by at most 1 are "
    "taken for one in both crystals, which then go to pymatgen's StructureMatcher"
)
_AMONG_STABLE = (
    "novel after relaxation, and unique among the samples that are stable, by pymatgen's "
    "StructureMatcher"
)
_GENERATED = (
    "unique and novel as generated, by pymatgen's StructureMatcher, where that benchmark compares "
    "hashes by default"
)

DEFINITIONS = (
    Definition("MatterGen's S.U.N.", "< 0.1", "unique_disordered", "novel_disordered",
               _AS_DISORDERED, True, "arXiv:2312.03687 and its code"),
    Definition("FlowMM's S.U.N.", "≤ 0", "unique_among_stable", "novel_relaxed",
               _AMONG_STABLE, False, "arXiv:2406.04713 and its code"),
    Definition("WyFormer's S.U.N.", "< 0.08", "unique_relaxed", "novel_relaxed",
               _RELAXED, False, "arXiv:2503.02407 and its code"),
    Definition("WyFormer's S.S.U.N.", "< 0.08", "unique_relaxed", "novel_relaxed",
               _RELAXED, False, "arXiv:2503.02407 and its code", symmetric=True),
    Definition("LeMat-GenBench's SUN", "≤ 0", "unique", "novel",
               _GENERATED, True, "arXiv:2512.04562 and its README"),
    Definition("LeMat-GenBench's MetaSUN", "≤ 0.1", "unique", "novel",
               _GENERATED, True, "arXiv:2512.04562 and its README"),
)  # fmt: skip
"""Other authors' definitions, as far as a run can follow them."""


def peer_rates(rows: Rows) -> list[Rate]:
    """S.U.N. as others count it, and the share of P1.

    Args:
        rows: Of the samples that were to get an energy: the denominator.
    """
    run = "; potential, hull and known crystals are those of this run"
    of_all = f", of the {len(rows)} samples that were to get an energy"
    found = [
        Rate(x.name, sum(map(x.counts, rows)), len(rows), f"{x.text}{run}{of_all}")
        for x in DEFINITIONS
    ]
    good = [row for row in rows if not row["reason"]]
    column = f"spacegroup_number_pymatgen_{SYMPREC:g}"
    text = (
        f"crystals as generated in space group P1, at {SYMPREC:g} Å and with pymatgen's angle "
        "tolerance, of the crystals among them (arXiv:2503.02407); where spglib finds no group it "
        "is not known, and not P1"
    )
    asymmetric = sum(row[column] == 1 for row in good)
    return [*found, Rate("WyFormer's P1", asymmetric, len(good), text)]


def on_the_hull(
    rows: Sequence[Mapping[str, Any]], relaxed: Sequence[Structure | None]
) -> list[Structure | None]:
    """The relaxed samples that are stable as FlowMM counts, None for the others."""

    def is_stable(row: Mapping[str, Any]) -> bool:
        return row.get(POTENTIAL) is not None and row[POTENTIAL] <= 0 and num_elements(row) > 1

    return [x if is_stable(row) else None for row, x in zip(rows, relaxed, strict=False)]


def symmetry_columns(relaxed: Sequence[Structure | None]) -> list[dict[str, Any]]:
    """The space group of each relaxed sample."""
    return [
        {"spacegroup_number_relaxed": None if x is None else _spacegroup_number(x)} for x in relaxed
    ]


def _spacegroup_number(structure: Structure) -> int | None:
    """By spglib, at 0.1 Å and with pymatgen's angle tolerance."""
    crystal = structure_as_written(structure)
    arrays = crystal.lattice, crystal.frac_coords, crystal.atom_types
    lattice, frac_coords, atom_types = map(np.asarray, arrays)
    return spacegroup(lattice, frac_coords, atom_types, SYMPREC, PYMATGEN_ANGLE_TOLERANCE_DEGREES)[
        1
    ]
