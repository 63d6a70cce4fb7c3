"""A transformer over the atoms and the cell of a crystal, with pair-biased attention.

Every atom slot is a token, mirage atoms among them, and the cell is one more. A pair of atoms
costs `pair_dim` channels instead of a message as wide as the network. Parts of a crystal may have
times of their own. Permutation equivariant, invariant under translations modulo 1; a rotated or
reflected lattice gives the rotated or reflected ε̂, and the same coordinates and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.condition import Condition, Times
from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.network.attention import Block
from miad_jax.network.base import power_of_two_below, register
from miad_jax.network.cell import NUM_FEATURES, along_cell, cell_features, polar
from miad_jax.network.embeddings import time_embedding
from miad_jax.network.layers import Linear, normalised, silu
from miad_jax.network.pairs import NUM_GAUSSIANS, PairFeatures
from miad_jax.network.properties import PropertyEmbedding, refuse_unknown, told_properties


@register("transformer")
class Transformer(nn.Module):
    """The network: crystals and the times of their parts in, `Prediction` out.

    A vector c of the lattice's time, the invariants of the cell and the properties conditions
    every layer; the times of an atom's coordinates and type are added to its token.

    Attributes:
        hidden_dim: Width of a token.
        num_layers: Number of layers.
        num_heads: Heads of the attention; divides `hidden_dim`.
        pair_dim: Channels of a pair of tokens.
        num_freqs: Frequencies of a pair's sines and cosines in each direction.
        time_dim: Width of the time embedding.
        num_steps: T of the diffusion process whose times the network is told.
        dtype: Precision of matrix products and pairs; parameters, norms, softmax, the tokens
            between layers, c and the output are float32. On a CPU it is that of products' factors.
        properties: Names of the properties that the network is told.

    Example:
        >>> net = miad_jax.Transformer(hidden_dim=16, num_layers=2, num_heads=2, pair_dim=8)
        >>> params = jax.jit(net.init_params)(jax.random.key(0))
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> jax.jit(net.denoise)(params, crystals[:2], jnp.array([0, 999])).types.shape
        (2, 20, 100)
    """

    takes_times: ClassVar[bool] = True

    hidden_dim: int = 256
    num_layers: int = 8
    num_heads: int = 8
    pair_dim: int = 48
    num_freqs: int = 16
    time_dim: int = 256
    num_steps: int = 1000
    dtype: jnp.dtype = jnp.float32
    properties: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self, crystal: Crystal, times: Times, properties: Mapping[str, Float[Array, " batch"]]
    ) -> Prediction:
        """Predict the noise of a batch of crystals.

        Args:
            crystal: Crystals with one batch dimension.
            times: Time of each part.
            properties: A value of each of `self.properties`, NaN where unknown.
        """
        stretch, frame = polar(crystal.lattice)
        cell = cell_features(crystal.lattice, stretch)
        cell = jnp.concatenate([self._embedded(times.lattice), cell], -1)
        c = self._condition(cell, properties)
        moment = jnp.concatenate([self._embedded(times.coords), self._embedded(times.types)], -1)
        moment = Linear(self.hidden_dim, name="atom_time")(moment)
        # Whatever stands in padding, NaN included, must not reach a gradient.
        atoms = self._typed(jnp.where(crystal.mask, crystal.atom_types, 0)) + moment
        h = jnp.concatenate([Linear(self.hidden_dim, name="cell_token")(cell)[:, None], atoms], 1)
        pairs = PairFeatures(self.pair_dim, self.num_freqs, self.dtype, name="pairs")(
            jnp.where(crystal.mask[..., None], crystal.frac_coords, 0), crystal.lattice, c
        )
        biases = self._biases(pairs, crystal.mask)
        for k in range(self.num_layers):
            block = Block(self.hidden_dim, self.num_heads, self.dtype, name=f"layer_{k}")
            h = block(h, silu(c), biases[k], pairs)

        told = silu(jnp.concatenate([c[:, None], c[:, None] + moment], 1))
        told = Linear(2 * self.hidden_dim, zero=True, name="final_adaptive")(told)
        shift, scale = jnp.split(told, 2, -1)
        h = normalised(h) * (1 + scale) + shift
        lattice = along_cell(self._cell_out(h[:, 0], c), crystal.lattice, frame)
        out = Linear(NUM_TYPES + 3, name="atoms_out")(h[:, 1:])
        out = jnp.where(crystal.mask[..., None], out, 0)
        is_empty = ~crystal.mask.any(1)[:, None, None]
        return Prediction(jnp.where(is_empty, 0, lattice), out[..., :3], out[..., 3:])

    def _condition(self, cell: Array, properties: Mapping[str, Array]) -> Array:
        """C, what conditions every layer."""
        c = silu(Linear(self.hidden_dim, name="condition_in")(cell))
        c = Linear(self.hidden_dim, name="condition_out")(c)
        if self.properties:
            c = c + PropertyEmbedding(self.hidden_dim, name="properties")(properties)
        return c

    def _typed(self, atom_types: Array) -> Array:
        """A vector for each type."""
        types = jax.nn.one_hot(atom_types, NUM_TYPES)
        types = Linear(self.hidden_dim, use_bias=False, dtype=self.dtype, name="atom_type")(types)
        return types.astype(jnp.float32)

    def _cell_out(self, token: Array, c: Array) -> Array:
        """The coefficients of ε̂, by an MLP of the cell's own: what it shares serves the atoms."""
        x = jnp.concatenate([token, c], -1)
        x = silu(Linear(2 * self.hidden_dim, name="lattice_in")(x))
        x = silu(Linear(2 * self.hidden_dim, name="lattice_hidden")(x))
        return Linear(18, zero=True, name="lattice_out")(x)

    def _embedded(self, time: Int[Array, "*parts"]) -> Float[Array, "*parts {self.time_dim}"]:
        return time_embedding(time, self.num_steps, self.time_dim)

    def _biases(self, pairs: Array, mask: Array) -> Array:
        """The attention's biases, [layers, batch, heads, i, j], in one product."""
        batch, size = pairs.shape[:2]
        there = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)[:, None, None, None]
        shape = batch, size, size, self.num_layers, self.num_heads
        biases = Linear(shape[3] * shape[4], dtype=self.dtype, name="biases")(pairs)
        biases = biases.reshape(shape).transpose(3, 0, 4, 1, 2)
        return jnp.where(there[None, :, 0], biases, -jnp.inf)

    def init_params(self, key: PRNGKeyArray) -> dict:
        """Fresh parameters, a pytree of float32 arrays."""
        crystal = Crystal(
            lattice=jnp.eye(3)[None],
            frac_coords=jnp.zeros((1, 2, 3)),
            atom_types=jnp.ones((1, 2), jnp.int32),
            mask=jnp.ones((1, 2), bool),
        )
        properties = told_properties(self.properties, None, (1,))
        time = Times.same(jnp.zeros(1, jnp.int32), 2)
        return self.init(key, crystal, time, properties)["params"]

    def denoise(
        self,
        params: dict,
        crystal: Crystal,
        time: Int[Array, "*batch"] | Times,
        condition: Condition | None = None,
    ) -> Prediction:
        """Predict the noise; `jax.tree_util.Partial(net.denoise, params)` is a denoiser.

        It has gradients in reverse mode only: products and activations have hand-written ones.

        Args:
            params: The network's parameters.
            crystal: One crystal, or one batch dimension of them.
            time: Integer time of the process, 0 … num_steps − 1, or `Times` of the parts of each
                crystal, where −1 is known.
            condition: Values of the network's properties; what is not given is unknown.

        Returns:
            The prediction, with the crystal's shapes; 0 on padding.

        Raises:
            ValueError: If properties are asked that the network is not told.
        """
        crystal, time = jax.tree.map(jnp.asarray, (crystal, time))
        if not crystal.batch_shape:
            batch: Any = jax.tree.map(lambda x: x[None], (crystal, time, condition))
            return jax.tree.map(lambda x: x[0], self.denoise(params, *batch))
        times = time if isinstance(time, Times) else Times.same(time, crystal.size)
        refuse_unknown("Transformer", self.properties, condition)
        properties = told_properties(self.properties, condition, crystal.batch_shape)
        said = self.apply({"params": params}, crystal, times, properties)
        assert isinstance(said, Prediction)
        return said

    def flops(self, num_atoms: int) -> float:
        """Operations of matrix products in one pass over one crystal.

        The parts are layers, pairs, the atoms' inputs and outputs, and what is of the cell alone.
        """
        width, pair, tokens = self.hidden_dim, self.pair_dim, num_atoms + 1
        # Queries, keys, values, the path out of values and the MLP; the path out of pairs.
        layer = tokens * width * (10 * width + self.num_heads * pair)
        # Logits, values, channels, biases; and the adaptive norms.
        layer += tokens**2 * (2 * width + 2 * self.num_heads * pair) + 6 * width**2
        pairs = num_atoms * (num_atoms - 1) / 2 * pair * (6 * self.num_freqs + NUM_GAUSSIANS)
        pairs += (num_atoms * pair) ** 2 + width * pair
        atoms = num_atoms * width * (2 * self.time_dim + 2 * NUM_TYPES + 3)
        atoms += tokens * 2 * width**2
        cell = width * (2 * (self.time_dim + NUM_FEATURES) + 9 * width + 36)
        return 2.0 * (self.num_layers * layer + pairs + atoms + cell)

    def chunk_size(self, num_atoms: int, backend: str) -> int:
        """Crystals at once: on a CPU an array of their tokens stays in the cache, some 0.5 MB.

        Elsewhere what a training step keeps of them is some 5 GB in float32.

        Args:
            num_atoms: Atom slots of a crystal.
            backend: What `jax.default_backend()` says.
        """
        tokens = num_atoms + 1
        if backend == "cpu":
            return power_of_two_below(16 * 26 * 256 // (tokens * self.hidden_dim))
        layer = 16 * tokens * self.hidden_dim + 4 * tokens**2 * self.num_heads
        kept = self.num_layers * layer + 4 * tokens**2 * self.pair_dim
        return power_of_two_below(1_250_000_000 // kept)
