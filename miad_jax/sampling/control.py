"""Control: what is done to a prediction between the network and the solver's step.

The one place where a wish acts on a sample. In order: parts that are known, guidance, the elements
that are allowed and those that are required, neutral compositions, the temperature of the types,
the number of atoms, the score of atoms that may be mirage, the bounds of the cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.condition import Condition, Time, each_part
from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.diffusion.axes import principal_axes
from miad_jax.diffusion.joint import Denoise, Diffusion, predict
from miad_jax.diffusion.process import LatticeProcess
from miad_jax.network.base import takes_times
from miad_jax.sampling.counts import numbered
from miad_jax.sampling.elements import NEVER, allow, neutralise, require

CoordsScore = Literal["marginal", "conditional"]

LED_UNTIL = 0.2
"""Share of all times below which a sample that was led to a number of atoms decides itself.

An atom that has to appear or vanish after that finds no place any more: the others are where they
will be.
"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Control:
    """How predictions are used.

    MiAD's loss of the coordinates counts real atoms alone, so the network predicts the score of an
    atom *given* that it is real. A mirage atom is uniform in the cell, so its score is 0, and the
    score of the whole process is P(real | x_t) times the prediction, with P from the predicted
    types, of their temperature too: that is `coords_score="marginal"`. "conditional" takes the
    prediction as it is, which is published, and exact where there is no mirage atom or where they
    count in the loss.

    Attributes:
        type_temperature: What logits of atom types are divided by; 1 is D3PM.
        coords_score: "conditional" or "marginal", as above.
        guidance: Weight w of properties that are asked: none + w (asked − none); 1 asks the network
            once.
        cell_bounds_angstrom: Between which singular values the predicted clean cell is kept; what
            lies between them stays bit for bit. At the noisiest times an error of the network is
            divided by √ᾱ ≈ 0, and would make cells of any size. None for no bounds, as published.

    Example:
        >>> miad_jax.Control(type_temperature=0.9).coords_score
        'conditional'
    """

    type_temperature: float = 1.0
    coords_score: CoordsScore = field(default="conditional", metadata={"static": True})
    guidance: float = field(default=1.0, metadata={"static": True})
    cell_bounds_angstrom: tuple[float, float] | None = (2.0, 50.0)

    def __post_init__(self) -> None:
        """Refuse a score that is none."""
        if self.coords_score not in get_args(CoordsScore):
            allowed = ", ".join(get_args(CoordsScore))
            raise ValueError(f"coords_score is {self.coords_score!r}; allowed: {allowed}")

    def applied(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        condition: Condition | None,
        *,
        is_last: Bool[Array, "*#batch"] | bool = False,
    ) -> Denoise:
        """The denoiser as a solver asks it: a function of a crystal and its time.

        Args:
            diffusion: The joint process.
            denoise: The network.
            condition: What is asked of each crystal.
            is_last: Whether the step leads to clean crystals: a number of atoms that is asked is
                then met, by the most probable slots.
        """
        asked = condition or Condition()

        def controlled(crystal: Crystal, t: Int[Array, "*batch"]) -> Prediction:
            time: Time = t
            if asked.known is not None and takes_times(denoise):
                crystal, time = asked.known.put_into(crystal), asked.known.times(t)
            said = self._asked(denoise, crystal, time, asked.properties)
            times = each_part(time)
            kinds = crystal.atom_types, times.types
            logits = said.types
            if asked.known is not None:
                given = asked.known.crystal.atom_types
                logits = jnp.where(asked.known.types[..., None], _only(given), logits)
            if asked.allowed_types is not None:
                logits = allow(logits, asked.allowed_types[..., None, :])
            if asked.required_types is not None:
                required = asked.required_types
                logits = require(diffusion.types, logits, required, *kinds, crystal.mask)
            if asked.oxidation_states is not None:
                states = asked.oxidation_states
                logits = neutralise(diffusion.types, logits, states, *kinds, crystal.mask)
            logits = logits / self.type_temperature
            if asked.num_atoms is not None:
                log_probs = diffusion.types.clean(logits, *kinds)
                free = logits
                logits = numbered(logits, log_probs, asked.num_atoms, crystal.mask, is_last)
                if asked.num_is_led is not None:
                    decides = asked.num_is_led & (t < LED_UNTIL * diffusion.num_steps)
                    logits = jnp.where(decides[..., None, None], free, logits)
            coords = said.coords
            if self.coords_score == "marginal":
                log_probs = diffusion.types.clean(logits, *kinds)
                coords = coords * -jnp.expm1(log_probs[..., :1])
            lattice = said.lattice
            if self.cell_bounds_angstrom is not None:
                lattice = bounded(
                    diffusion.lattice,
                    lattice,
                    crystal.lattice,
                    times.lattice,
                    self.cell_bounds_angstrom,
                )
            return Prediction(lattice, coords, logits)

        return controlled

    def _asked(
        self, denoise: Denoise, crystal: Crystal, time: Time, properties: Mapping[str, Array]
    ) -> Prediction:
        """What the network says where properties are asked, guided."""
        if not properties:
            return predict(denoise, crystal, time)
        values = {name: jnp.asarray(x, jnp.float32) for name, x in properties.items()}
        told = Condition(properties=values)  # whole numbers have no NaN
        prediction = predict(denoise, crystal, time, told)
        if self.guidance == 1:
            return prediction
        free = predict(denoise, crystal, time, jax.tree.map(_unknown, told))
        return jax.tree.map(
            lambda none, asked: none + self.guidance * (asked - none), free, prediction
        )


def bounded(
    process: LatticeProcess,
    said: Float[Array, "*batch 3 3"],
    lattice_t: Float[Array, "*batch 3 3"],
    t: Int[Array, "*#batch"],
    bounds_angstrom: tuple[float, float],
) -> Float[Array, "*batch 3 3"]:
    """The prediction with a clean cell whose singular values lie between two bounds.

    Args:
        process: The process of the lattice.
        said: What the network predicts for it.
        lattice_t: The lattice at t.
        t: Its time; where it is known, the prediction is what it was.
        bounds_angstrom: The smallest and the largest singular value in Å.

    Example:
        >>> process, t = miad_jax.make_diffusion().lattice, jnp.int32(500)
        >>> noise, needle = jnp.zeros((3, 3)), jnp.diag(jnp.array([1.0, 4.0, 90.0]))
        >>> noised = process.add_noise(needle, t, noise)
        >>> said = bounded(process, noise, noised, t, (2.0, 50.0))
        >>> [round(float(x), 3) for x in process.clean(said, noised, t).diagonal()]
        [2.0, 4.0, 50.0]
    """
    smallest, largest = bounds_angstrom
    clean = process.clean(said, lattice_t, t)
    axes, rows = principal_axes(clean)
    values = jnp.linalg.norm(rows, axis=-1)
    allowed = jnp.clip(values, smallest, largest)
    inside = ((allowed == values).all(-1) | (t < 0))[..., None, None]
    rows = rows * (allowed / jnp.maximum(values, 1e-6))[..., None]
    cell = jnp.einsum("...ji,...jk->...ik", axes, rows, precision="highest")
    kept = process.predicting(cell, lattice_t, jnp.maximum(t, 0))
    return jnp.where(inside, said, kept)


def _unknown(x: Array) -> Array:
    return jnp.full_like(x, jnp.nan)


def _only(types: Int[Array, "*shape"]) -> Float[Array, "*shape types"]:
    """Logits of what is certain."""
    return jnp.where(jax.nn.one_hot(types, NUM_TYPES, dtype=bool), 0.0, NEVER)
