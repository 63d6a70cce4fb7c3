"""Draw the samples of a point, and judge them: each is a file, made once."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from experiments.few_steps.points import RELAXED, Point
from miad_jax.crystal import MIRAGE, Crystal
from miad_jax.data.formats import npz_bytes
from miad_jax.diffusion.keys import sample_keys
from miad_jax.model import load_model
from miad_jax.parallel.progress import TerminalProgress
from miad_jax.sampling import Sampler, draw_num_atoms
from miad_jax.storage.files import write_atomically

ARRAYS = ("lattice", "frac_coords", "atom_types", "mask")


def draw(weights: str, point: Point, num: int, path: Path) -> None:
    """Draw samples with seed 0 and write their arrays to `path`, unless they are there.

    Args:
        weights: Weights of the package.
        point: Solver and number of evaluations.
        num: Number of samples.
        path: The .npz to write.
    """
    if path.exists():
        return
    model = load_model(weights)
    infused = model.config.infusion.enabled
    size = model.config.infusion.num_atoms if infused else len(model.histogram) - 1
    sampler = Sampler(
        model.diffusion, model.denoise, size, solver=point.solver, control=point.control
    )
    keys = sample_keys(jax.random.key(0), np.arange(num))
    num_atoms = np.full(num, size) if infused else draw_num_atoms(keys, model.histogram)
    with TerminalProgress().bar(path.stem, num, "samples") as bar:
        crystals, _ = sampler.draw(keys, num_atoms, bar=bar)
    arrays = {name: np.asarray(getattr(crystals, name)) for name in ARRAYS}
    write_atomically(path, npz_bytes(arrays))


def judge(path: Path, point: Point, infused: bool, reference: str, relaxed: int, out: Path) -> None:
    """Evaluate the samples of a file; a report that is complete stays as it is.

    Args:
        path: As `draw` writes it.
        point: What drew it.
        infused: Whether mirage atoms are none; in the baseline they make a sample fail.
        reference: The data set.
        relaxed: So many of the first samples are relaxed, if the point is one of `RELAXED`.
        out: Folder of the report.
    """
    from miad_jax.evaluation import evaluate

    with np.load(path) as file:
        crystals = Crystal(*(file[name] for name in ARRAYS))
    samples: list[Crystal | None] = [crystals[i] for i in range(len(crystals))]
    if not infused:
        failed = ((crystals.atom_types == MIRAGE) & crystals.mask).any(-1)
        samples = [None if failed[i] else sample for i, sample in enumerate(samples)]
    relaxes = relaxed > 0 and (point.name, point.evaluations) in RELAXED
    energies = {"calculator": "chgnet", "num_relaxed": relaxed} if relaxes else {}
    evaluate(samples, reference, out=out, progress=True, **({"calculator": "none"} | energies))
