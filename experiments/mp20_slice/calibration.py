"""How many slots are mirage, and how many the network says.

    python -m experiments.mp20_slice.calibration MODEL DIR

MODEL is what `--checkpoint` of `python -m miad_jax.sample` takes, DIR the data set. At some times
it prints, of the slots whose noised type is not 0, the share of mirage atoms, the mean of the
network's x̂_0 for them, and that of p(x_0 | x_t), which has the evidence of the noised type in it.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

import miad_jax

NUM_CRYSTALS, CHUNK = 400, 40
TIMES = (250, 400, 550, 700, 850, 950)


def main(arguments: list[str]) -> None:
    """Print a line for each time."""
    if len(arguments) != 2:
        sys.exit(f"error: two arguments are needed\n\n{__doc__}")
    model = miad_jax.load_model(arguments[0])
    diffusion, num_atoms = model.diffusion, model.config.infusion.num_atoms
    crystals, _ = miad_jax.load_dataset(arguments[1], "val")
    largest = model.config.data.max_num_atoms or num_atoms
    chosen = np.flatnonzero(np.asarray(crystals.mask).sum(1) <= largest)[:NUM_CRYSTALS]
    clean = crystals[chosen]
    clean = miad_jax.Crystal(
        clean.lattice, *(x[:, :largest] for x in (clean.frac_coords, clean.atom_types, clean.mask))
    )
    infused = miad_jax.infuse(jax.random.key(1), clean, num_atoms)
    mirage = ~np.asarray(miad_jax.real_atom_mask(infused))
    denoise = jax.jit(model.denoise)
    print("t     mirage  x̂_0  p(x_0 | x_t), of slots with a noised type other than 0")
    for time in TIMES:
        rows = jnp.full(len(infused), time)
        noised, _ = miad_jax.add_noise(diffusion, jax.random.key(time), infused, rows)
        parts = [slice(i, i + CHUNK) for i in range(0, len(infused), CHUNK)]
        logits = jnp.concatenate([denoise(noised[i], rows[i]).types for i in parts])
        found = diffusion.types.clean(logits, noised.atom_types, rows[:, None])
        seems_real = np.asarray(noised.atom_types) > 0
        shares = (mirage, jax.nn.softmax(logits)[..., 0], jnp.exp(found[..., 0]))
        print(time, *(f"{np.asarray(share)[seems_real].mean():.3f}" for share in shares), sep="   ")


if __name__ == "__main__":
    main(sys.argv[1:])
