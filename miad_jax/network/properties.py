"""What a network is told of a crystal's properties: numbers, each of which may be unknown.

A property that is unknown adds nothing, and neither does a known one before it is trained. So a
trained network may be given more properties, or fewer, and otherwise predicts what it did.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.condition import Condition
from miad_jax.network.layers import Linear, silu

SCALES = np.array([0.01, 0.1, 1, 10, 100], np.float32)
"""Scales on which a value is seen: from thousandths, as of energies in eV, to hundreds."""

CATEGORIES = {"spacegroup_number": 231}
"""Properties whose whole numbers are names, and how many there are, 0 among them."""


def refuse_unknown(network: str, names: tuple[str, ...], condition: Condition | None) -> None:
    """Refuse a condition that asks for a property which a network does not know.

    Args:
        network: How it calls itself.
        names: The properties that it knows.
        condition: What is asked of each crystal.

    Raises:
        ValueError: Naming what is asked and not known.
    """
    asked = () if condition is None else condition.properties
    unknown = ", ".join(name for name in asked if name not in names)
    if unknown:
        knows = f"is told {', '.join(names)}" if names else "is not told properties"
        raise ValueError(
            f"{network} {knows}, and was asked for {unknown}: leave them out, or choose a network "
            "that is trained on them"
        )


def told_properties(
    names: tuple[str, ...], condition: Condition | None, batch_shape: tuple[int, ...]
) -> dict[str, Float[Array, "*batch"]]:
    """The value of every property that a network knows, NaN where it is not given."""
    asked = {} if condition is None else condition.properties
    free = jnp.full(batch_shape, jnp.nan, jnp.float32)
    return {name: jnp.asarray(asked.get(name, free), jnp.float32) for name in names}


class PropertyEmbedding(nn.Module):
    """One vector of all properties: the sum of MLP(value), or of a learned vector for a category.

    Attributes:
        features: Width of the vector.
    """

    features: int

    @nn.compact
    def __call__(
        self, properties: Mapping[str, Float[Array, " batch"]]
    ) -> Float[Array, "batch {self.features}"]:
        """Embed the values; a number enters as its asinh on several scales."""
        return sum((self._one(*item) for item in properties.items()), jnp.zeros(self.features))

    def _one(self, name: str, value: Float[Array, " batch"]) -> Float[Array, "batch features"]:
        unknown = jnp.isnan(value)[:, None]
        # NaN must not reach a gradient.
        value = jnp.where(unknown, 0, value[:, None])
        if name in CATEGORIES:
            x = jax.nn.one_hot(value[:, 0].round().astype(jnp.int32), CATEGORIES[name])
        else:
            x = silu(Linear(self.features, name=f"{name}_in")(jnp.arcsinh(value * SCALES)))
        return jnp.where(unknown, 0, Linear(self.features, zero=True, name=f"{name}_out")(x))
