"""Control: what is done to a prediction between the network and the solver's step.

The one place where a wish acts on a sample. In order: guidance, the elements that are allowed, the
temperature of the types, the score of atoms that may be mirage, the bounds of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.condition import Condition, Time, each_part
from miad_jax.crystal import MIRAGE, Crystal, Prediction
from miad_jax.diffusion.axes import principal_axes
from miad_jax.diffusion.joint import Denoise, Diffusion, predict
from miad_jax.diffusion.process import LatticeProcess

CoordsScore = Literal["marginal", "conditional"]
_LEAST = -1e9
"""The logit of what cannot be: its probability is 0 in float32."""


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
        self, diffusion: Diffusion, denoise: Denoise, condition: Condition | None
    ) -> Denoise:
        """The denoiser as a solver asks it: a function of a crystal and its time.

        Args:
            diffusion: The joint process.
            denoise: The network.
            condition: What is asked of each crystal.
        """
        asked = condition.properties if condition is not None else {}

        def controlled(crystal: Crystal, t: Time) -> Prediction:
            if asked:
                told = Condition(properties=asked)
                prediction = predict(denoise, crystal, t, told)
                if self.guidance != 1:
                    free = predict(denoise, crystal, t, jax.tree.map(_unknown, told))
                    prediction = jax.tree.map(
                        lambda none, with_: none + self.guidance * (with_ - none),
                        free,
                        prediction,
                    )
            else:
                prediction = predict(denoise, crystal, t)
            logits = prediction.types
            if condition is not None and condition.allowed_types is not None:
                logits = allow(logits, condition.allowed_types[..., None, :])
            logits = logits / self.type_temperature
            coords = prediction.coords
            if self.coords_score == "marginal":
                times = each_part(t).types
                log_probs = diffusion.types.clean(logits, crystal.atom_types, times)
                coords = coords * -jnp.expm1(log_probs[..., :1])
            lattice = prediction.lattice
            if self.cell_bounds_angstrom is not None:
                lattice = bounded(
                    diffusion.lattice,
                    lattice,
                    crystal.lattice,
                    each_part(t).lattice,
                    self.cell_bounds_angstrom,
                )
            return Prediction(lattice, coords, logits)

        return controlled


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
    elements = jnp.where(allowed & ~is_mirage, log_probs, _LEAST)
    real = jax.nn.logsumexp(log_probs, axis=-1, where=~is_mirage, keepdims=True)
    elements = jax.nn.log_softmax(elements) + jnp.maximum(real, _LEAST)
    elements = jnp.where(allowed, jnp.maximum(elements, _LEAST), _LEAST)
    return jnp.where(is_mirage, log_probs, elements)


def _unknown(x: Array) -> Array:
    return jnp.full_like(x, jnp.nan)
