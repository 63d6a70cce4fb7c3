"""What `evaluate` returns: a row for each sample, the tables of rates, the relaxed crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from miad_jax.evaluation.describe import COLUMNS
from miad_jax.evaluation.statistics import Rate
from miad_jax.evaluation.tables import Table, tables_text

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """What is known of a set of samples.

    Attributes:
        rows: A row for every sample, in the order of the input, with the keys of
            `describe.COLUMNS` and those of `SAMPLE_COLUMNS`; None where a value is missing.
        tables: Rates and quantities by the title of their table, in order.
        structures: The samples as they came, None where there is no crystal.
        relaxed: The relaxed samples, None where there is none.
        reference_histogram: Number of reference crystals with 0, 1, 2, … atoms.
        settings: What the numbers depend on, for people: reference, potential, hull, versions.
        lost: Ids of samples over which a worker process was lost, so that an outcome is missing.
        done: Names of the stages that are done, in order.
        to_come: Names of the stages that are still to come; empty when the evaluation is complete.
    """

    rows: Sequence[Mapping[str, Any]]
    tables: Mapping[str, Table]
    structures: Sequence[Structure | None]
    relaxed: Sequence[Structure | None]
    reference_histogram: Int[np.ndarray, " counts"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lost: Sequence[str] = ()
    done: Sequence[str] = ()
    to_come: Sequence[str] = ()

    @property
    def table(self) -> pd.DataFrame:
        """A row for every sample, with every column of crystals.csv; missing values are NA."""
        import pandas as pd

        columns = list(dict.fromkeys(("id", *COLUMNS, *SAMPLE_COLUMNS)))
        return pd.DataFrame([dict(row) for row in self.rows], columns=columns).convert_dtypes()

    def rates(self) -> pd.DataFrame:
        """A row for every number of the tables.

        Its columns are the table's title, the name, value, 95 % interval (low, high), count and
        total of a share, the unit ("share" for a share) and the definition.
        """
        import pandas as pd

        found = []
        for title, table in self.tables.items():
            for entry in table:
                low, high = entry.interval or (None, None)
                found.append(
                    {
                        "table": title,
                        "name": entry.name,
                        "value": entry.value,
                        "low": low,
                        "high": high,
                        "count": entry.count if isinstance(entry, Rate) else None,
                        "total": entry.total if isinstance(entry, Rate) else None,
                        "unit": "share" if isinstance(entry, Rate) else entry.unit,
                        "definition": entry.definition,
                    }
                )
        columns = "table name value low high count total unit definition".split()
        return pd.DataFrame(found, columns=columns).astype({"count": "Int64", "total": "Int64"})

    def __repr__(self) -> str:
        """The tables, and which stages are still to come."""
        come = f", still to come: {', '.join(self.to_come)}" if self.to_come else ""
        head = f"EvaluationResult of {len(self.rows)} samples{come}"
        return f"{head}\n\n{tables_text(self.tables, with_definitions=False)}".rstrip()


SAMPLE_COLUMNS = {
    "id": "name of the sample in the input",
    "valid_composition": "charge-neutral by SMACT, or a single element or an alloy",
    "unique": "matches no earlier sample",
    "duplicate_of": "id of the first earlier sample that it matches",
    "novel": "matches no reference crystal",
    "known_as": "id of the first reference crystal that it matches",
    "matching_reason": "why it could not be compared",
    "nearest_by_amd": "id of the nearest reference crystal by average minimum distance",
    "amd_angstrom": "its distance, the largest difference of the first 100 of them, in Å",
    "amd_same_formula_angstrom": "that of the nearest of its reduced formula, in Å",
    "relaxation": "converged, not converged, or failed",
    "relaxation_steps": "steps of the relaxation",
    "relaxation_reason": "why a relaxation failed, or was not asked for",
    "energy_ev_per_atom": "total energy after relaxation, in eV/atom",
    "e_above_hull_ev_per_atom": "energy above the hull after relaxation, in eV/atom",
    "hull_reason": "why there is no energy above the hull, or what of it is a guess",
    "num_competing_phases": "compounds in the hull with no other elements than the sample's",
    "radioactive_elements": "those of the sample, joined by hyphens",
    "dft_energy_ev_per_atom": "corrected total energy by DFT, in eV/atom",
    "dft_e_above_hull_ev_per_atom": "energy above the hull by DFT, in eV/atom",
    "dft_reason": "why there is no energy above the hull by DFT, or what of it is a guess",
    "unique_relaxed": "after relaxation, matches no earlier relaxed sample",
    "duplicate_of_relaxed": "id of the first earlier relaxed sample that it then matches",
    "novel_relaxed": "after relaxation, matches no reference crystal",
    "known_as_relaxed": "id of the first reference crystal that it then matches",
    "unique_among_stable": "after relaxation, matches no earlier sample on or below the hull",
    "unique_disordered": "as unique_relaxed, orderings of one disordered crystal being the same",
    "duplicate_of_disordered": "id of the first earlier relaxed sample that it then matches",
    "novel_disordered": "as novel_relaxed, orderings of one disordered crystal being the same",
    "known_as_disordered": "id of the first reference crystal that it then matches",
    "spacegroup_number_relaxed": "space group after relaxation, at 0.1 Å and pymatgen's 5°",
    "sun": "stable, unique, novel, and of more than one element",
    "msun": "metastable, unique, novel, and of more than one element",
}
"""Columns that evaluating adds to a described sample, and what they say."""
