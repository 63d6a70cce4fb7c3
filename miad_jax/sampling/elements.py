"""Elements that a sample may hold, and elements that it is to hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.crystal import MIRAGE
from miad_jax.diffusion.process import TypesProcess

NEVER = -1e9
"""The logit of what cannot be: its probability is 0 in float32."""

ROUNDS = 4
"""How often `require` lifts: each time the normalisation takes some of it back."""

HALVINGS, LARGEST_TILT = 16, 8.0
"""Of `neutralise`: steps of its search, and the most that a unit of charge changes logits by."""


def allow(
    logits: Float[Array, "*batch atoms types"], allowed: Bool[Array, "*#batch #atoms types"]
) -> Float[Array, "*batch atoms types"]:
    """Logits in which only allowed elements are left, and P(mirage) is what it was.

    Left out of the softmax alone, what is not allowed would make an atom mirage instead: cells
    would collapse.

    Example:
        >>> logits = jnp.zeros((1, 100))
        >>> probs = jax.nn.softmax(allow(logits, jnp.arange(100) < 3))
        >>> [round(float(x), 2) for x in probs[0, :4]]
        [0.01, 0.49, 0.49, 0.0]
    """
    log_probs = jax.nn.log_softmax(logits)
    is_mirage = jnp.arange(logits.shape[-1]) == MIRAGE
    elements = jnp.where(allowed & ~is_mirage, log_probs, NEVER)
    real = jax.nn.logsumexp(log_probs, axis=-1, where=~is_mirage, keepdims=True)
    elements = jax.nn.log_softmax(elements) + jnp.maximum(real, NEVER)
    elements = jnp.where(allowed, jnp.maximum(elements, NEVER), NEVER)
    return jnp.where(is_mirage, log_probs, elements)


def require(
    process: TypesProcess,
    logits: Float[Array, "*batch atoms types"],
    required: Bool[Array, "*#batch types"],
    types_t: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch #atoms"],
    mask: Bool[Array, "*batch atoms"],
) -> Float[Array, "*batch atoms types"]:
    """Logits in which each required element is expected to occur at least once.

    An element whose expected number of atoms, Σ p(x_0 | x_t) over the slots, is below 1 becomes
    more probable in all slots alike, by what would lift that number to 1 if nothing else changed.

    Args:
        process: The process of the types.
        logits: What the network predicts.
        required: Which elements.
        types_t: The noised types.
        t: Their times.
        mask: False on padding, which counts nothing.

    Example:
        >>> process, nothing = miad_jax.make_diffusion().types, jnp.zeros(4, jnp.int32)
        >>> logits = jnp.zeros((4, 100)).at[:, 0].set(9.0)
        >>> lithium, t = jnp.arange(100) == 3, jnp.full(4, 999)
        >>> led = require(process, logits, lithium, nothing, t, jnp.ones(4, bool))
        >>> number = jnp.exp(process.clean(led, nothing, t))[:, 3].sum()
        >>> 0.9 < float(number) < 1.1
        True
    """
    for _ in range(ROUNDS):
        log_probs = process.clean(logits, types_t, t)
        number = jax.nn.logsumexp(log_probs, axis=-2, where=mask[..., None])
        lift = jnp.where(required, jnp.clip(-number, 0, -NEVER), 0)
        logits = logits + lift[..., None, :]
    return logits


def neutralise(
    process: TypesProcess,
    logits: Float[Array, "*batch atoms types"],
    oxidation_states: Float[Array, "*#batch types 2"],
    types_t: Int[Array, "*batch atoms"],
    t: Int[Array, "*#batch #atoms"],
    mask: Bool[Array, "*batch atoms"],
) -> Float[Array, "*batch atoms types"]:
    """Logits of which the expected composition can be neutral, and P(mirage) is what it was.

    The expected total of the least oxidation states may not be above 0, nor that of the greatest
    below: where one is, each element's probability is multiplied by e^(−λ q) in all slots, q its
    least or greatest oxidation state, with the λ that makes that total 0.

    Args:
        process: The process of the types.
        logits: What the network predicts.
        oxidation_states: The least and the greatest of each type; 0 for mirage.
        types_t: The noised types.
        t: Their times.
        mask: False on padding, which counts nothing.

    Example:
        >>> process, t = miad_jax.make_diffusion().types, jnp.full(4, 999)
        >>> states = jnp.zeros((100, 2)).at[8].set(-2.0).at[12].set(2.0)
        >>> much_oxygen = jnp.full((4, 100), -1e9).at[:, 8].set(3.0).at[:, 12].set(0.0)
        >>> led = neutralise(process, much_oxygen, states, t * 0 + 8, t, jnp.ones(4, bool))
        >>> probs = jnp.exp(process.clean(led, t * 0 + 8, t))[0]
        >>> round(float(probs[8]), 1), round(float(probs[12]), 1)
        (0.5, 0.5)
    """
    log_probs = process.clean(logits, types_t, t)
    is_mirage = jnp.arange(logits.shape[-1]) == MIRAGE
    real = jnp.where(mask, 1 - jnp.exp(log_probs[..., MIRAGE]), 0)
    elements = jnp.where(is_mirage, NEVER, log_probs)

    def total(tilt: Array, states: Array) -> Array:
        """The expected sum of oxidation states, which falls as the tilt grows."""
        share = jax.nn.softmax(elements - (tilt[..., None] * states)[..., None, :])
        return (real * (share * states[..., None, :]).sum(-1)).sum(-1)

    least, greatest = (
        jnp.broadcast_to(oxidation_states[..., i], (*logits.shape[:-2], logits.shape[-1]))
        for i in range(2)
    )
    none = jnp.zeros(logits.shape[:-2])
    too_positive = total(none, least) > 0
    too_negative = total(none, greatest) < 0
    states = jnp.where(too_positive[..., None], least, greatest)
    tilt = none
    for halving in range(HALVINGS):
        step = LARGEST_TILT / 2 ** (halving + 1)
        tilt = tilt + jnp.where(total(tilt, states) > 0, step, -step)
    tilt = jnp.where(too_positive | too_negative, tilt, 0)
    # The normalisation over elements is kept, so that P(mirage) stays.
    tilted = logits - (tilt[..., None] * states)[..., None, :]
    before = jax.nn.logsumexp(elements, -1, keepdims=True)
    after = jax.nn.logsumexp(elements - (tilt[..., None] * states)[..., None, :], -1, keepdims=True)
    return jnp.where(is_mirage, logits, tilted + before - after)
