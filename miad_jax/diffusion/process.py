"""What the diffusion of one field can do, whichever field it is.

A field is the lattice, the fractional coordinates or the atom types. Its process knows its own
schedule and nothing of the other fields, of the network or of the sampler. Times are integers of
the full process: t = 0 … T−1, from the least noisy to the noisiest, and −1 for the clean crystal.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key, PRNGKeyArray


class Process(Protocol):
    """The diffusion of one field: a frozen pytree of tables, all of whose functions are pure.

    The lattice has one time for each crystal, [*batch]; the fields of atoms have one for each
    atom, [*batch, atoms], or one for all atoms of a crystal, [*batch, 1].
    """

    @property
    def num_steps(self) -> int:
        """T, the number of noise levels."""

    def prior(self, key: PRNGKeyArray, size: int) -> Array:
        """Draw the field of one crystal of `size` atom slots from pure noise."""

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Any:
        """Draw what `add_noise` takes for one crystal of `size` atom slots."""

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Array:
        """Draw what `step` takes for one crystal of `size` atom slots."""

    def add_noise(self, x_0: Array, t: Int[Array, "*#times"], noise: Any) -> Array:
        """The field at time t, from given noise; at t = −1 it is x_0."""

    def loss(
        self, said: Array, x_0: Array, x_t: Array, t: Int[Array, "*#times"], noise: Any
    ) -> Float[Array, "*parts"]:
        """What training minimises, for each crystal (lattice) or atom; t ≥ 0.

        Args:
            said: What the network predicts for this field.
            x_0: The clean field.
            x_t: The noised field.
            t: Its time.
            noise: What made x_t from x_0.
        """

    def clean(self, said: Array, x_t: Array, t: Int[Array, "*#times"]) -> Array:
        """x̂_0, what the prediction says of the clean field: a value, or its distribution."""

    def step(
        self,
        said: Array,
        x_t: Array,
        t: Int[Array, "*#times"],
        s: Int[Array, "*#times"],
        noise: Array,
    ) -> Array:
        """Draw the field at time s from that at time t.

        Args:
            said: What the network predicts for this field at t.
            x_t: The field at t.
            t: Its time, 0 … T−1.
            s: Any earlier time, −1 … t−1.
            noise: As from `draw_step_noise`.
        """


@runtime_checkable
class MarkovProcess(Process, Protocol):
    """A process whose noise grows step by step, whatever the clean field is; a flow is none."""

    def renoise(
        self, x_s: Array, s: Int[Array, "*#times"], t: Int[Array, "*#times"], noise: Any
    ) -> Array:
        """The field at time t from that at any earlier time s, from noise as of `add_noise`."""


class LatticeProcess(MarkovProcess, Protocol):
    """The diffusion of the lattice, whose `clean` is a value in Å."""

    @property
    def alpha_bar(self) -> Float[Array, " time"]:
        """ᾱ_t, the share of the signal's variance at t; 1 in the clean row."""

    def predicting(self, x_0: Array, x_t: Array, t: Int[Array, "*#times"]) -> Array:
        """The prediction of which `clean` makes x_0; t ≥ 0."""


class CoordsProcess(Process, Protocol):
    """The diffusion of the fractional coordinates, whose `clean` is a place in the cell."""

    def predicting(self, x_0: Array, x_t: Array, t: Int[Array, "*#times"]) -> Array:
        """The prediction of which `clean` makes x_0, by the shortest way; t ≥ 0."""

    def progress(self, t: Int[Array, "*times"], s: Int[Array, "*times"]) -> Float[Array, "*times"]:
        """Which share of the way to the denoised place a step from t to s goes; t ≥ 0."""


@runtime_checkable
class ScoreProcess(CoordsProcess, MarkovProcess, Protocol):
    """Coordinates whose noise has a width and a score: what correctors work with."""

    @property
    def sigma(self) -> Float[Array, " time"]:
        """σ_t, in fractions of the cell; 0 in the clean row."""

    def score(self, said: Array, t: Int[Array, "*#times"]) -> Array:
        """∇ log q of the noised coordinates, from the prediction."""


class TypesProcess(MarkovProcess, Protocol):
    """The diffusion of the atom types, whose `clean` is log-probabilities of each type."""

    def draw_noise(self, key: Key[Array, " 2"], size: int) -> Any:
        """Draw what `add_noise` takes for one crystal of `size` atom slots, from two keys."""

    def cross_entropy(
        self, said: Array, x_0: Array, x_t: Array, t: Int[Array, "*#times"]
    ) -> Float[Array, "*parts"]:
        """What the log-probability of the clean type costs each atom; t ≥ 0."""
