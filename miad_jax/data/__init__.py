"""Crystals from files to packed arrays and back."""

from miad_jax.data.load import (
    EMBEDDED,
    available_splits,
    load_dataset,
    split_fingerprint,
)
from miad_jax.data.packed import Records, load_packed, pad, save_packed
from miad_jax.data.packing import pack, stack
from miad_jax.data.reading import READERS, SPLITS, read_rows
from miad_jax.data.row import Row
from miad_jax.data.structures import from_atoms, from_structures, to_atoms, to_structures
from miad_jax.data.written import as_written

__all__ = [
    "EMBEDDED",
    "READERS",
    "SPLITS",
    "Records",
    "Row",
    "as_written",
    "available_splits",
    "from_atoms",
    "from_structures",
    "load_dataset",
    "load_packed",
    "pack",
    "pad",
    "read_rows",
    "save_packed",
    "split_fingerprint",
    "stack",
    "to_atoms",
    "to_structures",
]
