"""Crystals that nobody makes, through everything: all is finite, and the same or refused."""

import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure

from miad_jax.crystal import MIRAGE
from miad_jax.data.standard import standardize
from miad_jax.data.structures import from_structures, to_structures
from miad_jax.data.written import as_written
from miad_jax.diffusion import LossWeights, make_diffusion
from miad_jax.diffusion.joint import step
from miad_jax.diffusion.losses import example_at, loss_terms
from miad_jax.evaluation.describe import describe
from miad_jax.mirage import infuse, reduce
from miad_jax.sampling.solvers.base import draw_step_noise
from tests.fuzz.strategies import fuzzed, structures

BATCH, LARGEST, SLOTS, NUM_STEPS = 8, 6, 8, 50

PROCESSES = (
    {},
    {"lattice": "log", "coords": "flow", "types": "masked"},
    {"lattice": "lengths_angles", "types": "flow"},
    pytest.param({"lattice": "limit"}, marks=pytest.mark.slow),
    pytest.param({"lattice": "flow"}, marks=pytest.mark.slow),
)


def packed(each):
    """Crystals of some cells, packed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without electronegativity
        made = [Structure(cell, [int(x) for x in z], places) for cell, places, z in each]
        return from_structures(made, size=LARGEST)


@pytest.fixture(scope="module")
def forth_and_back(plain_denoise):
    """Infuse, noise, take the loss and its gradient, and step back; compiled once a process."""

    @partial(jax.jit, static_argnums=0)
    def run(names, key, crystals, t, s):
        diffusion = make_diffusion(NUM_STEPS, **dict(names))
        keys = jax.random.split(key, 5)
        infused = jax.vmap(lambda key, one: infuse(key, one, SLOTS))(
            jax.random.split(keys[0], BATCH), crystals
        )
        example = example_at(diffusion, keys[1], infused, t)

        def loss(scale):
            def denoise(crystal, time):
                return jax.tree.map(lambda x: scale * x, plain_denoise(crystal, time))

            return loss_terms(diffusion, denoise, example).total(LossWeights(cross_entropy=1.0))

        noise = jax.vmap(lambda *keys: draw_step_noise(diffusion, *keys, SLOTS))(
            *(jax.random.split(key, BATCH) for key in keys[2:])
        )
        said = plain_denoise(example.noised, t)
        back = step(diffusion, said, example.noised, t, s, noise)
        return infused, example, jax.value_and_grad(loss)(1.0), back

    return run


@pytest.mark.parametrize("names", PROCESSES)
def test_a_crystal_goes_forth_and_back(names, forth_and_back):
    @fuzzed(10)
    @given(
        st.lists(structures(LARGEST), min_size=BATCH, max_size=BATCH),
        st.lists(st.integers(0, NUM_STEPS - 1), min_size=BATCH, max_size=BATCH),
        st.integers(0, 2**32 - 1),
    )
    def check(each, times, seed):
        crystals = packed(each)
        t = jnp.array(times)
        infused, example, losses, back = forth_and_back(
            tuple(names.items()), jax.random.key(seed), crystals, t, t // 2 - 1
        )
        for value in jax.tree.leaves((example.noised, example.noise, losses, back)):
            assert np.isfinite(np.asarray(value, np.float64)).all()
        for crystal in (example.noised, back):
            assert ((crystal.frac_coords >= 0) & (crystal.frac_coords < 1)).all()
            assert ((crystal.atom_types >= 0) & (crystal.atom_types <= 100)).all()
        for before, after in zip(reduce(crystals), reduce(infused), strict=True):
            for one, two in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
                np.testing.assert_array_equal(one, two)
        assert (infused.atom_types == MIRAGE).sum() == BATCH * SLOTS - crystals.mask.sum()

    check()


@fuzzed(60)
@given(structures(LARGEST), st.booleans())
def test_a_cif_gives_the_same_crystal_or_a_reason(structure, primitive):
    cell, _, numbers = structure
    crystal = packed([structure])[0]
    row = describe(crystal, infused=False)
    if row["reason"]:
        return
    (written,) = to_structures(as_written(crystal).crystal)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = written.to(fmt="cif")
    (found,) = standardize(([text], {"primitive": primitive, "niggli": primitive}))
    if isinstance(found, str):
        assert re.match("has atoms that share a site: occupancies sum to", found)
        return
    times = len(numbers) // len(found[2])
    assert sorted(numbers) == sorted(found[2].tolist() * times)
    volume = times * np.linalg.det(found[0].astype(float))
    assert volume == pytest.approx(abs(np.linalg.det(cell)), rel=1e-3)
    if not primitive:
        moved = found[1][:, None].astype(float) - written.frac_coords  # in any order
        apart = np.abs(moved - np.round(moved)).max(-1)
        assert (apart.min(0) < 1e-5).all()
        assert (apart.min(1) < 1e-5).all()
