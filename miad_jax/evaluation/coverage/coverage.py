"""How well samples cover a reference set, and how near their properties are to its.

The definitions are those of the CDVAE metrics (Xie et al., arXiv:2110.06197), taken over by
the later literature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from miad_jax.evaluation.statistics import Quantity, Rate, bootstrap

_CHUNK = 256
"""Rows of the distance matrix at a time."""


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
            "the number of samples, and the interval is that of the reference crystals alone",
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


def property_distances(
    sample_density: Float[np.ndarray, " samples"],
    sample_num_elements: Shaped[np.ndarray, " samples"],
    reference_density: Float[np.ndarray, " references"],
    reference_num_elements: Shaped[np.ndarray, " references"],
    *,
    max_num: int,
    seed: int = 0,
) -> tuple[Quantity, Quantity]:
    """Wasserstein distances of the density and of the number of elements to a reference set.

    The distance is that of the empirical distributions (arXiv:2110.06197). Its bootstrap
    interval is one of a distance that cannot be negative: both sets are redrawn, which adds
    their noise to it, so that near zero the interval lies above the distance itself.

    Args:
        sample_density: Densities in g/cm³ of the samples that are valid in both senses.
        sample_num_elements: Numbers of different elements of the same samples.
        reference_density: Densities in g/cm³ of the reference crystals.
        reference_num_elements: Their numbers of different elements.
        max_num: Most samples that count; if there are more, so many are drawn. The metric
            takes the size of the test set.
        seed: Fixes the draw.

    Returns:
        The two distances; without a value if a set is empty.

    Raises:
        ValueError: If lengths differ, a value is not finite, or `max_num` is not positive.
    """
    if max_num < 1:
        raise ValueError(f"max_num is {max_num}; allowed: 1, 2, …")
    sample = _columns("sample", sample_density, sample_num_elements)
    reference = _columns("reference", reference_density, reference_num_elements)
    total = sample.shape[1]
    if total > max_num:
        chosen = np.random.default_rng(seed).choice(total, max_num, replace=False)
        sample = sample[:, chosen]
    drawn = f"{sample.shape[1]} of {total} valid samples to {reference.shape[1]} reference crystals"
    density, elements = (
        _wasserstein(name, unit, x, y, f"Wasserstein distance of the {words}, {drawn}")
        for name, unit, words, x, y in zip(
            ("density distance", "number of elements distance"),
            ("g/cm³", ""),
            ("densities", "numbers of different elements"),
            sample,
            reference,
            strict=True,
        )
    )
    return density, elements


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


def _columns(name: str, density: np.ndarray, num_elements: np.ndarray) -> np.ndarray:
    """Both properties as rows [2, n] of finite numbers."""
    density, num_elements = np.asarray(density, float), np.asarray(num_elements, float)
    if density.ndim != 1 or density.shape != num_elements.shape:
        raise ValueError(
            f"{name}_density has the shape {density.shape} and {name}_num_elements "
            f"{num_elements.shape}; both must be [n], of the same crystals"
        )
    columns = np.stack([density, num_elements])
    if not np.isfinite(columns).all():
        raise ValueError(f"a {name} property is not finite: pass valid crystals only")
    return columns


def _wasserstein(
    name: str, unit: str, sample: np.ndarray, reference: np.ndarray, definition: str
) -> Quantity:
    """The distance with its bootstrap interval."""
    from scipy.stats import wasserstein_distance

    if not sample.size or not reference.size:
        return Quantity(name, None, None, unit, definition)
    value = float(wasserstein_distance(sample, reference))
    interval = bootstrap(wasserstein_distance, sample, reference)
    return Quantity(name, value, interval, unit, definition)
