"""How many slots hold a real atom: the types of slots, conditioned on a number that is asked.

Given the noised crystal the model's types factorise over the slots, so the number of real atoms is
a sum of independent yes or no (a Poisson-binomial variable), and what it is conditioned on can be
computed exactly, by recursion over the slots in both directions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.crystal import MIRAGE

NEVER = -1e9
"""The logarithm of the odds of what cannot be."""


def log_odds_of_count(
    log_odds: Float[Array, "*batch atoms"],
    least: Int[Array, "*#batch"],
    most: Int[Array, "*#batch"],
) -> Float[Array, "*batch atoms"]:
    """How a number of real atoms that is asked changes each slot's odds of being real.

    The result is log P(K_i ∈ [least−1, most−1]) − log P(K_i ∈ [least, most]), with K_i the number
    of real atoms in the slots other than i: added to the odds that a slot has alone, it gives the
    odds given that the number of all real atoms lies in [least, most].

    Args:
        log_odds: log P(real)/P(mirage) of each slot, independent of the others; −∞ for padding.
        least: The least number of real atoms that is asked.
        most: The greatest.

    Returns:
        The change, between −1e9 and 1e9.

    Example:
        >>> even = jnp.zeros(3)  # three slots, each of which may as well be real as mirage
        >>> change = log_odds_of_count(even, jnp.array(1), jnp.array(1))
        >>> [round(float(x), 3) for x in jax.nn.sigmoid(even + change)]
        [0.333, 0.333, 0.333]
    """
    real, mirage = jax.nn.log_sigmoid(log_odds), jax.nn.log_sigmoid(-log_odds)
    size = log_odds.shape[-1]
    count = jnp.arange(size + 1)
    batch = log_odds.shape[:-1]

    # before[k]: the slots so far hold k real atoms.
    def forward(before: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
        real, mirage = (x[..., None] for x in slot)
        return jnp.logaddexp(before + mirage, _shifted(before, 1) + real), before

    # after[k]: with k real atoms so far, those of the later slots lead into the range.
    def backward(after: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
        real, mirage = (x[..., None] for x in slot)
        return jnp.logaddexp(after + mirage, _shifted(after, -1) + real), after

    slots = jnp.moveaxis(real, -1, 0), jnp.moveaxis(mirage, -1, 0)
    none = jnp.broadcast_to(jnp.where(count == 0, 0.0, -jnp.inf), (*batch, size + 1))
    inside = (count >= least[..., None]) & (count <= most[..., None])
    reached = jnp.broadcast_to(jnp.where(inside, 0.0, -jnp.inf), (*batch, size + 1))
    _, before = jax.lax.scan(forward, none, slots)
    _, after = jax.lax.scan(backward, reached, slots, reverse=True)
    if_real = jax.nn.logsumexp(before + _shifted(after, -1), -1)
    if_mirage = jax.nn.logsumexp(before + after, -1)
    change = jnp.maximum(if_real, NEVER) - jnp.maximum(if_mirage, NEVER)
    return jnp.moveaxis(change, 0, -1)


def most_probable_slots(
    log_odds: Float[Array, "*batch atoms"],
    least: Int[Array, "*#batch"],
    most: Int[Array, "*#batch"],
) -> Bool[Array, "*batch atoms"]:
    """The most probable set of real slots whose number is allowed.

    Args:
        log_odds: As of `log_odds_of_count`.
        least: The least number of real atoms that is asked.
        most: The greatest.

    Example:
        >>> odds = jnp.array([2.0, -1.0, 1.0, -3.0])
        >>> most_probable_slots(odds, jnp.array(3), jnp.array(4)).tolist()
        [True, True, True, False]
    """
    number = jnp.clip((log_odds > 0).sum(-1), least, most)
    rank = jnp.argsort(jnp.argsort(-log_odds, axis=-1), axis=-1)
    return rank < number[..., None]


def numbered(
    logits: Float[Array, "*batch atoms types"],
    log_probs: Float[Array, "*batch atoms types"],
    num_atoms: Int[Array, "*#batch 2"],
    mask: Bool[Array, "*batch atoms"],
    is_last: Bool[Array, "*#batch"] | bool,
) -> Float[Array, "*batch atoms types"]:
    """Logits of the types given that the number of real atoms lies in a range.

    Args:
        logits: Of x̂_0.
        log_probs: log p(x_0 | x_t) that they come to, with the evidence of x_t.
        num_atoms: The least and the greatest number.
        mask: False on padding.
        is_last: Where the next types are those for good, so that the number must be right.
    """
    is_mirage = jnp.arange(logits.shape[-1]) == MIRAGE
    real = jax.nn.logsumexp(log_probs, axis=-1, where=~is_mirage)
    log_odds = jnp.maximum(real, NEVER) - jnp.maximum(log_probs[..., MIRAGE], NEVER)
    log_odds = jnp.where(mask, log_odds, NEVER)
    least, most = num_atoms[..., 0], num_atoms[..., 1]
    change = log_odds_of_count(log_odds, least, most)
    chosen = most_probable_slots(log_odds, least, most)
    settled = jnp.where(chosen[..., None] == is_mirage, NEVER, logits)
    last = jnp.asarray(is_last)[..., None, None]
    return jnp.where(last, settled, jnp.where(is_mirage, logits - change[..., None], logits))


def _shifted(x: Float[Array, "*batch counts"], by: int) -> Float[Array, "*batch counts"]:
    """Entry k moved to k + by; −∞ comes in."""
    empty = jnp.full_like(x[..., :1], -jnp.inf)
    if by == 1:
        return jnp.concatenate([empty, x[..., :-1]], -1)
    return jnp.concatenate([x[..., 1:], empty], -1)
