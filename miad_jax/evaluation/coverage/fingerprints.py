"""Fingerprints of structures and compositions: the spaces in which coverage is measured.

A structure is the mean over its sites of matminer's CrystalNN fingerprint with the preset
"ops", a composition its scaled Magpie features: the definitions of the CDVAE metrics (Xie et
al., arXiv:2110.06197).

A site takes about 17 ms, so only one of those that symmetry makes equal is computed, workers
share the structures, and how long it will take is said before it starts. A composition takes 5 ms.
Both are kept in `fingerprints/` under the cache folder, in batches as they come.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from miad_jax.evaluation.coverage import site_fingerprint
from miad_jax.evaluation.coverage.site_fingerprint import NUM_STRUCTURE_FEATURES, Arrays
from miad_jax.parallel.executor import Executor, WorkerFailure
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.cache import default_cache_dir
from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_npz, read_npz

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

NUM_COMPOSITION_FEATURES = 132
TIME_LIMIT_SECONDS = 60.0
"""For one structure."""
MAX_ATOMS_PER_ANGSTROM3 = 5.0
"""Denser structures are not tried: they take minutes, and real crystals stay below 0.3."""

MS_PER_SITE = 17.0
"""What a site takes on one core, averaged over all sites of MP-20's test crystals, those that
symmetry makes equal included."""

_BATCH = 256
_STRUCTURES, _COMPOSITIONS = "crystalnn-ops-v2", "magpie-v1"
"""To be renamed when the fingerprint of the same structure or composition changes."""


def structure_fingerprints(
    structures: Sequence[Structure | None],
    *,
    executor: Executor | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | bool = False,
) -> Float[np.ndarray, "n features"]:
    """Mean over the sites of the CrystalNN "ops" fingerprint (arXiv:2110.06197).

    A row is NaN where there is no fingerprint: the structure is None, or no ordered crystal of
    finite numbers, or denser than `MAX_ATOMS_PER_ANGSTROM3`, or CrystalNN fails for one of its
    sites, or a worker ran out of memory or of `TIME_LIMIT_SECONDS` on it. What is kept holds
    also the failures of CrystalNN; a structure on which a worker was lost is tried again by the
    next call, and counted in a warning.

    Args:
        structures: The structures, None where a sample is no crystal.
        executor: Where fingerprints are computed; local worker processes, one for each usable
            core, when None. `Serial` computes in this process, where a structure that hangs
            cannot be ended.
        cache_dir: The cache folder; that of `load_dataset` when None.
        progress: Where to show how far it has come.

    Raises:
        ValueError: If matminer is not installed or cannot be imported.
    """
    kept = _kept(_STRUCTURES, cache_dir)
    arrays = [_arrays(structure) for structure in structures]
    keys = ["" if x is None else _key(x) for x in arrays]
    wanted = {
        key: x
        for key, x in zip(keys, arrays, strict=True)
        if x is not None and key not in kept.rows
    }
    names, lost = list(wanted), []
    executor, progress = executor or Pool(), as_progress(progress)
    if wanted:
        num_sites = sum(len(numbers) for _, _, numbers in wanted.values())
        progress.say(_forecast(len(wanted), num_sites, executor.num_workers))
    found = executor.map(
        site_fingerprint.site_mean, list(wanted.values()), seconds=TIME_LIMIT_SECONDS
    )
    try:
        with (
            closing(found),
            progress.bar("fingerprints", len(names), unit="crystal") as bar,
        ):
            for index, row in found:
                if isinstance(row, str):
                    raise ValueError(f"matminer is installed but does not work: {row}")
                if isinstance(row, WorkerFailure):
                    lost.append(row.reason)
                else:
                    kept.add(names[index], row)
                bar.advance()
    finally:
        kept.write()
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(names)} structures have no fingerprint because a worker was "
            f"lost over them; the first: {lost[0]}",
            stacklevel=2,
        )
    rows = [kept.rows.get(key, np.full(NUM_STRUCTURE_FEATURES, np.nan)) for key in keys]
    return np.array(rows).reshape(-1, NUM_STRUCTURE_FEATURES)


def _forecast(num_structures: int, num_sites: int, num_workers: int) -> str:
    """How long fingerprints will take, before they start."""
    seconds = num_sites * MS_PER_SITE / 1000 / max(num_workers, 1)
    time = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    return (
        f"fingerprints of {num_structures} crystals, once: some {time} for {num_sites} sites at "
        f"{MS_PER_SITE:g} ms a site on {num_workers} cores"
    )


def composition_fingerprints(
    compositions: Sequence[Composition | None],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Float[np.ndarray, "n features"]:
    """Magpie features z = (x − mean) / std, then 0 where z is NaN (arXiv:2110.06197).

    Elements without a property are left NaN by matminer and not imputed, since the scaler was
    made that way. The constants are those of the published metric.

    Args:
        compositions: The compositions; a row is NaN where there is none, or it has no atom.
        cache_dir: The cache folder; that of `load_dataset` when None.

    Raises:
        ValueError: If matminer is not installed.
    """
    kept = _kept(_COMPOSITIONS, cache_dir)
    keys = [json.dumps(sorted(x.get_el_amt_dict().items())) if x else "" for x in compositions]
    wanted = {
        key: composition
        for key, composition in zip(keys, compositions, strict=True)
        if key and key not in kept.rows
    }
    if wanted:
        from matminer.featurizers.composition import ElementProperty

        with np.load(Path(__file__).with_name("magpie_scaler.npz")) as scaler:
            mean, std = scaler["mean"], scaler["std"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # matminer advises to impute, pymatgen warns of He, Ne
            magpie = ElementProperty.from_preset("magpie", impute_nan=False)
            for key, composition in wanted.items():
                row = (np.array(magpie.featurize(composition)) - mean) / std
                kept.add(key, np.nan_to_num(row, nan=0.0))
        kept.write()
    rows = [kept.rows.get(key, np.full(NUM_COMPOSITION_FEATURES, np.nan)) for key in keys]
    return np.array(rows).reshape(-1, NUM_COMPOSITION_FEATURES)


def _kept(name: str, cache_dir: str | os.PathLike[str] | None) -> _Kept:
    """The fingerprints of a kind in the cache folder, made by the versions that are installed."""
    from pymatgen.core import __version__ as pymatgen_version

    versions = f"matminer{_matminer_version()}-pymatgen{pymatgen_version}"
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    return _Kept(root / "fingerprints" / f"{name}-{versions}")


def _matminer_version() -> str:
    """The version of matminer, without the seconds that its import takes."""
    try:
        return importlib.metadata.version("matminer")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            'fingerprints need matminer, which is not installed: pip install "miad_jax[eval]"'
        ) from error


def _arrays(structure: Structure | None) -> Arrays | None:
    """The arrays of a structure; None where a fingerprint is not worth trying."""
    if structure is None or not len(structure) or not structure.is_ordered:
        return None
    lattice, frac_coords = structure.lattice.matrix, structure.frac_coords
    if not ((np.abs(lattice) < 1e9).all() and (np.abs(frac_coords) < 1e9).all()):
        return None  # also where they are NaN
    if len(structure) > MAX_ATOMS_PER_ANGSTROM3 * abs(np.linalg.det(lattice)):
        return None
    return lattice, frac_coords, np.array([site.specie.Z for site in structure])


def _key(arrays: Arrays) -> str:
    """Hash of the content, to 1e-5 Å in the lattice and 1e-6 in the coordinates modulo 1."""
    lattice, frac_coords, numbers = arrays
    digest = hashlib.sha256(np.round(1e5 * lattice).astype("<i8").tobytes())
    digest.update((np.round(1e6 * frac_coords).astype("<i8") % 10**6).tobytes())
    digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


class _Kept:
    """Rows by key, on disk in files that each hold a batch of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, np.ndarray] = {}
        self._new: dict[str, np.ndarray] = {}
        for file in sorted(folder.glob("*.npz")):
            try:
                batch = read_npz(file)
                self.rows.update(zip(batch["keys"].tolist(), batch["rows"], strict=True))
            except (OSError, KeyError, TypeError, ValueError) as error:
                what = f"{file} does not hold fingerprints ({error}), and is passed over"
                warnings.warn(f"{what}: delete it", stacklevel=3)

    def add(self, key: str, row: np.ndarray) -> None:
        """Take up a row; every `_BATCH` of them are written."""
        self.rows[key] = self._new[key] = row
        if len(self._new) >= _BATCH:
            self.write()

    def write(self) -> None:
        """Write what is new to a file of its own."""
        if not self._new:
            return
        content = hashed_npz({"keys": list(self._new), "rows": list(self._new.values())})
        name = hashlib.sha256("".join(self._new).encode()).hexdigest()
        self._new = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / f"{name}.npz", content)
        except OSError as error:
            what = f"fingerprints could not be kept ({error}), so they will be computed again"
            warnings.warn(f"{what}: set MIAD_JAX_CACHE to a folder to write in", stacklevel=3)
