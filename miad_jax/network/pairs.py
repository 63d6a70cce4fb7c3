"""What stands between two tokens: direction and distance of two atoms, once for all layers."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.network.cell import gram_matrix
from miad_jax.network.embeddings import fourier_features, mirror_pairs, pair_differences
from miad_jax.network.layers import Linear, activations, normalised, silu

IMAGES = np.array(list(itertools.product((-1, 0, 1), repeat=3)), np.float32)
"""The cell itself and its 26 neighbours."""

NUM_GAUSSIANS = 20
FAR = 3.2
"""asinh of the longest distance that the Gaussians tell from longer ones: 12 Å."""


def shortest_distances(
    difference: Float[Array, "batch pairs 3"], lattice: Float[Array, "batch 3 3"]
) -> Float[Array, "batch pairs"]:
    """Distance in Å to the nearest of 27 images, exact for cells that are not very skewed.

    d² = (f + n)ᵀ G (f + n) with f in [−1/2, 1/2], multiplied out, so that no array holds the
    vectors to all images.
    """
    gram = gram_matrix(lattice)
    f = difference - jnp.round(difference)
    along = jnp.einsum("bpi,bij->bpj", f, gram, precision="highest")
    images = jnp.einsum("ni,bij,nj->bn", IMAGES, gram, IMAGES, precision="highest")
    crossed = jnp.einsum("bpj,nj->bpn", along, IMAGES, precision="highest")
    shift = (2 * crossed + images[:, None]).min(-1)
    # The square root stays smooth where two atoms meet.
    return jnp.sqrt(jnp.maximum((f * along).sum(-1) + shift, 0) + 1e-4)


def gaussians(distance: Float[Array, "batch pairs"]) -> Float[Array, "batch pairs gaussians"]:
    """Gaussians of asinh of a distance in Å, evenly spread up to `FAR`, as wide as their spacing.

    They are 0.2 Å apart at contact and 0.5 Å at 2.5 Å.
    """
    centres, width = np.linspace(0, FAR, NUM_GAUSSIANS, dtype=np.float32, retstep=True)
    return jnp.exp(-0.5 * jnp.square((jnp.arcsinh(distance)[..., None] - centres) / width))


class PairFeatures(nn.Module):
    """Channels of every pair of tokens: p_ij = MLP(waves ‖ Gaussians) + Linear(c), normalised.

    The first token is the cell: its pairs hold a learned vector, as do an atom's with itself.
    The waves are sin and cos of 2πk(f_j − f_i), k = 1 … num_freqs. Sines are odd and the rest is
    even under i ↔ j, so that the first product is of pairs i < j only.

    Attributes:
        pair_dim: Number of channels.
        num_freqs: Frequencies in each direction.
        dtype: Precision of matrix products and channels.
    """

    pair_dim: int
    num_freqs: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        frac_coords: Float[Array, "batch atoms 3"],
        lattice: Float[Array, "batch 3 3"],
        c: Float[Array, "batch hidden"],
    ) -> Float[Array, "batch tokens tokens {self.pair_dim}"]:
        """The channels of all pairs, [i, j] for what i hears of j."""
        (batch, num_atoms, _), width, dtype = frac_coords.shape, self.pair_dim, self.dtype
        kept = activations(dtype)
        difference = pair_differences(frac_coords)
        sine, cosine = (x.astype(kept) for x in fourier_features(difference, self.num_freqs, 1))
        near = gaussians(shortest_distances(difference, lattice)).astype(kept)
        fan_in = 2 * sine.shape[-1] + near.shape[-1]
        even = Linear(width, fan_in, False, dtype, name="cosine")(cosine)
        even += Linear(width, fan_in, True, dtype, name="distance")(near)
        odd = Linear(width, fan_in, False, dtype, name="sine")(sine)
        itself = self.param("itself", nn.initializers.normal(1.0), (width,))
        edges = silu(mirror_pairs(even, odd, itself.astype(kept)))
        edges = Linear(width, dtype=dtype, name="out")(edges)
        pairs = jnp.pad(
            edges.reshape(batch, num_atoms, num_atoms, width), ((0, 0), (1, 0), (1, 0), (0, 0))
        )
        ends = self.param("with_cell", nn.initializers.normal(1.0), (3, width))
        with_cell = jnp.einsum("kij,kc->ijc", _pairs_with_cell(num_atoms), ends)
        told = Linear(width, name="c")(c)[:, None, None] + with_cell
        return normalised(pairs + told.astype(kept))


def _pairs_with_cell(num_atoms: int) -> Float[np.ndarray, "3 tokens tokens"]:
    """1 where the cell hears an atom, an atom the cell, and the cell itself."""
    which = np.zeros((3, num_atoms + 1, num_atoms + 1), np.float32)
    which[0, 0, 1:] = which[1, 1:, 0] = which[2, 0, 0] = 1
    return which
