"""Masked discrete diffusion of the atom types: an atom's type is hidden, and then decided once.

D3PM with an absorbing state (Austin et al., arXiv:2107.03006), in the simple form of Shi et al.
(arXiv:2406.04329) and Sahoo et al. (arXiv:2406.07524). The mask is a state of its own,
`UNDECIDED`, and not mirage: an atom that is not decided yet may become either. A type that is
decided is clean, so the network is asked of undecided atoms alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from miad_jax.crystal import NUM_TYPES, UNDECIDED
from miad_jax.diffusion.schedules import linear_share, share, table
from miad_jax.diffusion.types import Logits, Times, Types, at_quantile

IMPOSSIBLE = -1e9
"""The log-probability of types that a decided atom does not have: 0 as a probability."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskedTypes:
    """Types that are hidden one after the other; the network predicts logits of the clean types.

    Attributes:
        masked: m_t = 1 − a_t, the probability that a type is hidden at t; 0 in the clean row.
    """

    masked: Float[Array, " time"]

    @classmethod
    def make(cls, num_steps: int) -> MaskedTypes:
        """The process of T steps with the linear schedule m_t = (t + 1)/T: at T−1 all are hidden.

        Example:
            >>> [round(float(MaskedTypes.make(1000).masked[t]), 3) for t in (-1, 0, 499, 999)]
            [0.0, 0.001, 0.5, 1.0]
        """
        return cls(table(linear_share(num_steps), 0.0))

    @property
    def num_steps(self) -> int:
        """T."""
        return self.masked.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Int[Array, " atoms"]:
        """All types undecided, whatever the key."""
        return jnp.full((size,), UNDECIDED, jnp.int32)

    def draw_noise(self, key: Key[Array, " 2"], size: int) -> Float[Array, " atoms"]:
        """Uniform in [0, 1): whether types are hidden; from the first of the two keys."""
        return jax.random.uniform(key[0], (size,), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, " atoms"]:
        """Uniform in [0, 1): whether each atom is decided, and the quantile that it draws."""
        return jax.random.uniform(key, (size,), jnp.float32)

    def add_noise(self, x_0: Types, t: Times, noise: Float[Array, "*batch atoms"]) -> Types:
        """Hide a type with the probability m_t.

        Example:
            >>> process, t = MaskedTypes.make(1000), jnp.array([499, 499])
            >>> process.add_noise(jnp.array([8, 8]), t, jnp.array([0.4, 0.6])).tolist()
            [100, 8]
        """
        return jnp.where(noise < self.masked[t], UNDECIDED, x_0)

    def renoise(self, x_s: Types, s: Times, t: Times, noise: Float[Array, "*batch atoms"]) -> Types:
        """Hide a type with the probability 1 − a_t/a_s = (m_t − m_s)/(1 − m_s).

        Example:
            >>> process, s, t = MaskedTypes.make(1000), jnp.array([499] * 3), jnp.array([749] * 3)
            >>> process.renoise(jnp.array([8, 8, 100]), s, t, jnp.array([0.4, 0.6, 0.6])).tolist()
            [100, 8, 100]
        """
        return jnp.where(
            noise < share(self.masked[t] - self.masked[s], 1 - self.masked[s]), UNDECIDED, x_s
        )

    def loss(
        self, said: Logits, x_0: Types, x_t: Types, t: Times, noise: Float[Array, "*batch atoms"]
    ) -> Float[Array, "*batch atoms"]:
        """T (a_{t−1} − a_t)/(1 − a_t) times the cross-entropy of an undecided atom; 0 of others.

        Its mean over all times and atoms, decided ones too, is the variational bound of T steps:
        the nats that the clean type of an atom costs at most (Shi et al.).

        Example:
            >>> process, unsure = MaskedTypes.make(1000), jnp.zeros((2, 100))
            >>> clean, noised, t = jnp.array([8, 8]), jnp.array([100, 8]), jnp.array([499, 499])
            >>> losses = process.loss(unsure, clean, noised, t, jnp.zeros(2))
            >>> [round(float(x), 2) for x in losses]
            [9.21, 0.0]
        """
        del noise
        decided = self.num_steps * self.progress(t, t - 1)
        return decided * self.cross_entropy(said, x_0, x_t, t)

    def clean(self, said: Logits, x_t: Types, t: Times) -> Float[Array, "*batch atoms types"]:
        """Log p(x_0 | x_t): what the network says of an undecided atom, and x_t itself of others.

        Example:
            >>> sure = 100 * jax.nn.one_hot(jnp.array([8, 8]), 100)
            >>> process, t = MaskedTypes.make(1000), jnp.array([499, 499])
            >>> process.clean(sure, jnp.array([100, 26]), t).argmax(-1).tolist()
            [8, 26]
        """
        del t
        own = x_t[..., None] == jnp.arange(NUM_TYPES, dtype=x_t.dtype)
        undecided = (x_t == UNDECIDED)[..., None]
        return jnp.where(undecided, jax.nn.log_softmax(said), jnp.where(own, 0.0, IMPOSSIBLE))

    def cross_entropy(
        self, said: Logits, x_0: Types, x_t: Types, t: Times
    ) -> Float[Array, "*batch atoms"]:
        """−log p(x_0 | x_t) of the clean type of an undecided atom; 0 of others, which tell it.

        So its mean over all atoms, decided ones too, is what the types cost that are not known yet.

        Example:
            >>> process, unsure = MaskedTypes.make(1000), jnp.zeros((2, 100))
            >>> clean, noised, t = jnp.array([8, 8]), jnp.array([100, 8]), jnp.array([499, 499])
            >>> costs = process.cross_entropy(unsure, clean, noised, t)
            >>> [round(float(x), 2) for x in costs]
            [4.61, 0.0]
        """
        del t
        clean = jax.nn.one_hot(x_0, NUM_TYPES, dtype=jnp.float32)
        cost = -(clean * jax.nn.log_softmax(said)).sum(-1)
        return jnp.where(x_t == UNDECIDED, cost, 0)

    def progress(self, t: Times, s: Times) -> Float[Array, "*times"]:
        """(a_s − a_t)/(1 − a_t): which share of undecided atoms a step from t to s decides.

        Example:
            >>> process, t = MaskedTypes.make(1000), jnp.array([499, 499])
            >>> process.progress(t, jnp.array([249, -1])).tolist()
            [0.5, 1.0]
        """
        return share(self.masked[t] - self.masked[s], self.masked[t])

    def step(
        self, said: Logits, x_t: Types, t: Times, s: Times, noise: Float[Array, "*batch atoms"]
    ) -> Types:
        """Decide undecided atoms with the probability p = (a_s − a_t)/(1 − a_t); others stay.

        An atom whose uniform number u is below p is decided, and u/p, which is uniform again, is
        the quantile that it draws of softmax(logits): to 1e-7/p, as u is of float32. Where s is
        clean all are decided, by the mode.

        Args:
            said: Logits of the clean types.
            x_t: Noised types.
            t: Their time.
            s: Any earlier time.
            noise: u, uniform in [0, 1), one for each atom.

        Example:
            >>> sure, t = 100 * jax.nn.one_hot(jnp.array([8, 8]), 100), jnp.array([499, 499])
            >>> process, noise = MaskedTypes.make(1000), jnp.array([0.1, 0.9])
            >>> process.step(sure, jnp.array([100, 100]), t, t - 250, noise).tolist()
            [8, 100]
        """
        chance = self.progress(t, s)
        drawn = at_quantile(jax.nn.softmax(said), share(noise, chance))
        types = jnp.where(s == -1, jnp.argmax(said, -1), drawn)
        decided = (x_t == UNDECIDED) & (noise < chance)
        return jnp.where(decided, types, x_t).astype(x_t.dtype)
