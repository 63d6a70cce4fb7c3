"""Everything that is found of a set of crystals: the value that the report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from miad_jax.evaluation.statistics import Quantity, Rate

if TYPE_CHECKING:
    from pymatgen.core import Structure

Table = Sequence[Rate | Quantity]


@dataclass(frozen=True)
class EvaluationResult:
    """What a report shows.

    Attributes:
        rows: A row for every sample, in the order of the input, with the keys of
            `describe.COLUMNS` and those of `SAMPLE_COLUMNS`; None where a value is missing.
        tables: Rates and quantities by the title of their table, in order.
        structures: The samples as they came, None where there is no crystal.
        relaxed: The relaxed samples, None where there is none.
        reference_histogram: Number of reference crystals with 0, 1, 2, … atoms.
        settings: What the numbers depend on, for people: reference, potential, hull, versions.
        lost: Ids of samples over which a worker process was lost, so that an outcome is missing.
    """

    rows: Sequence[Mapping[str, Any]]
    tables: Mapping[str, Table]
    structures: Sequence[Structure | None]
    relaxed: Sequence[Structure | None]
    reference_histogram: Int[np.ndarray, " counts"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lost: Sequence[str] = ()


SAMPLE_COLUMNS = {
    "id": "name of the sample in the input",
    "valid_composition": "charge-neutral by SMACT, or a single element or an alloy",
    "unique": "matches no earlier sample",
    "duplicate_of": "id of the first earlier sample that it matches",
    "novel": "matches no reference crystal",
    "known_as": "id of the first reference crystal that it matches",
    "matching_reason": "why it could not be compared",
    "relaxation": "converged, not converged, or failed",
    "relaxation_steps": "steps of the relaxation",
    "relaxation_reason": "why a relaxation failed, or was not asked for",
    "energy_ev_per_atom": "total energy after relaxation, in eV/atom",
    "e_above_hull_ev_per_atom": "energy above the hull after relaxation, in eV/atom",
    "hull_reason": "why there is no energy above the hull",
    "dft_energy_ev_per_atom": "corrected total energy by DFT, in eV/atom",
    "dft_e_above_hull_ev_per_atom": "energy above the hull by DFT, in eV/atom",
    "dft_reason": "why there is no energy above the hull by DFT",
    "unique_relaxed": "after relaxation, matches no earlier relaxed sample",
    "duplicate_of_relaxed": "id of the first earlier relaxed sample that it then matches",
    "novel_relaxed": "after relaxation, matches no reference crystal",
    "known_as_relaxed": "id of the first reference crystal that it then matches",
    "sun": "stable, unique, novel, and of more than one element",
    "msun": "metastable, unique, novel, and of more than one element",
}
"""Columns that judging adds to a described sample, and what they say."""
