"""Forward from any time to a later one: what samplers do to take a decision back."""

from __future__ import annotations

from miad_jax.condition import Time, each_part
from miad_jax.crystal import Crystal
from miad_jax.diffusion.joint import Diffusion, Noise
from miad_jax.diffusion.process import MarkovProcess
from miad_jax.padding import keep_padding


def renoised(diffusion: Diffusion, crystal_s: Crystal, s: Time, t: Time, noise: Noise) -> Crystal:
    """Draw x_t ~ q(x_t | x_s) from given noise; padding stays as it is.

    Args:
        diffusion: The joint process.
        crystal_s: Crystals at time s.
        s: Their time, −1 … t.
        t: The later time, at most T−1; where it is s, nothing changes.
        noise: As from `draw_noise`.

    Raises:
        ValueError: If the process of the coordinates is a flow, in which x_t of x_s alone has no
            distribution.
    """
    coords = diffusion.coords
    if not isinstance(coords, MarkovProcess):
        raise ValueError(
            f"the coordinates are those of a {type(coords).__name__}, which does not go back up in "
            "time: choose a process with `renoise`"
        )
    then, now = each_part(s), each_part(t)
    crystal_t = Crystal(
        diffusion.lattice.renoise(crystal_s.lattice, then.lattice, now.lattice, noise.lattice),
        coords.renoise(crystal_s.frac_coords, then.coords, now.coords, noise.coords),
        diffusion.types.renoise(crystal_s.atom_types, then.types, now.types, noise.types),
        crystal_s.mask,
    )
    return keep_padding(crystal_t, crystal_s)
