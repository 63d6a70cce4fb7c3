"""The moving average of the parameters, with which samples are drawn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def update_ema(ema_params: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    """Move the averaged parameters towards the parameters by 1 − decay; faster in the first steps.

    The decay of step n is at most (1 + n)/(10 + n), so that the random start is soon forgotten.
    """
    warm = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1 - warm) * (p - a), ema_params, params)
