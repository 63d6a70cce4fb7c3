"""What is compared: one change at a time of the recipe that all start from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RECIPE: dict[str, Any] = {
    "data.any_axes": False,
    "data.properties": (),
    "tasks.generate": 1.0,
    "tasks.structure": 0.0,
    "tasks.complete": 0.0,
    "tasks.cell": 0.0,
    "batch_size": 128,
    "optimizer.learning_rate": 6e-4,
    "optimizer.warmup_steps": 50,
    "optimizer.final_learning_rate": 1e-5,
    "optimizer.ema_decay": 0.99,
}
"""Changes of `configs/mp20.py:transformer` for a training of less than an hour of one core."""

SAMPLER: dict[str, Any] = {
    "sampling.churn": 1.0,
    "sampling.coords_ahead": 1.0,
    "sampling.coords_score": "conditional",
}
"""The sampler of a configuration that names none."""


@dataclass(frozen=True)
class Variant:
    """A training.

    Attributes:
        config: Configuration file and variant.
        changes: Fields that differ from the recipe.
        steps_of: The variant whose number of steps it takes: its own step costs the same, or the
            steps and not the minutes are to be equal.
        recipe: Fields that differ from the configuration file's.
    """

    config: str = "configs/mp20.py:transformer"
    changes: dict[str, Any] = field(default_factory=dict)
    steps_of: str | None = None
    recipe: dict[str, Any] = field(default_factory=lambda: RECIPE | SAMPLER)

    def fields(self) -> dict[str, Any]:
        """All fields that differ from the configuration file's."""
        return self.recipe | self.changes


VARIANTS = {
    "transformer": Variant(),
    "cspnet": Variant("configs/mp20.py:small20", {"optimizer.learning_rate": 1e-3}),
    "narrow": Variant(changes={"network.hidden_dim": 192, "network.num_layers": 6}),
    "log": Variant(changes={"diffusion.lattice": "log"}),
    "masked": Variant(changes={"diffusion.types": "masked"}),
    "flow": Variant(
        changes={
            "diffusion.coords": "flow",
            "sampling.churn": 0.0,
            "sampling.coords_ahead": 0.0,
        }
    ),
    "rate-3e-4": Variant(changes={"optimizer.learning_rate": 3e-4}, steps_of="transformer"),
    "rate-1e-3": Variant(changes={"optimizer.learning_rate": 1e-3}, steps_of="transformer"),
    "batch-64": Variant(changes={"batch_size": 64}),
    "batch-256": Variant(changes={"batch_size": 256}),
    "mixture": Variant(
        changes={
            "tasks.generate": 0.7,
            "tasks.structure": 0.12,
            "tasks.complete": 0.12,
            "tasks.cell": 0.06,
        },
        steps_of="transformer",
    ),
}
"""By name; the first is the recipe."""
