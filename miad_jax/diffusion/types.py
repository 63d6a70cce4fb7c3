"""D3PM with uniform transitions on the atom types (Austin et al., arXiv:2107.03006).

Q̄_t = a_t I + (1−a_t)/K 11ᵀ, so every product with it is a scaling and a constant: no K×K
matrix is ever built. Mirage (type 0) is a type like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion.schedules import LogTable, table, types_keep

LOSS_SCALE = 1000.0
LOSS_FLOOR = 1e-4

Types = Int[Array, "*batch atoms"]
Logits = Float[Array, "*batch atoms types"]
Times = Int[Array, "*#batch #atoms"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TypesNoise:
    """All that is random in one noising of types.

    Attributes:
        uniform: Uniform in [0, 1): decides whether a type is redrawn.
        redrawn: Uniform over the types: what it becomes if so.
    """

    uniform: Float[Array, "*batch atoms"]
    redrawn: Int[Array, "*batch atoms"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniformD3PM:
    """Types that are redrawn uniformly; the network predicts logits of the clean types.

    Attributes:
        keep: a_t, the probability that a type has never been redrawn up to t.
        one_minus_keep: 1 − a_t.
        log_keep: log a_t, of which steps take differences.
    """

    keep: Float[Array, " time"]
    one_minus_keep: Float[Array, " time"]
    log_keep: LogTable

    @classmethod
    def make(cls, num_steps: int) -> UniformD3PM:
        """The published process of T steps.

        Example:
            >>> [round(float(UniformD3PM.make(1000).keep[t]), 2) for t in (-1, 500)]
            [1.0, 0.7]
        """
        keep = types_keep(num_steps)
        return cls(table(keep, 1.0), table(1 - keep, 0.0), LogTable.of(np.log(keep)))

    @property
    def num_steps(self) -> int:
        """T."""
        return self.keep.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Int[Array, " atoms"]:
        """Types uniform over the K."""
        return jax.random.randint(key, (size,), 0, NUM_TYPES, jnp.int32)

    def draw_noise(self, key: Key[Array, " 2"], size: int) -> TypesNoise:
        """Whether types are redrawn, and what they become; `key` holds two keys, one for each."""
        return TypesNoise(
            uniform=jax.random.uniform(key[0], (size,), jnp.float32),
            redrawn=jax.random.randint(key[1], (size,), 0, NUM_TYPES, jnp.int32),
        )

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, " atoms"]:
        """Uniform in [0, 1): the quantile that each atom draws from its posterior."""
        return jax.random.uniform(key, (size,), jnp.float32)

    def transition(self, types_0: Types, t: Times) -> Float[Array, "*batch atoms types"]:
        """q(x_t | x_0) = x_0 Q̄_t: the distribution of the noised type.

        Example:
            >>> probs = UniformD3PM.make(1000).transition(jnp.array([8]), jnp.array([500]))
            >>> probs.shape, int(probs.argmax()), round(float(probs.sum()), 4)
            ((1, 100), 8, 1.0)
        """
        kept = self.keep[t][..., None] * _one_hot(types_0)
        return kept + self.one_minus_keep[t][..., None] / NUM_TYPES

    def add_noise(self, x_0: Types, t: Times, noise: TypesNoise) -> Types:
        """Sample x_t ~ Cat(x_0 Q̄_t): a type is redrawn where `uniform` is below 1 − a_t.

        Example:
            >>> process, t = UniformD3PM.make(1000), jnp.array([500, 500])
            >>> noise = TypesNoise(jnp.array([0.0, 0.99]), jnp.array([26, 26]))
            >>> process.add_noise(jnp.array([8, 8]), t, noise).tolist()
            [26, 8]
        """
        return jnp.where(noise.uniform < self.one_minus_keep[t], noise.redrawn, x_0)

    def renoise(self, x_s: Types, s: Times, t: Times, noise: TypesNoise) -> Types:
        """Redraw types with the probability 1 − a_t/a_s: from any time to a later one.

        Example:
            >>> process, s, t = UniformD3PM.make(1000), jnp.array([0, 0]), jnp.array([500, 500])
            >>> noise = TypesNoise(jnp.array([0.0, 0.99]), jnp.array([26, 26]))
            >>> process.renoise(jnp.array([8, 8]), s, t, noise).tolist()
            [26, 8]
        """
        redrawn = -jnp.expm1(self.log_keep.difference(t, s))
        return jnp.where(noise.uniform < redrawn, noise.redrawn, x_s)

    def posterior(
        self, types_t: Types, probs_0: Float[Array, "*batch atoms types"], t: Times, s: Times
    ) -> Float[Array, "*batch atoms types"]:
        """q(x_s | x_t, x_0) ∝ (x_t Qᵀ) ⊙ (x_0 Q̄_s) (Eq. 3, arXiv:2107.03006).

        Q = (a_t/a_s) I + (1 − a_t/a_s)/K 11ᵀ leads from s to t.

        Args:
            types_t: Noised types.
            probs_0: Clean types as probabilities: one-hot, or the model's x̂_0.
            t: Time of the noised types.
            s: Any earlier time.

        Example:
            >>> clean, t = jax.nn.one_hot(jnp.array([8]), 100), jnp.array([0])
            >>> int(UniformD3PM.make(1000).posterior(jnp.array([26]), clean, t, t - 1).argmax())
            8
        """
        beta = -jnp.expm1(self.log_keep.difference(t, s))[..., None]
        forward = (1 - beta) * _one_hot(types_t) + beta / NUM_TYPES
        prior = self.keep[s][..., None] * probs_0
        joint = forward * (prior + self.one_minus_keep[s][..., None] / NUM_TYPES)
        return joint / joint.sum(-1, keepdims=True)

    def loss(
        self, said: Logits, x_0: Types, x_t: Types, t: Times, noise: TypesNoise
    ) -> Float[Array, "*batch atoms"]:
        """1000 · Σ_k q (log(q + 1e-4) − log(p + 1e-4)) for each atom.

        q is the posterior of the true types one step before t, p that of x̂_0 = softmax(logits). The
        floor is MiAD's, and larger than the probability that most changes of type have in one step:
        the x̂_0 for which this loss is least suppresses them. `cross_entropy` has no floor.

        Example:
            >>> clean, noised, t = jnp.array([8]), jnp.array([26]), jnp.array([500])
            >>> sure, noise = 100 * jax.nn.one_hot(clean, 100), TypesNoise(jnp.zeros(1), noised)
            >>> UniformD3PM.make(1000).loss(sure, clean, noised, t, noise).round(3).tolist()
            [0.0]
        """
        del noise
        q = self.posterior(x_t, _one_hot(x_0), t, t - 1)
        p = self.posterior(x_t, jax.nn.softmax(said), t, t - 1)
        divergence = (q * (jnp.log(q + LOSS_FLOOR) - jnp.log(p + LOSS_FLOOR))).sum(-1)
        return LOSS_SCALE * divergence

    def clean(self, said: Logits, x_t: Types, t: Times) -> Float[Array, "*batch atoms types"]:
        """Log p(x_0 | x_t) ∝ x̂_0 q(x_t | x_0): the model's distribution of the clean type.

        The posterior multiplies x̂_0 = softmax(logits) with the evidence of the atom's own x_t, so
        the x̂_0 for which it is exact is what all the rest of the crystal says of the atom; the
        evidence is added here.

        Example:
            >>> unsure, noised, t = jnp.zeros((1, 100)), jnp.array([8]), jnp.array([0])
            >>> probs = jnp.exp(UniformD3PM.make(1000).clean(unsure, noised, t))
            >>> int(probs.argmax()), bool(probs.max() > 0.99)
            (8, True)
        """
        return jax.nn.log_softmax(said + jnp.log(self.transition(x_t, t)))

    def cross_entropy(
        self, said: Logits, x_0: Types, x_t: Types, t: Times
    ) -> Float[Array, "*batch atoms"]:
        """−log p(x_0 | x_t) of the clean type for each atom.

        It is least where the posterior of x̂_0 is the exact one, as `loss` is without its floor. The
        cross-entropy of D3PM's hybrid loss (Eq. 5, arXiv:2107.03006) takes x̂_0 itself for
        p(x_0 | x_t): the posterior then multiplies with the evidence of x_t twice, and atoms change
        too seldom.

        Example:
            >>> unsure, clean, noised = jnp.zeros((1, 100)), jnp.array([8]), jnp.array([26])
            >>> process, t = UniformD3PM.make(1000), jnp.array([999])
            >>> 4.6 < float(process.cross_entropy(unsure, clean, noised, t).sum()) < 4.7
            True
        """
        return -(_one_hot(x_0) * self.clean(said, x_t, t)).sum(-1)

    def step(
        self, said: Logits, x_t: Types, t: Times, s: Times, noise: Float[Array, "*batch atoms"]
    ) -> Types:
        """Sample x_s from the model's posterior; its mode where s is clean.

        Args:
            said: Logits of the clean types; x̂_0 is their softmax.
            x_t: Noised types.
            t: Their time.
            s: Any earlier time.
            noise: Uniform in [0, 1), one for each atom: the quantile that is drawn.

        Example:
            >>> sure, t = 100 * jax.nn.one_hot(jnp.array([8]), 100), jnp.array([0])
            >>> process, quantile = UniformD3PM.make(1000), jnp.array([0.5])
            >>> process.step(sure, jnp.array([26]), t, t - 1, quantile).tolist()
            [8]
        """
        probs = self.posterior(x_t, jax.nn.softmax(said), t, s)
        drawn = at_quantile(probs, noise)
        return jnp.where(s == -1, jnp.argmax(probs, -1), drawn).astype(x_t.dtype)


def at_quantile(
    probs: Float[Array, "*batch atoms types"], quantile: Float[Array, "*batch atoms"]
) -> Types:
    """The type at a quantile of each atom's distribution: a draw of it where that is uniform.

    Example:
        >>> at_quantile(jnp.array([[0.5, 0.2, 0.3]] * 2), jnp.array([0.4, 0.6])).tolist()
        [0, 1]
    """
    cumulative = jnp.cumsum(probs, axis=-1)
    below = cumulative <= quantile[..., None] * cumulative[..., -1:]
    return jnp.minimum(below.sum(-1), probs.shape[-1] - 1)


def _one_hot(types: Int[Array, "*shape"]) -> Float[Array, "*shape types"]:
    return jax.nn.one_hot(types, NUM_TYPES, dtype=jnp.float32)
