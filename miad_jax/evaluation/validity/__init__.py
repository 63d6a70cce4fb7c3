"""Whether a crystal could be one: its structure and its composition."""

from miad_jax.evaluation.validity.composition import valid_composition
from miad_jax.evaluation.validity.plausible import why_implausible
from miad_jax.evaluation.validity.structure import is_valid_structure, min_distance, why_no_crystal

__all__ = [
    "is_valid_structure",
    "min_distance",
    "valid_composition",
    "why_implausible",
    "why_no_crystal",
]
