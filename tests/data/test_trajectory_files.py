import ase.io
import numpy as np
import pytest

from miad_jax.crystal import UNDECIDED, Crystal
from miad_jax.data.trajectory_files import write_trajectories

GOOD, FAILED = {"reason": "", "formula": "Na1 Cl1"}, {"reason": "no_real_atoms"}
TIMES, STEPS = np.array([9, 4, -1]), np.array([0, 5, 10])


@pytest.fixture
def crystals(random_crystals):
    """Two samples in three states; the last slot of the second is padding."""
    one = random_crystals([4, 4, 4, 3, 3, 3], 4, num_mirage=1)
    return Crystal(*(np.asarray(x).reshape(2, 3, *x.shape[1:]) for x in vars(one).values()))


def test_ase_reads_every_state_with_its_mirage_atoms(crystals, tmp_path):
    for _ in range(2):  # the same again replaces them
        write_trajectories(tmp_path / "t", 7, crystals, TIMES, STEPS, [GOOD, FAILED])
    names = ["000007_NaCl.extxyz", "000008.extxyz"]
    assert sorted(x.name for x in (tmp_path / "t").iterdir()) == names
    for i, name in enumerate(names):
        frames = ase.io.read(tmp_path / "t" / name, index=":")
        assert [x.info["time"] for x in frames] == TIMES.tolist()
        assert [x.info["step"] for x in frames] == STEPS.tolist()
        assert {x.info["index"] for x in frames} == {7 + i}
        for atoms, state in zip(frames, crystals[i], strict=True):
            assert atoms.symbols[0] == "X"
            np.testing.assert_array_equal(atoms.numbers, state.atom_types[state.mask])
            np.testing.assert_allclose(atoms.cell, state.lattice, atol=1e-6)
            cart = state.frac_coords[state.mask] @ state.lattice
            np.testing.assert_allclose(atoms.positions, cart, atol=1e-5)


def test_states_that_are_not_finite_are_left_out(crystals, tmp_path):
    lattice = crystals.lattice.copy()
    lattice[0, 1, 0, 0] = np.inf
    crystals = Crystal(lattice, crystals.frac_coords, crystals.atom_types, crystals.mask)
    write_trajectories(tmp_path, 0, crystals, TIMES, STEPS, [GOOD, GOOD])
    frames = ase.io.read(tmp_path / "000000_NaCl.extxyz", index=":")
    assert [x.info["step"] for x in frames] == [0, 10]


def test_a_row_for_every_sample_is_asked_for(crystals, tmp_path):
    with pytest.raises(ValueError, match="2 samples, but 1 rows"):
        write_trajectories(tmp_path, 0, crystals, TIMES, STEPS, [GOOD])


def test_an_undecided_atom_is_written_as_a_mirage_atom(crystals, tmp_path):
    types = crystals.atom_types.copy()
    types[:, :2, 1] = UNDECIDED
    crystals = Crystal(crystals.lattice, crystals.frac_coords, types, crystals.mask)
    write_trajectories(tmp_path, 0, crystals, TIMES, STEPS, [GOOD, GOOD])
    frames = ase.io.read(tmp_path / "000000_NaCl.extxyz", index=":")
    assert [str(atoms.symbols[1]) for atoms in frames[:2]] == ["X", "X"]
    assert frames[2].numbers[1] == types[0, 2, 1] > 0
