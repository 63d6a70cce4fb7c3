"""Discrete flow matching of the atom types (Campbell et al., arXiv:2402.04997), uniform at first.

A type is the clean one with the probability 1 − τ_t, and else uniform: that is the noise of
`UniformD3PM`, at a linear schedule. Sampling draws the clean type from what the network says of it,
and jumps there. An atom waits or jumps, where D3PM redraws types at random on the way too. Mirage
(type 0) is a type like any other.

Differs from FlowMM (arXiv:2406.04713) and CrystalFlow (arXiv:2412.11693), whose types flow as real
numbers that are read in the end: bits, and a code of row and column in the periodic table. A
noised type is a whole number here, as all networks and controls take it.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.diffusion.schedules import LogTable, linear_share, share, table
from miad_jax.diffusion.types import Logits, Times, Types, TypesNoise, UniformD3PM, at_quantile

SMALLEST_KEEP = 1e-12
"""Stands for 0 at T−1, which has no logarithm."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TypesFlow(UniformD3PM):
    """Types that jump to their clean values; the network predicts logits of these.

    The softmax of the logits is what all the rest of the crystal says of an atom, as with
    `UniformD3PM`; the evidence of its own noised type is multiplied in `clean`.

    Differs from Campbell et al., whose network says all of p(x_0 | x_t).
    """

    @classmethod
    def make(cls, num_steps: int) -> TypesFlow:
        """The process of T steps, with a_t = 1 − τ_t and τ_t = (t + 1)/T: at T−1 all is uniform.

        Example:
            >>> [round(float(TypesFlow.make(1000).keep[t]), 3) for t in (-1, 0, 499, 999)]
            [1.0, 0.999, 0.5, 0.0]
        """
        tau = linear_share(num_steps)
        keep = np.maximum(1 - tau, SMALLEST_KEEP)
        return cls(table(keep, 1.0), table(tau, 0.0), LogTable.of(np.log(keep)))

    def loss(
        self, said: Logits, x_0: Types, x_t: Types, t: Times, noise: TypesNoise
    ) -> Float[Array, "*batch atoms"]:
        """The cross-entropy: it is all that the flow is taught by.

        Example:
            >>> clean, noised, t = jnp.array([8]), jnp.array([26]), jnp.array([500])
            >>> sure, noise = 100 * jax.nn.one_hot(clean, 100), TypesNoise(jnp.zeros(1), noised)
            >>> bool(TypesFlow.make(1000).loss(sure, clean, noised, t, noise).max() < 1e-3)
            True
        """
        del noise
        return self.cross_entropy(said, x_0, x_t, t)

    def progress(self, t: Times, s: Times) -> Float[Array, "*times"]:
        """(τ_t − τ_s)/τ_t: which share of atoms a step from t to s moves to their clean types.

        Example:
            >>> process, t = TypesFlow.make(1000), jnp.array([499, 499])
            >>> process.progress(t, jnp.array([249, -1])).tolist()
            [0.5, 1.0]
        """
        tau = self.one_minus_keep
        return share(tau[t] - tau[s], tau[t])

    def step(
        self, said: Logits, x_t: Types, t: Times, s: Times, noise: Float[Array, "*batch atoms"]
    ) -> Types:
        """Draw the clean type and jump there with the probability p = (τ_t − τ_s)/τ_t; or stay.

        Over the noise that leads from x_0 to x_t, the result is of q(x_s | x_0), for steps of any
        length. An atom whose uniform number u is below p jumps, and u/p is the quantile that it
        draws: to 1e-7/p, as u is of float32. Where s is clean all jump, to the mode.

        Args:
            said: Logits of the clean types.
            x_t: Noised types.
            t: Their time.
            s: Any earlier time.
            noise: u, uniform in [0, 1), one for each atom.

        Example:
            >>> sure, t = 100 * jax.nn.one_hot(jnp.array([8, 8]), 100), jnp.array([499, 499])
            >>> process, noise = TypesFlow.make(1000), jnp.array([0.1, 0.9])
            >>> process.step(sure, jnp.array([26, 26]), t, t - 250, noise).tolist()
            [8, 26]
        """
        chance = self.progress(t, s)
        log_probs = self.clean(said, x_t, t)
        drawn = at_quantile(jnp.exp(log_probs), share(noise, chance))
        types = jnp.where(s == -1, jnp.argmax(log_probs, -1), drawn)
        return jnp.where(noise < chance, types, x_t).astype(x_t.dtype)
