"""The sampler's promises, with a network that compiles quickly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import miad_jax
from miad_jax.crystal import NUM_TYPES, real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.network.base import UNKNOWN_CHUNK, chunk_size_of
from miad_jax.parallel.progress import Bar, Progress
from miad_jax.sampling import Control, PredictorCorrector
from miad_jax.sampling.sample import draw_num_atoms, sample, sample_keys
from miad_jax.sampling.sampler import LARGEST_CPU_CHUNK, Sampler, reverse, start, steps_of

SIZE, CHUNK = 3, 2
KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def diffusion():
    return make_diffusion(4)


@pytest.fixture(scope="module")
def denoise(tiny_net, tiny_params):
    return jax.tree_util.Partial(tiny_net.denoise, tiny_params)


@pytest.fixture(scope="module")
def seven(diffusion, denoise):
    return sample(diffusion, denoise, KEY, 7, SIZE, chunk_size=CHUNK)


def assert_equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


class RecordedBar(Bar):
    def __init__(self, shown):
        self.shown = shown

    def advance(self, amount=1):
        self.shown.append(amount)

    def close(self):
        self.shown.append("closed")


class Recorded(Progress):
    def __init__(self):
        self.shown = []

    def bar(self, description, total, unit="", done=0):
        self.shown.append((description, total))
        return RecordedBar(self.shown)


def test_samples_are_crystals(seven):
    assert len(seven) == 7
    assert seven.size == SIZE
    assert seven.mask.all()
    assert all(np.isfinite(x).all() for x in (seven.lattice, seven.frac_coords))
    assert seven.frac_coords.min() >= 0
    assert seven.frac_coords.max() < 1
    assert seven.atom_types.min() >= 0
    assert seven.atom_types.max() < NUM_TYPES
    assert len(np.unique(np.asarray(seven.lattice)[:, 0, 0])) == 7, "samples must differ"


@pytest.mark.parametrize(("num", "first"), [(1, 0), (3, 4), (5, 2)])
def test_a_sample_depends_on_its_index_alone(diffusion, denoise, seven, num, first):
    part = sample(diffusion, denoise, KEY, num, SIZE, first_index=first, chunk_size=CHUNK)
    assert_equal(part, seven[first : first + num])


def test_another_key_gives_other_samples(diffusion, denoise, seven):
    other = sample(diffusion, denoise, jax.random.key(12), 7, SIZE, chunk_size=CHUNK)
    assert (np.abs(other.lattice - seven.lattice).max((1, 2)) > 1e-3).all()


def test_what_is_not_given_is_as_published(diffusion, denoise, seven):
    same = sample(
        diffusion, denoise, KEY, 7, SIZE,
        solver=PredictorCorrector(), control=Control(), condition=None, chunk_size=CHUNK,
    )  # fmt: skip
    assert_equal(same, seven)


@pytest.fixture(scope="module")
def sampler(diffusion, denoise):
    return Sampler(diffusion, denoise, SIZE, chunk_size=CHUNK, steps_per_dispatch=2)


def test_two_devices_give_what_one_gives(monkeypatch, diffusion, denoise, seven):
    assert jax.local_device_count() == 2
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    progress = Recorded()
    alone = sample(diffusion, denoise, KEY, 7, SIZE, chunk_size=CHUNK, progress=progress)
    # Bits are promised from two devices on: on one alone XLA divides products among threads.
    np.testing.assert_array_equal(alone.atom_types, seven.atom_types)
    np.testing.assert_allclose(alone.frac_coords, seven.frac_coords, atol=1e-5)
    np.testing.assert_allclose(alone.lattice, seven.lattice, rtol=1e-4, atol=1e-3)
    # Four rounds of one chunk, where two devices make two rounds of two.
    assert progress.shown == [("sampling", 7), *[1.75] * 4, "closed"]


def test_dispatches_make_no_difference_and_are_told(sampler, seven):
    keys, shown = sample_keys(KEY, np.arange(7)), []
    crystals, num_real = sampler.draw(keys, np.full(7, SIZE), bar=RecordedBar(shown))
    assert_equal(crystals, seven)
    assert shown == [1.75] * 4  # two rounds of two chunks, each in two dispatches

    # The number of real atoms after every step; the last is that of the result.
    assert num_real.shape == (7, 3)
    np.testing.assert_array_equal(num_real[:, -1], real_atom_mask(crystals).sum(-1))

    # A batch that is not full is filled up, and the filling left out.
    crystals, num_real = sampler.draw(keys[:3], np.full(3, SIZE))
    assert_equal(crystals, seven[:3])
    assert num_real.shape == (3, 3)


def test_the_trajectory_counts_the_real_atoms_of_every_step(diffusion, denoise, seven):
    keys, solver = sample_keys(KEY, np.arange(8)), PredictorCorrector()
    crystal = jax.jit(start)(diffusion, keys, jnp.ones((8, SIZE), bool))
    run = jax.jit(reverse)
    steps = steps_of(solver, diffusion)
    assert steps.tolist() == [[2, 1, 2], [1, 0, 1], [0, -1, 0]]
    for one in steps:
        crystal, count = run(diffusion, denoise, solver, Control(), keys, crystal, None, one[None])
        np.testing.assert_array_equal(count[:, 0], real_atom_mask(crystal).sum(-1))
    np.testing.assert_array_equal(crystal.atom_types[:7], seven.atom_types)
    np.testing.assert_allclose(crystal.frac_coords[:7], seven.frac_coords, atol=1e-5)
    np.testing.assert_allclose(crystal.lattice[:7], seven.lattice, rtol=1e-4, atol=1e-5)


def test_the_baseline_keeps_its_number_of_atoms(diffusion, denoise, sampler, seven):
    counts = np.array([1, 3, 2, 3, 1, 2, 3])
    crystals = sample(diffusion, denoise, KEY, 7, counts, chunk_size=CHUNK)
    np.testing.assert_array_equal(crystals.num_atoms, counts)
    np.testing.assert_array_equal(crystals.mask, np.arange(SIZE) < counts[:, None])
    # A full crystal is the same beside others that are not.
    assert_equal(crystals[jnp.array([1, 3, 6])], seven[jnp.array([1, 3, 6])])
    assert np.abs(crystals.lattice[0] - seven.lattice[0]).max() > 1e-4

    alone = sample(diffusion, denoise, KEY, 1, counts[:1], size=SIZE, chunk_size=CHUNK)
    assert_equal(alone, crystals[:1])
    with pytest.raises(ValueError, match="num_atoms is 3: more than size = 2"):
        sample(diffusion, denoise, KEY, 7, counts, size=2)

    shared, num_real = sampler.draw(sample_keys(KEY, np.arange(7)), counts)
    assert_equal(shared, crystals)
    assert (num_real <= counts[:, None]).all()


def test_the_number_of_atoms_follows_the_histogram():
    histogram = np.array([0, 10.0, 0, 30, 60])
    keys = sample_keys(jax.random.key(0), np.arange(2000))
    drawn = draw_num_atoms(keys, histogram)
    counts = np.bincount(drawn, minlength=5)
    expected = 2000 * histogram / histogram.sum()
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all(), counts
    np.testing.assert_array_equal(draw_num_atoms(keys[:5], histogram), drawn[:5])


@pytest.mark.parametrize("num_atoms", [0, -1, np.array([2, 0, 1])])
def test_crystals_without_atoms_are_refused(diffusion, denoise, num_atoms):
    worst = np.min(num_atoms)
    with pytest.raises(ValueError, match=f"num_atoms is {worst}: .* at least one atom"):
        sample(diffusion, denoise, KEY, 3, num_atoms)


def test_no_samples_are_refused(diffusion, denoise):
    with pytest.raises(ValueError, match="num_samples is 0: ask for at least one"):
        sample(diffusion, denoise, KEY, 0, SIZE)


def test_counts_of_another_length_are_refused(diffusion, denoise):
    with pytest.raises(ValueError, match=r"broadcast|num_atoms"):
        sample(diffusion, denoise, KEY, 3, np.array([1, 2]))


def test_the_network_chooses_the_chunk(diffusion, plain_denoise):
    net = miad_jax.CSPNet(hidden_dim=192)
    denoise = jax.tree_util.Partial(net.denoise, None)
    assert net.chunk_size(12, "cpu") == 16
    assert Sampler(diffusion, denoise, 12).chunk_size == LARGEST_CPU_CHUNK
    assert Sampler(diffusion, denoise, 50).chunk_size == net.chunk_size(50, "cpu") == 1
    assert Sampler(diffusion, denoise, 12, chunk_size=5).chunk_size == 5
    assert chunk_size_of(plain_denoise, 12, "gpu") == UNKNOWN_CHUNK
    assert chunk_size_of(net.denoise, 25, "gpu") == net.chunk_size(25, "gpu") > 16


@pytest.mark.parametrize(
    ("old", "place"),
    [
        ("num_kept", r"solver=PredictorCorrector\(steps=...\)"),
        ("corrector_gamma", r"solver=PredictorCorrector\(corrector_gamma=...\)"),
        ("ending", r"solver=PredictorCorrector\(last_step="),
        ("type_temperature", r"control=Control\(type_temperature=...\)"),
        ("coords_score", r"control=Control\(coords_score=...\)"),
    ],
)
def test_what_moved_from_the_process_is_told(old, place):
    with pytest.raises(
        ValueError, match=rf"no argument '{old}': give {place}.* to miad_jax.sample"
    ):
        make_diffusion(**{old: 1})
