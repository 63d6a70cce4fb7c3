"""NequIX, a potential in JAX (Koker, Kotak and Smidt, arXiv:2508.16067).

The package declares JAX with CUDA, which CPUs do not need, so it is installed without what it
declares: `pip install "miad_jax[nequix]"` and then `pip install --no-deps nequix`.

Its energies are those of the Materials Project's GGA and GGA+U without corrections, for both
weights.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

import jax

from miad_jax.data.download import fetch_published
from miad_jax.data.published import PublishedFile
from miad_jax.evaluation.stability.moving import JaxPotential
from miad_jax.parallel.progress import Progress
from miad_jax.storage.cache import default_cache_dir, is_writable, passing_folder

NEQUIX = "nequix"
DEFAULT_WEIGHTS = "nequix-oam-1"
INSTALL = 'pip install "miad_jax[nequix]", then pip install --no-deps nequix'

_MODELS = "https://github.com/atomicarchitects/nequix/raw"

WEIGHTS = {
    "nequix-oam-1": PublishedFile(
        f"{_MODELS}/9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28/models/nequix-oam-1.nqx",
        "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c",
        2869928,
    ),
    "nequix-mp-1": PublishedFile(
        f"{_MODELS}/7c2854de8e754b1a60274c7d9d2e014989ed632e/models/nequix-mp-1.nqx",
        "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee",
        2842366,
    ),
}
"""Weights by name, where the package itself fetches them: trained on OMat24, sAlex and MPtrj, and
on MPtrj alone."""


def find_weights(weights: str | os.PathLike[str] | None, progress: Progress | bool = False) -> Path:
    """The file of weights, fetched if they are named and not in the cache folder yet.

    Args:
        weights: A name of `WEIGHTS`, or a file; None for the default.
        progress: Where to show what has come.

    Raises:
        ValueError: If what came is not the published file.
        ConnectionError: If it could not be fetched.
    """
    name = os.fspath(weights or DEFAULT_WEIGHTS)
    if name not in WEIGHTS:
        return Path(name)
    path = default_cache_dir() / "potentials" / f"{name}.nqx"
    if not path.exists():
        if not is_writable(path.parent):
            path = passing_folder() / f"{name}.nqx"
        again = "the same command tries again, --weights=FILE.nqx names a file that you have"
        fetch_published(WEIGHTS[name], path, again=again, progress=progress)
    return path


def load_nequix(weights: str | os.PathLike[str]) -> JaxPotential:
    """Load NequIX, once in a process.

    Args:
        weights: The file of weights.

    Raises:
        ValueError: If the package is missing, or the file holds no weights.
    """
    path = Path(weights)
    content = path.read_bytes()
    return _load(path, hashlib.sha256(content).hexdigest())


@functools.cache
def _load(path: Path, sha256: str) -> JaxPotential:
    equinox, nequix_model = _import()
    try:
        model, settings = nequix_model.load_model(path, kernel=False)
    except Exception as error:  # readers of foreign files raise all there is
        raise ValueError(
            f"{path} holds no weights of NequIX ({type(error).__name__}: {error}): fetch it again"
        ) from error
    arrays, rest = equinox.partition(model, equinox.is_array)

    def site_energies(
        arrays: Any,
        displacements: jax.Array,
        species: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        whole = equinox.combine(arrays, rest)
        return whole.node_energies(displacements, species, senders, receivers)[:, 0]

    name = next((name for name, file in WEIGHTS.items() if file.sha256 == sha256), path.name)
    return JaxPotential(
        name="NequIX",
        cutoff_angstrom=float(settings["cutoff"]),
        species={int(z): i for i, z in enumerate(sorted(settings["atomic_numbers"]))},
        site_energies=jax.tree_util.Partial(site_energies, arrays),
        facts={
            "energies_are_corrected": False,
            "version": f"nequix {importlib.metadata.version('nequix')}",
            "weights": name,
            "weights_sha256": sha256,
        },
    )


def _import() -> tuple[Any, Any]:
    """The modules equinox and nequix.model, and JAX's configuration as it was before.

    Raises:
        ValueError: If one cannot be imported.
    """
    precision = jax.config.values["jax_default_matmul_precision"]
    try:
        import equinox
        import nequix.model
    except ImportError as error:
        raise ValueError(f"NequIX cannot be imported ({error}): {INSTALL}") from error
    finally:
        # Importing nequix makes all products of the process slow ones; `fire` asks for its own.
        jax.config.update("jax_default_matmul_precision", precision)
    return equinox, nequix.model
