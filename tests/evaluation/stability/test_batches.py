"""Batched relaxation against ASE's, with a Lennard-Jones potential that both have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from miad_jax.evaluation.stability import batches, potential
from miad_jax.evaluation.stability.batches import CPU_SIZE, relax_in_batches
from miad_jax.evaluation.stability.fire import exponential, fire_step
from miad_jax.evaluation.stability.moving import JaxPotential
from miad_jax.evaluation.stability.neighbours import SKIN_ANGSTROM, Neighbours, pairs_within
from miad_jax.parallel.executor import WorkerFailure

SIGMA, DEPTH, CUTOFF = 2.3, 0.4, 5.0
ONSET = 0.66 * CUTOFF
LITHIUM, SODIUM, IRON = 3, 11, 26


def site_energies(depth, displacements, species, senders, receivers):
    """ASE's smooth Lennard-Jones; sodium makes it NaN, and iron lets crystals collapse."""
    squares = (displacements**2).sum(-1)
    low, high = ONSET**2, CUTOFF**2
    c6 = (SIGMA**2 / squares) ** 3
    fade = (high - squares) ** 2 * (high + 2 * squares - 3 * low) / (high - low) ** 3
    fade = jnp.where(squares < low, 1.0, jnp.where(squares < high, fade, 0.0))
    energies = 2 * depth * (c6**2 - c6) * fade
    energies = jnp.where(species[receivers] == 2, -10 * fade / squares, energies)
    total = jax.ops.segment_sum(energies, receivers, len(species))
    return total + jnp.where(species == 1, jnp.nan, 0.0)


LJ = JaxPotential(
    name="LJ",
    cutoff_angstrom=CUTOFF,
    species={LITHIUM: 0, SODIUM: 1, IRON: 2},
    site_energies=jax.tree_util.Partial(site_energies, jnp.float32(DEPTH)),
)


def request(lattice, frac_coords, number=LITHIUM, max_steps=300):
    return {
        "lattice": np.asarray(lattice, float).tolist(),
        "frac_coords": np.asarray(frac_coords, float).tolist(),
        "atomic_numbers": [number] * len(frac_coords),
        "max_steps": max_steps,
        "fmax_ev_per_angstrom": 0.05,
    }


def fcc(repeats=(1, 1, 1), strain=0.03, seed=0, **settings):
    """A strained fcc crystal with its atoms off their places, some in other cells."""
    rng = np.random.default_rng(seed)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), -1).reshape(-1, 1, 3)
    coords = (basis + cells).reshape(-1, 3) / repeats
    lattice = 3.6 * np.diag(repeats) @ (np.eye(3) + strain * rng.normal(size=(3, 3)))
    coords = coords + 0.02 * rng.normal(size=coords.shape) / repeats + rng.integers(-2, 3, 3)
    return request(lattice, coords, **settings)


def by_ase(request):
    """What the worker of other potentials does with a crystal."""
    atoms = Atoms(
        numbers=request["atomic_numbers"],
        cell=request["lattice"],
        scaled_positions=request["frac_coords"],
        pbc=True,
        calculator=LennardJones(sigma=SIGMA, epsilon=DEPTH, rc=CUTOFF, ro=ONSET, smooth=True),
    )
    return potential._relax(atoms, request["max_steps"], request["fmax_ev_per_angstrom"])


def in_batches(requests, **settings):
    found = dict(relax_in_batches(LJ, requests, **settings))
    return [found[i] for i in range(len(requests))]


@pytest.fixture(scope="module")
def several():
    requests = [
        fcc(max_steps=60),
        request(3.0 * np.eye(3), [[0.3, 0.2, 0.1]]),
        fcc((2, 1, 1), seed=1, max_steps=4),
        fcc((3, 3, 1), seed=2, max_steps=2),  # 36 atoms are more than a batch usually holds
        fcc(seed=4, max_steps=0),
    ]
    assert len(requests[3]["atomic_numbers"]) > CPU_SIZE.atoms
    return requests, in_batches(requests)


def test_batches_do_what_ase_does(several):
    for request, record in zip(*several, strict=True):
        expected = by_ase(request)
        assert record["status"] == expected["status"]
        assert record["steps"] == pytest.approx(expected["steps"], abs=1)
        assert record["energy_ev_per_atom"] == pytest.approx(
            expected["energy_ev_per_atom"], abs=1e-4
        )
        np.testing.assert_allclose(record["lattice"], expected["lattice"], atol=0.02)
        np.testing.assert_allclose(record["frac_coords"], expected["frac_coords"], atol=0.005)
    statuses = [record["status"] for record in several[1]]
    assert statuses == ["converged"] * 2 + ["not converged"] * 3


def test_a_crystal_does_not_depend_on_its_company(several):
    requests, together = several
    for i in (0, 2):
        (alone,) = in_batches([requests[i]])
        assert (alone["status"], alone["steps"]) == (together[i]["status"], together[i]["steps"])
        assert alone["energy_ev_per_atom"] == pytest.approx(
            together[i]["energy_ev_per_atom"], abs=1e-6
        )


def test_a_second_set_of_crystals_compiles_nothing():
    in_batches([fcc(seed=seed, strain=0.01) for seed in range(20, 26)], num_lanes=1)
    compiled = fire_step._cache_size()
    in_batches([fcc(seed=seed, strain=0.01) for seed in range(30, 36)], num_lanes=1)
    assert fire_step._cache_size() == compiled


def test_every_crystal_has_an_outcome():
    apart = request(9.0 * np.eye(3), [[0, 0, 0]], max_steps=0)
    requests = [
        fcc(),
        request(3.6 * np.eye(3), [[0, 0, 0]], number=12),
        request(3.6 * np.eye(3), [[0, 0, 0]], number=SODIUM),
        request(3.6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], number=IRON),
        request(0.9 * np.eye(3), [[0, 0, 0]]),
        apart,  # an atom without a neighbour
    ]
    found = in_batches(requests)
    assert [record["status"] for record in found] == ["converged", *["failed"] * 4, "converged"]
    reasons = [record.get("reason", "") for record in found]
    assert reasons[1] == "LJ does not know Mg"
    assert reasons[2] == ("the relaxation diverges: at step 0 the potential's answer is not finite")
    assert reasons[3].startswith("the relaxation diverges: at step ")
    assert "Å³ an atom" in reasons[3]
    assert reasons[4] == "the cell has 0.729 Å³ an atom; allowed are 1 to 1000"
    assert found[5]["energy_ev_per_atom"] == 0


def test_a_needle_has_the_neighbours_that_ase_finds():
    needle = request([[1.2, 0, 0], [0.3, 1.5, 0], [0, 0, 14.0]], [[0, 0, 0], [0, 0, 0.5]])
    needle["max_steps"] = 0
    (record,) = in_batches([needle])
    assert record["energy_ev_per_atom"] == pytest.approx(
        by_ase(needle)["energy_ev_per_atom"], rel=1e-5
    )


def test_a_crystal_that_takes_too_long_fails_alone():
    slow, quick = fcc(max_steps=10**6), fcc(seed=1, max_steps=3)
    slow["fmax_ev_per_angstrom"] = 1e-12
    found = in_batches([slow, quick], seconds=0.3)
    assert found[0] == WorkerFailure("took longer than 0.3 s", timed_out=True)
    assert found[1]["status"] == "not converged"


def test_an_error_ends_the_call_and_the_lanes():
    broken = JaxPotential("broken", CUTOFF, {LITHIUM: 0}, jax.tree_util.Partial(lambda *x: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        list(relax_in_batches(broken, [fcc(), fcc(seed=1)]))
    found = relax_in_batches(LJ, [fcc(seed=seed) for seed in range(30, 34)])
    next(found)
    found.close()
    assert not [x for x in batches.threading.enumerate() if "run" in x.name]


@pytest.mark.parametrize(("size", "rtol"), [(0, 1e-14), (1e-3, 1e-14), (0.2, 1e-12), (2.3, 1e-7)])
def test_the_exponential_is_scipys(size, rtol):
    turned = Rotation.from_rotvec([0.4, 0.9, 0.1]).as_matrix()
    matrix = size * (turned.T @ np.diag([3, -1, 0.2]) @ turned)
    np.testing.assert_allclose(exponential(matrix), expm(matrix), rtol=rtol, atol=rtol)


def brute_force(positions, cell, distance):
    """All pairs of atoms in 15 × 15 × 15 cells."""
    steps = np.arange(-7, 8)
    shifts = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    found = set()
    for i, one in enumerate(positions):
        for j, other in enumerate(positions):
            apart = np.linalg.norm(other - one + shifts @ cell, axis=1)
            near = (apart < distance) & (apart > 1e-8)
            found |= {(j, i, *shift) for shift in shifts[near].tolist()}
    return found


def as_set(pairs):
    return {(*x, *y) for *x, y in zip(pairs.senders, pairs.receivers, pairs.shifts, strict=True)}


def test_neighbours_are_all_of_them():
    rng = np.random.default_rng(0)
    for _ in range(5):
        cell = 3.5 * np.eye(3) + rng.normal(size=(3, 3))
        positions = rng.uniform(-1, 2, (3, 3)) @ cell
        assert as_set(pairs_within(positions, cell, 4.0)) == brute_force(positions, cell, 4.0)


def test_neighbours_follow_atoms_and_cell():
    rng = np.random.default_rng(1)
    cell, coords = 3.5 * np.eye(3), rng.uniform(-0.5, 1.5, (4, 3))
    neighbours, searches = Neighbours(3.0), []
    before = None
    for _ in range(60):
        coords = coords + 0.015 * rng.normal(size=coords.shape)
        cell = cell @ (np.eye(3) + 0.01 * rng.normal(size=(3, 3)))
        found = neighbours.at(coords @ cell, cell)
        assert as_set(found) == brute_force(coords @ cell, cell, 3.0)
        searches.append(neighbours._found is not before)
        before = neighbours._found
    assert 3 < sum(searches) < 40


def test_a_turned_crystal_is_found_again():
    """What only turns keeps its neighbours, but the bound of the list does not see that."""
    cell = 3.5 * np.eye(3)
    positions = np.array([[0.0, 0, 0], [1.7, 1.8, 1.6]])
    neighbours = Neighbours(3.0)
    before = as_set(neighbours.at(positions, cell))
    turn = Rotation.from_rotvec([0.4, 0.9, 0.1]).as_matrix()
    assert as_set(neighbours.at(positions @ turn, cell @ turn)) == before
    assert SKIN_ANGSTROM > 0
