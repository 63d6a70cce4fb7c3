"""What a denoising network can do, whichever it is, and the networks by name.

A network is a Flax module whose fields are among those of `config.network`. It owns what depends
on its architecture: its floating-point operations, and how many crystals it should see at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from jaxtyping import Array, Int, PRNGKeyArray

from miad_jax.condition import Condition, Times
from miad_jax.crystal import Crystal, Prediction
from miad_jax.spelling import did_you_mean

N = TypeVar("N", bound=type)
NETWORKS: dict[str, type] = {}
"""Networks by the name that `config.network.name` gives."""

UNKNOWN_CHUNK = 16
"""Crystals at once for a denoiser that is no network."""


class Network(Protocol):
    """The protocol of a network; `jax.tree_util.Partial(net.denoise, params)` is a denoiser.

    Attributes:
        takes_times: Whether parts of a crystal may have times of their own.
    """

    takes_times: ClassVar[bool]

    def init_params(self, key: PRNGKeyArray) -> Any:
        """Fresh parameters, a pytree of float32 arrays."""

    def denoise(
        self,
        params: Any,
        crystal: Crystal,
        time: Int[Array, "*batch"] | Times,
        condition: Condition | None = None,
    ) -> Prediction:
        """Predict the noise.

        Args:
            params: The network's parameters.
            crystal: One crystal, or one batch dimension of them.
            time: Integer time of the process, or `Times` of the parts of each crystal.
            condition: What is asked of each crystal.

        Raises:
            ValueError: If the network cannot take parts of different times, or what is asked.
        """

    def flops(self, num_atoms: int) -> float:
        """Floating-point operations of matrix products in one pass over one crystal."""

    def chunk_size(self, num_atoms: int, backend: str) -> int:
        """How many crystals the network should see at once.

        Chunks of one fixed shape make a sample independent of the batch it is drawn in.

        Args:
            num_atoms: Atom slots of a crystal.
            backend: What `jax.default_backend()` says.
        """


def register(name: str) -> Callable[[N], N]:
    """Make a network known by a name."""

    def known(network: N) -> N:
        NETWORKS[name] = network
        return network

    return known


def network_class(name: str) -> type:
    """The network of a name.

    Raises:
        ValueError: If there is none, with the nearest known name.
    """
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS)
        raise ValueError(f"no network is called {name!r}{hint}; allowed: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def chunk_size_of(denoise: Any, num_atoms: int, backend: str) -> int:
    """The chunk that a denoiser's network chooses: a `Partial` of `net.denoise` knows its network.

    Args:
        denoise: A denoiser.
        num_atoms: Atom slots of a crystal.
        backend: What `jax.default_backend()` says.
    """
    network = _network_of(denoise)
    if not hasattr(network, "chunk_size"):
        return UNKNOWN_CHUNK
    return network.chunk_size(num_atoms, backend)


def takes_times(denoise: Any) -> bool:
    """Whether a denoiser's network can be shown parts of a crystal that are known."""
    network = _network_of(denoise)
    return getattr(network, "takes_times", False)


def _network_of(denoise: Any) -> Any:
    """The network of which a denoiser is a method, or a `Partial` of one; None for another."""
    return getattr(getattr(denoise, "func", denoise), "__self__", None)


def power_of_two_below(number: int) -> int:
    """The largest power of two that is at most `number`, at least 1: it divides usual batches."""
    return 2 ** (max(number, 1).bit_length() - 1)


def one_time(network: str, time: Int[Array, "*batch"] | Times) -> Int[Array, "*batch"]:
    """The time of a network that knows one for all parts of a crystal.

    Raises:
        ValueError: If the parts have times of their own, naming the network.
    """
    if isinstance(time, Times):
        raise ValueError(
            f"{network} takes one time for all parts of a crystal, and got times of their own for "
            "lattice, coordinates and types: give one integer for each crystal, or choose a "
            "network that is trained with parts at different times"
        )
    return time
