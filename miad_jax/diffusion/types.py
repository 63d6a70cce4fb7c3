"""D3PM with uniform transitions on the atom types (Austin et al., arXiv:2107.03006).

Q̄_t = a_t I + (1−a_t)/K 11ᵀ, so every product with it is a scaling and a constant: no K×K
matrix is ever built. Mirage (type 0) is a type like any other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion.schedules import TypesSchedule

LOSS_SCALE = 1000.0
LOSS_FLOOR = 1e-4


def transition(
    schedule: TypesSchedule, types_0: Int[Array, "*batch atoms"], t: Int[Array, "*#batch"]
) -> Float[Array, "*batch atoms types"]:
    """q(x_t | x_0) = x_0 Q̄_t: the distribution of the noised type.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> probs = transition(schedule, jnp.array([8]), jnp.int32(500))
        >>> probs.shape, int(probs.argmax()), round(float(probs.sum()), 4)
        ((1, 100), 8, 1.0)
    """
    keep, redrawn = _row(schedule.keep, t), _row(schedule.one_minus_keep, t)
    return keep[..., None] * _one_hot(types_0) + redrawn[..., None] / NUM_TYPES


def add_noise(
    schedule: TypesSchedule,
    types_0: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch"],
    uniform: Float[Array, "*batch atoms"],
    redrawn: Int[Array, "*batch atoms"],
) -> Int[Array, "*batch atoms"]:
    """Sample x_t ~ Cat(x_0 Q̄_t) from given noise.

    Args:
        schedule: The noise schedule.
        types_0: Clean types.
        t: Row of the schedule.
        uniform: Uniform in [0, 1): the type is redrawn where it is below 1 − a_t.
        redrawn: Uniform over the types: what it becomes then.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> t, low, high = jnp.int32(500), jnp.array([0.0]), jnp.array([0.99])
        >>> redrawn = jnp.array([26])
        >>> [add_noise(schedule, jnp.array([8]), t, u, redrawn).item() for u in (low, high)]
        [26, 8]
    """
    return jnp.where(uniform < _row(schedule.one_minus_keep, t), redrawn, types_0)


def posterior(
    schedule: TypesSchedule,
    types_t: Int[Array, "*batch atoms"],
    probs_0: Float[Array, "*batch atoms types"],
    t: Int[Array, "*#batch"],
) -> Float[Array, "*batch atoms types"]:
    """q(x_s | x_t, x_0) = (x_t Q_tᵀ) ⊙ (x_0 Q̄_s) / (x_0 Q̄_t x_tᵀ) (Eq. 3, arXiv:2107.03006).

    Args:
        schedule: The noise schedule.
        types_t: Noised types.
        probs_0: Clean types as probabilities: one-hot, or the model's x̂_0.
        t: Row of the schedule; s is the row before.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> clean = jax.nn.one_hot(jnp.array([8]), 100)
        >>> int(posterior(schedule, jnp.array([26]), clean, jnp.int32(0)).argmax())
        8
    """
    beta = _row(schedule.beta, t)[..., None]
    forward = (1 - beta) * _one_hot(types_t) + beta / NUM_TYPES
    prior = _row(schedule.keep_prev, t)[..., None] * probs_0
    joint = forward * (prior + _row(schedule.one_minus_keep_prev, t)[..., None] / NUM_TYPES)
    return joint / joint.sum(-1, keepdims=True)


def loss(
    schedule: TypesSchedule,
    logits: Float[Array, "*batch atoms types"],
    types_0: Int[Array, "*batch atoms"],
    types_t: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch"],
    mask: Bool[Array, "*batch atoms"],
) -> Float[Array, "*batch atoms"]:
    """1000 · Σ_k q (log(q + 1e-4) − log(p + 1e-4)) for each atom, 0 where `mask` is False.

    q is the posterior of the true types, p that of x̂_0 = softmax(logits). The floor is MiAD's, and
    larger than the probability that most changes of type have in one step: the x̂_0 for which this
    loss is least suppresses them. `cross_entropy` has no floor.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> clean, mask = jnp.array([8]), jnp.array([True])
        >>> sure = 100 * jax.nn.one_hot(clean, 100)
        >>> loss(schedule, sure, clean, jnp.array([26]), jnp.int32(500), mask).round(3).tolist()
        [0.0]
    """
    q = posterior(schedule, types_t, _one_hot(types_0), t)
    p = posterior(schedule, types_t, jax.nn.softmax(logits), t)
    divergence = (q * (jnp.log(q + LOSS_FLOOR) - jnp.log(p + LOSS_FLOOR))).sum(-1)
    return jnp.where(mask, LOSS_SCALE * divergence, 0)


def log_probs_0(
    schedule: TypesSchedule,
    logits: Float[Array, "*batch atoms types"],
    types_t: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch"],
) -> Float[Array, "*batch atoms types"]:
    """Log p(x_0 | x_t) ∝ x̂_0 q(x_t | x_0): what the model says of the clean type.

    The posterior multiplies x̂_0 with the evidence of the atom's own x_t, so the x̂_0 for which it is
    exact is what all the rest of the crystal says of the atom; the evidence is added here.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> unsure, noised = jnp.zeros((1, 100)), jnp.array([8])
        >>> probs = jnp.exp(log_probs_0(schedule, unsure, noised, jnp.int32(0)))
        >>> int(probs.argmax()), bool(probs.max() > 0.99)
        (8, True)
    """
    return jax.nn.log_softmax(logits + jnp.log(transition(schedule, types_t, t)))


def cross_entropy(
    schedule: TypesSchedule,
    logits: Float[Array, "*batch atoms types"],
    types_0: Int[Array, "*batch atoms"],
    types_t: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch"],
    mask: Bool[Array, "*batch atoms"],
) -> Float[Array, "*batch atoms"]:
    """−log p(x_0 | x_t) of the clean type for each atom, 0 where not `mask`.

    It is least where the posterior of x̂_0 is the exact one, as `loss` is without its floor. The
    cross-entropy of D3PM's hybrid loss (Eq. 5, arXiv:2107.03006) takes x̂_0 itself for p(x_0 | x_t):
    the posterior then multiplies with the evidence of x_t twice, and atoms change too seldom.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> unsure, clean, mask = jnp.zeros((1, 100)), jnp.array([8]), jnp.array([True])
        >>> worst = cross_entropy(schedule, unsure, clean, jnp.array([26]), jnp.int32(999), mask)
        >>> 4.6 < float(worst.sum()) < 4.7
        True
    """
    log_probs = log_probs_0(schedule, logits, types_t, t)
    return jnp.where(mask, -(_one_hot(types_0) * log_probs).sum(-1), 0)


def reverse_step(
    schedule: TypesSchedule,
    types_t: Int[Array, "*batch atoms"],
    logits: Float[Array, "*batch atoms types"],
    t: Int[Array, "*#batch"],
    uniform: Float[Array, "*batch atoms"],
) -> Int[Array, "*batch atoms"]:
    """Sample x_s from the model's posterior; its mode in the first row.

    x̂_0 is the softmax of the logits divided by the schedule's temperature.

    Args:
        schedule: The noise schedule.
        types_t: Noised types.
        logits: Of the clean types.
        t: Row of the schedule.
        uniform: Uniform in [0, 1), one for each atom: the quantile that is drawn.

    Example:
        >>> schedule = miad_jax.make_diffusion().types
        >>> sure = 100 * jax.nn.one_hot(jnp.array([8]), 100)
        >>> reverse_step(schedule, jnp.array([26]), sure, jnp.int32(0), jnp.array([0.5])).tolist()
        [8]
    """
    probs = posterior(schedule, types_t, jax.nn.softmax(logits / schedule.temperature), t)
    cumulative = jnp.cumsum(probs, axis=-1)
    below = cumulative <= uniform[..., None] * cumulative[..., -1:]
    drawn = jnp.minimum(below.sum(-1), NUM_TYPES - 1)
    return jnp.where(t[..., None] == 0, jnp.argmax(probs, -1), drawn).astype(types_t.dtype)


def _one_hot(types: Int[Array, "*shape"]) -> Float[Array, "*shape types"]:
    return jax.nn.one_hot(types, NUM_TYPES, dtype=jnp.float32)


def _row(column: Float[Array, " time"], t: Int[Array, "*batch"]) -> Float[Array, "*batch 1"]:
    return jnp.asarray(column)[t][..., None]
