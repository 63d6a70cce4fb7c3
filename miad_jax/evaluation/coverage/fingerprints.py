"""Fingerprints of structures and compositions: the spaces in which coverage is measured.

A structure is the mean over its sites of matminer's CrystalNN fingerprint with the preset
"ops", a composition its scaled Magpie features: the definitions of the CDVAE metrics (Xie et
al., arXiv:2110.06197).

A site takes about 16 ms, so only one of those that symmetry makes equal is computed, worker
processes share the structures, and fingerprints are kept in `fingerprints/` under the cache
folder, in batches as they come. The workers run this module as
a script: it imports nothing of miad_jax at the top, so that they start without JAX.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import os
import warnings
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from pymatgen.core import Composition, Structure

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lattice [3, 3] in Å, fractional coordinates [n, 3], atomic numbers [n]."""

NUM_STRUCTURE_FEATURES = 61
NUM_COMPOSITION_FEATURES = 132
TIME_LIMIT_SECONDS = 60.0
"""For one structure."""
MAX_ATOMS_PER_ANGSTROM3 = 5.0
"""Denser structures are not tried: they take minutes, and real crystals stay below 0.3."""

_MEMORY_LIMIT_BYTES = 8 * 2**30
_BATCH = 256
_SYMPREC_ANGSTROM = 1e-4
"""Sites that a symmetry brings onto each other within this have equal fingerprints."""
_VERSION = 2
"""To be raised when the fingerprint of the same structure changes."""
_SCRIPT = __file__


def structure_fingerprints(
    structures: Sequence[Structure | None],
    *,
    num_workers: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Float[np.ndarray, "n features"]:
    """Mean over the sites of the CrystalNN "ops" fingerprint (arXiv:2110.06197).

    A row is NaN where there is no fingerprint: the structure is None, or no ordered crystal of
    finite numbers, or denser than `MAX_ATOMS_PER_ANGSTROM3`, or CrystalNN fails for one of its
    sites, or a worker ran out of memory or of `TIME_LIMIT_SECONDS` on it. What is kept holds
    also the failures of CrystalNN; a structure on which a worker was lost is tried again by the
    next call, and counted in a warning.

    Args:
        structures: The structures, None where a sample is no crystal.
        num_workers: Worker processes at most; one for each usable core when None. 0 and 1 both
            give one, since this process could not be freed from a structure that hangs.
        cache_dir: The cache folder; that of `load_dataset` when None.
        progress: Whether to show a progress bar on standard error.

    Raises:
        ValueError: If matminer is not installed or cannot be imported, or `num_workers` is
            negative.
    """
    from pymatgen.core import __version__ as pymatgen_version
    from tqdm import tqdm

    from miad_jax.parallel.pool import Lost, answers, usable_cores
    from miad_jax.storage.cache import default_cache_dir

    versions = f"matminer{_matminer_version()}-pymatgen{pymatgen_version}"
    if num_workers is None:
        num_workers = usable_cores()
    if num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}; allowed: 0, 1, 2, … (0 is 1 here)")
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    kept = _Kept(root / "fingerprints" / f"crystalnn-ops-v{_VERSION}-{versions}")

    arrays = [_arrays(structure) for structure in structures]
    keys = ["" if x is None else _key(x) for x in arrays]
    wanted = {key: x for key, x in zip(keys, arrays, strict=True) if key and key not in kept.rows}
    names, lost, limit = list(wanted), [], TIME_LIMIT_SECONDS
    requests, num_workers = list(wanted.values()), max(num_workers, 1)
    found = answers(_SCRIPT, "site_mean", requests, num_workers=num_workers, seconds=limit)
    bar = tqdm(total=len(names), unit="crystal", desc="fingerprints", disable=not progress)
    try:
        with bar, closing(found):
            for index, row in found:
                if isinstance(row, str):
                    raise ValueError(f"matminer is installed but does not work: {row}")
                if isinstance(row, Lost):
                    lost.append(row.reason)
                else:
                    kept.add(names[index], row)
                bar.update()
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


def composition_fingerprints(
    compositions: Sequence[Composition | None],
) -> Float[np.ndarray, "n features"]:
    """Magpie features z = (x − mean) / std, then 0 where z is NaN (arXiv:2110.06197).

    Elements without a property are left NaN by matminer and not imputed, since the scaler was
    made that way. The constants are those of the published metric.

    Args:
        compositions: The compositions; a row is NaN where there is none, or it has no atom.

    Raises:
        ValueError: If matminer is not installed.
    """
    _matminer_version()
    from matminer.featurizers.composition import ElementProperty

    with np.load(Path(__file__).with_name("magpie_scaler.npz")) as scaler:
        mean, std = scaler["mean"], scaler["std"]
    rows: dict[Composition | None, np.ndarray] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matminer advises to impute, pymatgen warns of He and Ne
        magpie = ElementProperty.from_preset("magpie", impute_nan=False)
        for composition in dict.fromkeys(compositions):
            row = np.full(NUM_COMPOSITION_FEATURES, np.nan)
            if composition:
                row = np.nan_to_num((np.array(magpie.featurize(composition)) - mean) / std, nan=0.0)
            rows[composition] = row
    return np.array([rows[x] for x in compositions]).reshape(-1, NUM_COMPOSITION_FEATURES)


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
                with np.load(file) as batch:
                    self.rows.update(zip(batch["keys"].tolist(), batch["rows"], strict=True))
            except Exception as error:  # a damaged file can raise all there is
                what = f"{file} does not hold fingerprints ({error}), and is passed over"
                warnings.warn(f"{what}: delete it", stacklevel=3)

    def add(self, key: str, row: np.ndarray) -> None:
        """Take up a row; every `_BATCH` of them are written."""
        self.rows[key] = self._new[key] = row
        if len(self._new) >= _BATCH:
            self.write()

    def write(self) -> None:
        """Write what is new to a file of its own."""
        from miad_jax.storage.files import write_atomically

        if not self._new:
            return
        content = io.BytesIO()
        np.savez(content, keys=np.array(list(self._new)), rows=np.array(list(self._new.values())))
        name = hashlib.sha256("".join(self._new).encode()).hexdigest()
        self._new = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / f"{name}.npz", content.getvalue())
        except OSError as error:
            what = f"fingerprints could not be kept ({error}), so they will be computed again"
            warnings.warn(f"{what}: set MIAD_JAX_CACHE to a folder to write in", stacklevel=3)


def site_mean(arrays: Arrays) -> np.ndarray | str:
    """The row of one structure, NaN where CrystalNN fails; or what is wrong with matminer."""
    try:
        featurizer = _crystal_nn()
    except Exception as error:  # whatever a broken installation raises
        return f"{type(error).__name__}: {error}"
    from pymatgen.core import Structure

    lattice, frac_coords, numbers = arrays
    try:
        structure = Structure(lattice, numbers.tolist(), frac_coords)
        first, counts = _distinct_sites(arrays)
        sites = [featurizer.featurize(structure, int(i)) for i in first]
    except MemoryError:  # ends the worker: the structure may do better on another machine
        raise
    except Exception:  # no neighbour, a degenerate tessellation, …
        return np.full(NUM_STRUCTURE_FEATURES, np.nan)
    return np.average(sites, axis=0, weights=counts)


def _distinct_sites(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """One site of each set of equivalent sites, and how many are in the set."""
    import spglib

    cell: Any = arrays
    orbits: np.ndarray = np.arange(len(arrays[2]))
    # spglib 2.8 returns None where later versions raise: then every site stands for itself.
    with suppress(getattr(spglib, "SpglibError", RuntimeError)):
        dataset = spglib.get_symmetry_dataset(cell, symprec=_SYMPREC_ANGSTROM)
        if dataset is not None:
            orbits = dataset.crystallographic_orbits
    _, first, counts = np.unique(orbits, return_index=True, return_counts=True)
    return first, counts


@functools.cache
def _crystal_nn() -> Any:
    """The featurizer, made once in a worker, whose memory is bounded where the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    warnings.simplefilter("ignore")
    from matminer.featurizers.site import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops")
