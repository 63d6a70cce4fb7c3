"""How well samples cover a reference set: COV-R, COV-P, and the distances behind them.

The definitions are those of the CDVAE metrics (Xie et al., arXiv:2110.06197), taken over by
the later literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from miad_jax.evaluation.statistics import Quantity, Rate, bootstrap

CUTOFFS = {"mp": (0.4, 10.0), "perov": (0.2, 4.0), "carbon": (0.2, 4.0)}
"""Cut-offs of structure and composition, by how a data set's name begins."""

NUM_HALVES = 200
"""Random halves of the samples, from which the chance of the recall is estimated."""

_CHUNK = 256
"""Rows of the distance matrix at a time."""


def cutoffs(name: str) -> tuple[float, float]:
    """Cut-offs of coverage for a data set, by its name; those of MP-20 for others."""
    last = Path(name).resolve().name.lower()
    return next((c for start, c in CUTOFFS.items() if last.startswith(start)), CUTOFFS["mp"])


@dataclass(frozen=True)
class Coverage:
    """Shares of two sets that have a near neighbour in the other, and the mean distances.

    Recall looks from the reference crystals to the samples, precision the other way.

    Attributes:
        recall: COV-R.
        precision: COV-P.
        amsd_recall: Average minimum structure distance of the reference crystals.
        amsd_precision: That of the samples.
        amcd_recall: Average minimum composition distance of the reference crystals.
        amcd_precision: That of the samples.
    """

    recall: Rate
    precision: Rate
    amsd_recall: Quantity
    amsd_precision: Quantity
    amcd_recall: Quantity
    amcd_precision: Quantity

    def table(self) -> list[Rate | Quantity]:
        """All of them, in the order in which they are shown."""
        return [
            self.recall,
            self.precision,
            self.amsd_recall,
            self.amsd_precision,
            self.amcd_recall,
            self.amcd_precision,
        ]


def coverage(
    sample_structure: Float[np.ndarray, "samples features"],
    sample_composition: Float[np.ndarray, "samples elemental"],
    reference_structure: Float[np.ndarray, "references features"],
    reference_composition: Float[np.ndarray, "references elemental"],
    *,
    structure_cutoff: float = 0.4,
    composition_cutoff: float = 10.0,
) -> Coverage:
    """Coverage of arXiv:2110.06197, appendix B.

    A crystal is covered if its smallest Euclidean distance to the other set is within the
    cut-off among structure fingerprints and, independently, among composition fingerprints:
    the two neighbours need not be the same crystal. All crystals of a set are in the
    denominator; one that lacks either fingerprint (NaN) is not covered, covers none, and takes
    no part in the mean distances.

    Args:
        sample_structure: Rows of `structure_fingerprints`.
        sample_composition: Rows of `composition_fingerprints`.
        reference_structure: The same of the reference set.
        reference_composition: The same of the reference set.
        structure_cutoff: 0.4 for MP-20, 0.2 for Perov-5 and Carbon-24.
        composition_cutoff: 10 for MP-20, 4 for Perov-5 and Carbon-24.

    Raises:
        ValueError: If the arrays do not fit together, or a cut-off is negative or NaN.
    """
    for name, cutoff in (("structure", structure_cutoff), ("composition", composition_cutoff)):
        if not cutoff >= 0:
            raise ValueError(f"{name}_cutoff is {cutoff}; allowed: numbers from 0")
    sample = _complete("sample", sample_structure, sample_composition)
    reference = _complete("reference", reference_structure, reference_composition)
    for name, ours, theirs in (
        ("structure", sample_structure, reference_structure),
        ("composition", sample_composition, reference_composition),
    ):
        if ours.shape[1] != theirs.shape[1]:
            raise ValueError(
                f"{ours.shape[1]} features in sample_{name}, {theirs.shape[1]} in reference_{name}:"
                " make both with the same fingerprints"
            )
    to_sample_s, to_reference_s = min_distances(
        reference_structure[reference], sample_structure[sample]
    )
    to_sample_c, to_reference_c = min_distances(
        reference_composition[reference], sample_composition[sample]
    )
    recalled = (to_sample_s <= structure_cutoff) & (to_sample_c <= composition_cutoff)
    precise = (to_reference_s <= structure_cutoff) & (to_reference_c <= composition_cutoff)
    near = (
        f"within {structure_cutoff:g} in the mean CrystalNN fingerprint and within "
        f"{composition_cutoff:g} in the scaled Magpie fingerprint"
    )
    return Coverage(
        Rate(
            "COV-R",
            int(recalled.sum()),
            len(reference),
            f"reference crystals {near} of some sample, of all reference crystals; it grows with "
            "the number of samples, whose chance is in the interval",
            _std_over_samples(
                reference_structure[reference],
                sample_structure[sample],
                structure_cutoff,
                reference_composition[reference],
                sample_composition[sample],
                composition_cutoff,
            ),
        ),
        Rate(
            "COV-P",
            int(precise.sum()),
            len(sample),
            f"samples {near} of some reference crystal, of all samples",
        ),
        _mean("AMSD-R", to_sample_s, "structure", "reference crystals to the samples"),
        _mean("AMSD-P", to_reference_s, "structure", "samples to the reference crystals"),
        _mean("AMCD-R", to_sample_c, "composition", "reference crystals to the samples"),
        _mean("AMCD-P", to_reference_c, "composition", "samples to the reference crystals"),
    )


def min_distances(
    first: Float[np.ndarray, "n features"], second: Float[np.ndarray, "m features"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Smallest Euclidean distance of each row to the other set, infinite if that is empty."""
    from scipy.spatial.distance import cdist

    to_second, to_first = np.full(len(first), np.inf), np.full(len(second), np.inf)
    if len(first) and len(second):
        for start in range(0, len(first), _CHUNK):
            rows = slice(start, start + _CHUNK)
            distances = cdist(first[rows], second)
            to_second[rows] = distances.min(1)
            np.minimum(to_first, distances.min(0), out=to_first)
    return to_second, to_first


def _std_over_samples(
    reference_structure: np.ndarray,
    sample_structure: np.ndarray,
    structure_cutoff: float,
    reference_composition: np.ndarray,
    sample_composition: np.ndarray,
    composition_cutoff: float,
) -> float:
    """Standard deviation of the recall over sets of samples of this size.

    It is that over random halves of the samples (the delete-half jackknife; Shao and Wu, Annals of
    Statistics 17, 1176, 1989): halves vary as much around their mean as wholes do.
    """
    num = len(sample_structure)
    if num < 2 or not len(reference_structure):
        return 0.0
    rng = np.random.default_rng(0)
    halves = np.zeros((NUM_HALVES, num), np.float32)
    for half in halves:
        half[rng.permutation(num)[: num // 2]] = 1
    found = np.zeros(NUM_HALVES)
    for start in range(0, len(reference_structure), _CHUNK):
        rows = slice(start, start + _CHUNK)
        near = _near(reference_structure[rows], sample_structure, structure_cutoff)
        alike = _near(reference_composition[rows], sample_composition, composition_cutoff)
        found += ((halves @ near.T > 0) & (halves @ alike.T > 0)).sum(1)
    return float(found.std() / len(reference_structure))


def _near(first: np.ndarray, second: np.ndarray, cutoff: float) -> Float[np.ndarray, "n m"]:
    """1 where two rows are within the cut-off, else 0."""
    from scipy.spatial.distance import cdist

    return (cdist(first, second) <= cutoff).astype(np.float32)


def _complete(name: str, structure: np.ndarray, composition: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which crystals have both fingerprints."""
    if structure.ndim != 2 or composition.ndim != 2 or len(structure) != len(composition):
        raise ValueError(
            f"{name}_structure has the shape {structure.shape} and {name}_composition "
            f"{composition.shape}; both must be [crystals, features], of the same crystals"
        )
    return np.isfinite(structure).all(1) & np.isfinite(composition).all(1)


def _mean(name: str, distances: np.ndarray, kind: str, way: str) -> Quantity:
    """The mean distance to the nearest of the other set; None where there is no pair."""
    definition = (
        f"mean {kind} distance from the {way}, to the nearest each, of those with fingerprints; "
        "the interval is of the mean over them"
    )
    if not np.isfinite(distances).all() or not distances.size:
        return Quantity(name, None, None, "", definition)
    return Quantity(name, float(distances.mean()), bootstrap(np.mean, distances), "", definition)
