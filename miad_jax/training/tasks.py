"""What a training crystal is used for: which of its parts are known, and what is told of it.

A part that is known is at time −1: it is shown to the network as it is, and no loss counts it. One
network trained on a mixture of tasks can then be asked for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from miad_jax.condition import KNOWN, Condition, Time, Times
from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.keys import for_each
from miad_jax.network import Network


@dataclass(frozen=True)
class Tasks:
    """Weights of what training crystals are used for; the fields of `config.tasks`.

    All parts of a crystal that are not known are at one time.

    Attributes:
        generate: Nothing is known: MiAD.
        structure: The formula is known: all types are, and the slots are exactly the formula's, so
            mirage atoms are padding.
        complete: Some of the real atoms are known, at least one and not all, and half of the time
            the cell. Which of the other slots hold atoms is to be found. A crystal of one atom has
            none that can be known.
        cell: The cell is known.

    Example:
        >>> Tasks(generate=3.0, structure=1.0).probabilities().tolist()
        [0.75, 0.25, 0.0, 0.0]
    """

    generate: float = 1.0
    structure: float = 0.0
    complete: float = 0.0
    cell: float = 0.0

    @property
    def only_generate(self) -> bool:
        """Whether all parts of every crystal are at one time."""
        return not (self.structure or self.complete or self.cell)

    def probabilities(self) -> Float[np.ndarray, " tasks"]:
        """The share of crystals that each task gets, in the order of the attributes."""
        weights = np.array(list(asdict(self).values()), np.float64)
        return weights / weights.sum()

    def draw(
        self, key: PRNGKeyArray, crystal: Crystal, t: Int[Array, "*batch"]
    ) -> tuple[Crystal, Time]:
        """Draw the task of every crystal.

        Args:
            key: One key, or one for each crystal.
            crystal: Clean crystals, infused for MiAD.
            t: Time of the parts that are not known, 0 … T−1.

        Returns:
            The crystals, of which padding may be more than before; and the times of their parts,
            which are `t` itself where no task but `generate` has a weight.
        """
        if self.only_generate:
            return crystal, t
        cumulative = np.cumsum(self.probabilities())
        bounds = jnp.asarray(cumulative / cumulative[-1], jnp.float32)

        def draw(key: PRNGKeyArray) -> tuple[Array, Array, Array, Array]:
            task_key, number_key, order_key, cell_key = jax.random.split(key, 4)
            choice, number = (
                jax.random.uniform(k, (), jnp.float32) for k in (task_key, number_key)
            )
            order = jax.random.uniform(order_key, (crystal.size,), jnp.float32)
            task = jnp.searchsorted(bounds, choice, side="right")
            return task, number, order, jax.random.bernoulli(cell_key)

        task, number, order, known_cell = for_each(draw, key, crystal.batch_shape)
        real = real_atom_mask(crystal)
        known_atoms = some_of(real, number, order)
        names = list(asdict(self))
        structure, complete, cell = (task == names.index(name) for name in names[1:])
        atoms = complete[..., None] & known_atoms
        times = Times.same(t, crystal.size)
        return (
            replace(crystal, mask=crystal.mask & (real | ~structure[..., None])),
            Times(
                lattice=jnp.where(cell | (complete & known_cell), KNOWN, times.lattice),
                coords=jnp.where(atoms, KNOWN, times.coords),
                types=jnp.where(atoms | structure[..., None], KNOWN, times.types),
            ),
        )


def some_of(
    real: Bool[Array, "*batch atoms"],
    number: Float[Array, "*batch"],
    order: Float[Array, "*batch atoms"],
) -> Bool[Array, "*batch atoms"]:
    """Choose k of the n real atoms of a crystal, k uniform in 1 … n−1; none where n is 1.

    Args:
        real: Which slots hold a real atom.
        number: Uniform in [0, 1): decides k.
        order: Uniform in [0, 1): the k atoms of the least are chosen.
    """
    most = real.sum(-1) - 1
    chosen = jnp.minimum(1 + jnp.floor(number * most).astype(most.dtype), most)
    rank = jnp.argsort(jnp.argsort(jnp.where(real, order, 2), axis=-1), axis=-1)
    return real & (rank < chosen[..., None])


def drop_properties(
    key: PRNGKeyArray, condition: Condition | None, probability: float
) -> Condition | None:
    """The condition with properties left out, each with a probability, as NaN: not known.

    So the network learns the crystals of which nothing is told too, which guidance needs.

    Args:
        key: One for each crystal.
        condition: What the network is told of each crystal.
        probability: That a property of a crystal is left out.
    """
    if condition is None or not condition.properties or not probability:
        return condition
    names = sorted(condition.properties)

    def draw(key: PRNGKeyArray) -> Mapping[str, Bool[Array, ""]]:
        uniform = jax.random.uniform(key, (len(names),), jnp.float32)
        return dict(zip(names, uniform < probability, strict=True))

    dropped = for_each(draw, key, key.shape)
    properties = condition.properties
    told = {name: jnp.where(dropped[name], jnp.nan, properties[name]) for name in names}
    return replace(condition, properties=told)


def check_network(tasks: Tasks, net: Network) -> None:
    """Refuse a network that cannot be shown known parts, before anything is trained.

    Raises:
        ValueError: If there is a task but `generate`, and the network takes one time.
    """
    if tasks.only_generate:
        return
    crystal = Crystal(jnp.eye(3), jnp.zeros((1, 3)), jnp.ones(1, jnp.int32), jnp.ones(1, bool))
    params = jax.eval_shape(net.init_params, jax.random.key(0))
    try:
        jax.eval_shape(net.denoise, params, crystal, Times.same(0, crystal.size))
    except ValueError as error:
        given = ", ".join(f"{name} {weight:g}" for name, weight in asdict(tasks).items() if weight)
        raise ValueError(f"config.tasks ({given}) has parts that are known, but {error}") from error
