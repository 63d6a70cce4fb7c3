"""Relaxation, energies, and the hull they are measured against."""

from miad_jax.evaluation.stability.dft import DftEnergy, read_dft_energies, write_dft_inputs
from miad_jax.evaluation.stability.hull import Hull, hull_from_dataset
from miad_jax.evaluation.stability.hull_files import hull_from_entries, hull_from_table
from miad_jax.evaluation.stability.relax import Relaxation, relax

__all__ = [
    "DftEnergy",
    "Hull",
    "Relaxation",
    "hull_from_dataset",
    "hull_from_entries",
    "hull_from_table",
    "read_dft_energies",
    "relax",
    "write_dft_inputs",
]
