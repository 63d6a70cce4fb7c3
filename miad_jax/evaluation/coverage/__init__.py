"""How well samples cover the test split, and how near their properties are to its."""

from miad_jax.evaluation.coverage.fingerprints import (
    composition_fingerprints,
    structure_fingerprints,
)
from miad_jax.evaluation.coverage.properties import property_distances
from miad_jax.evaluation.coverage.rates import Coverage, coverage, cutoffs

__all__ = [
    "Coverage",
    "composition_fingerprints",
    "coverage",
    "cutoffs",
    "property_distances",
    "structure_fingerprints",
]
