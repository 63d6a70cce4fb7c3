"""A distribution of crystals of two atoms whose denoiser is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from miad_jax.crystal import NUM_TYPES, UNDECIDED, Prediction
from miad_jax.diffusion.coords import negative_score

LATTICE_MEAN = 4 * np.eye(3) + np.array([[0, 0.5, 0], [0, 0, -1.0], [0.3, 0, 0]])
LATTICE_STD = 0.5
CENTERS = np.array([[0.99, 0.5, 0.2], [0.3, 0.01, 0.75]])
COORDS_STD = 0.03
PAIRS = ((6, 0), (8, 13))
"""Carbon and a mirage atom, or oxygen and aluminium: the types of the two slots are bound."""
PAIR_PROBS = (0.7, 0.3)


def exact_types(full, crystal, time, likelihood=1.0):
    """Logits of the types; `likelihood` is what else is known of each pair [batch, pair, 1]."""
    # With p(x_s | x_t) ∝ (x_t Qᵀ) ⊙ (x̂_0 Q̄_s), x̂_0 is what the *other* atom says of this one.
    pairs = jnp.asarray(PAIRS)
    keep, redrawn = (
        column[time][:, None, None]
        for column in (full.types.keep, full.types.one_minus_keep / NUM_TYPES)
    )
    evidence = keep * (crystal.atom_types[:, None] == pairs) + redrawn  # [batch, pair, slot]
    return _of_the_other(evidence, likelihood)


def exact_types_masked(crystal):
    """The same of masked types: an atom that is decided tells the other's, and is told nothing."""
    types = crystal.atom_types[:, None]
    evidence = (types == jnp.asarray(PAIRS)) | (types == UNDECIDED)
    return jnp.where(
        (crystal.atom_types == UNDECIDED)[..., None], _of_the_other(evidence.astype("float32")), 7.0
    )


def _of_the_other(evidence, likelihood=1.0):
    weight = jnp.asarray(PAIR_PROBS)[:, None] * evidence[:, :, ::-1] * likelihood
    probs_0 = jnp.einsum("bps,psk->bsk", weight, jax.nn.one_hot(jnp.asarray(PAIRS), NUM_TYPES))
    return jnp.log(probs_0)


WAYS = (np.arange(128) + 0.5) / 128 - 0.5
"""Ways on the torus, at which integrals over all of them are taken."""


def mean_way(displacement, tau, xp=jnp):
    """E[d | x_t] of a flow, where x_0 is normal of `COORDS_STD` and x_t so far off its mean.

    Given d, x_t is a wrapped normal about the mean plus τ d, and d is uniform.
    """
    left = displacement[..., None] - tau[..., None] * xp.asarray(WAYS, displacement.dtype)
    images = left[..., None] + xp.arange(-2, 3, dtype=left.dtype)
    weight = xp.exp(-0.5 * xp.square(images / COORDS_STD)).sum(-1)
    return (weight * xp.asarray(WAYS, weight.dtype)).sum(-1) / weight.sum(-1)


def exact_flow(full, crystal, time):
    """The best possible prediction of a flow of the coordinates."""
    displacement = crystal.frac_coords - jnp.asarray(CENTERS, jnp.float32)
    displacement = displacement - jnp.round(displacement)
    tau = jnp.broadcast_to(full.coords.tau[time][:, None, None], displacement.shape)
    return mean_way(displacement, tau) * 12**0.5


def exact_denoise(full, crystal, time):
    """The best possible prediction, from the tables of the full process."""
    alpha_bar = full.lattice.alpha_bar[time][:, None, None]
    noise_variance = full.lattice.one_minus_alpha_bar[time][:, None, None]
    centred = crystal.lattice - jnp.sqrt(alpha_bar) * jnp.asarray(LATTICE_MEAN, jnp.float32)
    eps_hat = jnp.sqrt(noise_variance) * centred / (alpha_bar * LATTICE_STD**2 + noise_variance)

    # Noise widens the wrapped normal of the data: it stays a wrapped normal.
    displacement = crystal.frac_coords - jnp.asarray(CENTERS, jnp.float32)
    width = jnp.sqrt(COORDS_STD**2 + jnp.square(full.coords.sigma[time]))[:, None, None]
    score = negative_score(displacement, jnp.broadcast_to(width, displacement.shape))
    rms = jnp.sqrt(full.coords.score_sq_mean[time])[:, None, None]

    return Prediction(lattice=eps_hat, coords=score / rms, types=exact_types(full, crystal, time))


def exact_denoise_of_mirage(full, crystal, time):
    """As above, but that a mirage atom is uniform in the cell: what MiAD's loss teaches of that.

    The coordinates' score is that of an atom that is real.
    """
    plain = exact_denoise(full, crystal, time)
    width = jnp.sqrt(COORDS_STD**2 + jnp.square(full.coords.sigma[time]))[:, None, None]
    displacement = crystal.frac_coords[:, 1] - jnp.asarray(CENTERS[1], jnp.float32)
    image = jnp.arange(-3.0, 4.0)
    normal = jnp.exp(-0.5 * jnp.square((displacement[..., None] + image) / width)) / width
    density = (normal.sum(-1) / jnp.sqrt(2 * jnp.pi)).prod(-1)  # against that of a mirage atom, 1
    likelihood = jnp.stack([jnp.ones_like(density), density], -1)[..., None]
    return Prediction(plain.lattice, plain.coords, exact_types(full, crystal, time, likelihood))
