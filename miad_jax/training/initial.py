"""Parameters of another run, to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

PROPERTIES = "properties/"
"""Where a network keeps the parameters of its properties, of which an unknown one adds nothing."""


@dataclass(frozen=True)
class Initial:
    """Parameters of another run, to start from.

    Attributes:
        params: Of the same network; it may be told other properties.
        source: What they are, for the checkpoints' `init_from`.
    """

    params: Any
    source: Mapping[str, Any]

    def fitted_to(self, fresh: Any) -> Any:
        """The parameters as a network takes them, on the device.

        What serves a property that only one of the two networks is told is taken fresh, or left
        out: where the property is unknown, neither changes what the network predicts.

        Args:
            fresh: The network's own, as it draws them.

        Raises:
            ValueError: Naming the first other parameter that the network has in another shape.
        """
        have, need = (flatten_dict(params, sep="/") for params in (self.params, fresh))
        found = {}
        for name in sorted(have.keys() | need.keys()):
            if name.startswith(PROPERTIES) and not (name in have and name in need):
                if name in need:
                    found[name] = need[name]
                continue
            given, needed = (np.shape(x[name]) if name in x else "none" for x in (have, need))
            if given != needed:
                raise ValueError(
                    f"the parameters to start from are of another network: {name} has shape "
                    f"{given}, config.network needs {needed}: give config.network the fields of "
                    "the run that they come from"
                )
            found[name] = jnp.asarray(have[name])
        return unflatten_dict(found, sep="/")
