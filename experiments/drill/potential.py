"""A potential that knows every element and costs nothing, for the drill."""

from ase.calculators.lj import LennardJones

energies_are_corrected = True


def lennard_jones() -> LennardJones:
    """Lennard-Jones in eV and Å, the same for all elements."""
    return LennardJones(sigma=2.0, epsilon=0.5, rc=6.0)
