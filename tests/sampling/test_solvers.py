"""The contract of a solver, whichever it is; and what the published one alone promises."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import Crystal, Prediction
from miad_jax.diffusion import StepNoise, make_diffusion
from miad_jax.mirage import reduce
from miad_jax.sampling import SOLVERS, Control, PredictorCorrector, make_solver, reverse_step
from miad_jax.sampling.sample import sample
from miad_jax.sampling.sampler import reverse, steps_of
from miad_jax.sampling.solvers import Ancestral, Heun
from tests.sampling.known import (
    CENTERS,
    COORDS_STD,
    LATTICE_MEAN,
    LATTICE_STD,
    PAIR_PROBS,
    PAIRS,
    exact_denoise,
)

NUM_SAMPLES = 1000
KEY = jax.random.key(3)
KEYS = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(4))


def std_of_coords(diffusion, solver):
    """What a solver makes of the width of one coordinate: its steps are linear near a centre."""
    every = np.float64(diffusion.coords.sigma)
    times = solver.times(diffusion)
    first = np.array([COORDS_STD**2 + every[times[0]] ** 2])
    variance = first
    for t, s in zip(times, [*times[1:], -1], strict=True):
        variance = STD_OF[type(solver)](solver, every, variance, int(t), int(s))
    return np.sqrt(variance.item())


def of_a_step(sigma, sigma_s, variance, factor=1.0):
    """Of the ancestral step from one width to another."""
    gap = sigma**2 - sigma_s**2
    kept = 1 - factor * gap / (COORDS_STD**2 + sigma**2)
    return variance * kept**2 + sigma_s**2 * gap / sigma**2


def of_predictor_corrector(solver, every, variance, t, s):
    sigma, hold = every[t], s < 0 and solver.last_step == "hold"
    share = solver.corrector_gamma / every[0] ** 2
    drawn = 2 * share if solver.corrector == "langevin" else share * (2 - share)
    variance = variance * (1 - share * sigma**2 / (COORDS_STD**2 + sigma**2)) ** 2
    variance = variance + drawn * sigma**2 * (s >= 0 or hold)
    return variance if hold else of_a_step(sigma, every[s], variance)


def of_ancestral(solver, every, variance, t, s):
    higher = t if s < 0 else min(t + round(solver.churn * (t - s)), 999)
    variance = variance + every[higher] ** 2 - every[t] ** 2
    whole = every[higher] ** 2 / (every[higher] ** 2 - every[s] ** 2)
    factor = min(1 + solver.coords_ahead * (1 - higher / 1000), whole)
    return of_a_step(every[higher], every[s], variance, factor)


def of_heun(solver, every, variance, t, s):
    sigma, sigma_s = every[t], every[s]
    if s < 0:
        return of_a_step(sigma, sigma_s, variance)
    way = 1 - (sigma_s / sigma) ** 2
    here, there = (COORDS_STD**2 / (COORDS_STD**2 + x**2) for x in (sigma, sigma_s))
    first = 1 - way * (1 - here)  # of where the first evaluation leads
    kept = 1 - way + way * (here + there * first) / 2
    drawn = 1 + way * there / 2
    return variance * kept**2 + drawn**2 * sigma_s**2 * way


STD_OF = {PredictorCorrector: of_predictor_corrector, Ancestral: of_ancestral, Heun: of_heun}

# Of each solver: its settings, and how far from their truth it may leave the widths of the lattice
# and of the coordinates after 20, 50 and 100 steps. Ancestral steps of any DDPM leave too little
# noise; coordinates ahead of their schedule end narrower by design.
CASES = [
    ("predictor_corrector", {"last_step": "denoise"}, [0.15, 0.08, 0.05], [0.06, 0.03, 0.03]),
    ("predictor_corrector", {"last_step": "hold"}, [0.15, 0.08, 0.05], [0.06, 0.03, 0.03]),
    ("predictor_corrector", {"corrector": "renewal"}, [0.15, 0.08, 0.05], [0.13, 0.12, 0.12]),
    ("ancestral", {}, [0.15, 0.08, 0.05], [0.12, 0.06, 0.04]),
    ("ancestral", {"churn": 1.0}, [0.26, 0.15, 0.09], [0.2, 0.1, 0.06]),
    ("ancestral", {"churn": 1.0, "coords_ahead": 1.0}, [0.26, 0.15, 0.09], [0.43, 0.38, 0.35]),
    ("heun", {}, [0.07, 0.03, 0.02], [0.04, 0.02, 0.02]),
]
NAMES = ["-".join([name, *map(str, settings.values())]) for name, settings, *_ in CASES]
# What holds of a solver whatever its settings is tried with one choice of them.
EACH = [
    ("predictor_corrector", {"last_step": "hold", "corrector": "renewal"}),
    ("ancestral", {"churn": 1.0, "coords_ahead": 1.0}),
    ("heun", {}),
]
each_solver = pytest.mark.parametrize(("name", "settings"), EACH, ids=[name for name, _ in EACH])


def test_every_solver_is_here():
    assert {name for name, *_ in CASES} == {name for name, _ in EACH} == set(SOLVERS)
    assert set(STD_OF) == set(SOLVERS.values())


@pytest.fixture(scope="module")
def exact(full):
    return jax.tree_util.Partial(exact_denoise, full)


@pytest.mark.parametrize(
    "steps",
    [pytest.param(20, marks=pytest.mark.slow), 50, pytest.param(100, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("name", "settings", "lattice_error", "coords_error"), CASES, ids=NAMES)
def test_a_known_distribution_is_recovered(
    full, exact, name, settings, lattice_error, coords_error, steps
):
    which = [20, 50, 100].index(steps)
    solver = make_solver(name, steps=steps, **settings)
    crystals = sample(
        full, exact, jax.random.key(0), NUM_SAMPLES, 2, solver=solver, chunk_size=NUM_SAMPLES // 2
    )
    error = 4 / np.sqrt(NUM_SAMPLES)  # four standard errors
    deviation = (np.float64(crystals.lattice) - LATTICE_MEAN) / LATTICE_STD
    np.testing.assert_allclose(deviation.mean(0), 0, atol=error, err_msg="mean of the lattice")
    error_of_width = 4 / np.sqrt(2 * 9 * NUM_SAMPLES)
    np.testing.assert_allclose(deviation.std(), 1, atol=lattice_error[which] + error_of_width)

    assert crystals.frac_coords.min() >= 0
    assert crystals.frac_coords.max() < 1
    displacement = np.float64(crystals.frac_coords) - CENTERS
    displacement = (displacement - np.round(displacement)) / COORDS_STD
    np.testing.assert_allclose(displacement.mean(0), 0, atol=error, err_msg="mean of coordinates")
    expected = std_of_coords(full, solver) / COORDS_STD
    np.testing.assert_allclose(expected, 1, atol=coords_error[which])
    error_of_width = 4 / np.sqrt(2 * 6 * NUM_SAMPLES)
    np.testing.assert_allclose(displacement.std(), expected, atol=error_of_width + 0.01)

    types = np.asarray(crystals.atom_types)
    drawn = [(types == pair).all(1).mean() for pair in PAIRS]
    assert sum(drawn) > 0.99, "the two types of a crystal must belong together"
    error = 4 * np.sqrt(np.prod(PAIR_PROBS) / NUM_SAMPLES)
    np.testing.assert_allclose(drawn, PAIR_PROBS, atol=error + 0.5 / steps)

    # Mirage atoms vanish, so the number of atoms is distributed as the types say.
    sizes = np.array([len(crystal.atom_types) for crystal in reduce(crystals)])
    np.testing.assert_allclose((sizes == 1).mean(), PAIR_PROBS[0], atol=error + 0.5 / steps)


@pytest.fixture(scope="module")
def step(full, plain_denoise):
    """One step of a solver with a key for each of four crystals; compiled once for each solver."""

    @jax.jit
    def run(solver, keys, crystals, t, s):
        return reverse_step(full, plain_denoise, keys, crystals, t, s, solver=solver)

    def step(solver, crystals, t, s, keys=KEYS):
        t, s = (jnp.broadcast_to(jnp.asarray(time), (4,)) for time in (t, s))
        return run(solver, keys, crystals, t, s)

    return step


@each_solver
def test_the_denoiser_is_told_the_times_of_the_full_process(
    full, plain_denoise, crystals, name, settings
):
    solver = make_solver(name, steps=11, first_time=999, **settings)
    told = []

    def denoise(crystal, time):
        jax.debug.callback(lambda time: told.append(time.tolist()), time, ordered=True)
        return plain_denoise(crystal, time)

    @jax.jit
    def run(crystals, steps):
        return reverse(full, denoise, solver, Control(), KEYS, crystals, None, steps)

    jax.block_until_ready(run(crystals, steps_of(solver, full)))
    jax.effects_barrier()
    assert all(time == [time[0]] * 4 for time in told)
    visited = [time[0] for time in told]
    times = [999, 899, 799, 699, 599, 500, 400, 300, 200, 100, 0]
    if settings.get("churn"):  # up by as much as the step is long, but for the last
        up = [min(t + t - s, 999) for t, s in itertools.pairwise(times)]
        assert visited == [*up, 0]
    elif name == "heun":
        ends = [x for t, s in itertools.pairwise(times) for x in (t, s)]
        assert visited == [*ends, 0, 0]
    else:
        assert list(dict.fromkeys(visited)) == times
        assert visited == sorted(visited, reverse=True)


@each_solver
def test_each_crystal_has_its_own_times(step, crystals, name, settings):
    solver, t, s = make_solver(name, **settings), [0, 5, 999, 0], [-1, 3, 200, -1]
    mixed = step(solver, crystals, jnp.array(t), jnp.array(s))
    for i in range(4):
        alike = step(solver, crystals, t[i], s[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b[i]), mixed, alike)
    assert np.abs(alike.lattice[2] - mixed.lattice[2]).max() > 1e-3


@each_solver
def test_without_a_time_to_go_to_it_is_the_one_before(monkeypatch, full, crystals, name, settings):
    gone, kind = [], SOLVERS[name]
    monkeypatch.setattr(kind, "step", lambda self, *args: gone.append(args) or crystals)
    reverse_step(full, None, KEY, crystals, 7, solver=make_solver(name, **settings))
    _, _, _, _, t, s = gone[0]
    assert t.tolist() == [7] * 4
    assert s.tolist() == [6] * 4


# What does not count.


def with_garbage(crystals):
    """The same crystals, but for what stands in padding."""
    pad = ~crystals.mask
    return Crystal(
        crystals.lattice,
        jnp.where(pad[..., None], 1e3 * crystals.frac_coords - 77.3, crystals.frac_coords),
        jnp.where(pad, 99 - crystals.atom_types, crystals.atom_types),
        crystals.mask,
    )


def assert_padding_changes_nothing(step, crystals):
    garbage, real = with_garbage(crystals), np.asarray(crystals.mask)
    before, same = step(crystals), step(garbage)
    np.testing.assert_allclose(before.lattice, same.lattice, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(before.frac_coords[real], same.frac_coords[real], atol=1e-6)
    np.testing.assert_array_equal(before.atom_types[real], same.atom_types[real])
    # Padding itself stays as it is.
    np.testing.assert_array_equal(same.frac_coords[~real], garbage.frac_coords[~real])
    np.testing.assert_array_equal(same.atom_types[~real], garbage.atom_types[~real])
    np.testing.assert_array_equal(same.mask, garbage.mask)


@each_solver
@pytest.mark.parametrize(("t", "s"), [(11, 10), (0, -1)])
def test_padding_changes_nothing(step, crystals, name, settings, t, s):
    solver = make_solver(name, **settings)
    assert_padding_changes_nothing(lambda crystals: step(solver, crystals, t, s), crystals)


@pytest.mark.parametrize("name", SOLVERS)
def test_padding_changes_nothing_for_a_network(full, crystals, tiny_denoise, name):
    @jax.jit
    def step(crystals):
        return reverse_step(full, tiny_denoise, KEYS, crystals, 11, solver=make_solver(name))

    assert_padding_changes_nothing(step, crystals)


@each_solver
def test_a_crystal_does_not_depend_on_its_batch(
    full, step, crystals, plain_denoise, name, settings
):
    solver, order = make_solver(name, **settings), jnp.array([2, 0, 2, 1])
    whole = step(solver, crystals, 700, 650)
    other = step(solver, crystals[order], 700, 650, KEYS[order])
    jax.tree.map(np.testing.assert_array_equal, other, whole[order])
    alone = jax.jit(
        lambda key, crystal: reverse_step(
            full, plain_denoise, key, crystal, 700, 650, solver=solver
        )
    )(KEYS[1], crystals[1])
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-6, atol=1e-6)
    # Different crystals get different noise.
    moved = whole.frac_coords - crystals.frac_coords
    assert np.abs(moved[0] - moved[1]).max() > 1e-3


@pytest.mark.parametrize("name", SOLVERS)
def test_one_key_is_folded_with_the_index(full, step, crystals, plain_denoise, name):
    solver = make_solver(name)

    @jax.jit
    def both(key):
        raw = jax.random.key_data(key)
        return [
            reverse_step(full, plain_denoise, k, crystals, 700, 650, solver=solver)
            for k in (key, raw)
        ]

    expected = step(solver, crystals, 700, 650)
    for found in both(KEY):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@each_solver
def test_the_second_call_does_not_trace(plain_denoise, name, settings):
    traces = []

    def scaled(scale, crystal, time):
        return jax.tree.map(lambda x: scale * x, plain_denoise(crystal, time))

    def counting(denoise, crystal, time):
        traces.append(None)
        return denoise(crystal, time)

    def draw(denoise, solver, key):
        counted = jax.tree_util.Partial(counting, denoise)
        return sample(make_diffusion(4), counted, key, 2, 3, solver=solver, chunk_size=1)

    solver = make_solver(name, **settings)
    denoise = jax.tree_util.Partial(scaled, jnp.float32(1))
    first = draw(denoise, solver, KEY)
    count = len(traces)
    assert count > 0
    draw(jax.tree.map(lambda x: 2 * x, denoise), solver, jax.random.key(1))
    # Whatever number of the solver is no part of the program.
    other = jax.tree.map(lambda x: 3 * x + 0.1, solver)
    changed = draw(denoise, other, KEY)
    assert len(traces) == count
    if jax.tree.leaves(solver):
        assert np.abs(changed.frac_coords - first.frac_coords).max() > 1e-6
    # Nor are its times, as far as they are as many.
    draw(denoise, replace(solver, visit=(3, 1, 0)), KEY)
    assert len(traces) == count


# By name.


def test_a_solver_is_found_by_its_name():
    solver = make_solver("predictor_corrector", steps=9, corrector_gamma=1e-6, last_step="hold")
    assert solver == PredictorCorrector(9, 1e-6, "hold")
    assert make_solver("predictor_corrector", steps=9, of_another=3) == PredictorCorrector(9)


def test_an_unknown_solver_is_refused_with_the_nearest_name():
    near = r"no solver is called 'predictor_corector' \(did you mean 'predictor_corrector'\?\)"
    with pytest.raises(ValueError, match=near):
        make_solver("predictor_corector")
    with pytest.raises(ValueError, match=r"called 'xyz'; allowed: predictor_corrector, ancestral"):
        make_solver("xyz")


# The published solver.


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="last_step is 'abrupt'; allowed: denoise, hold"):
        PredictorCorrector(last_step="abrupt")
    with pytest.raises(ValueError, match="corrector is 'none'; allowed: langevin, renewal"):
        PredictorCorrector(corrector="none")
    with pytest.raises(ValueError, match="churn is -1; allowed: 0 or more"):
        Ancestral(churn=-1)
    with pytest.raises(ValueError, match="coords_ahead is nan; allowed: 0 or more"):
        Ancestral(coords_ahead=float("nan"))


def as_jax(numbers):
    """Integers as int32, the rest as float32."""
    return {
        name: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else jnp.float32)
        for name, x in numbers.items()
        if x.dtype.kind in "if"
    }


@pytest.fixture(scope="module")
def published(golden, full):
    """A step of the published sampler from the numbers of its file, and what it was asked."""
    numbers = golden("reverse_steps")
    score_sq_mean = jnp.asarray(np.append(numbers["coord_score_sq_mean"], 1), jnp.float32)
    diffusion = replace(full, coords=replace(full.coords, score_sq_mean=score_sq_mean))
    solver = PredictorCorrector(corrector_gamma=float(numbers["step_lr"]), last_step="hold")

    @jax.jit
    def step(g, times):
        asked = []

        def denoise(crystal, time):
            asked.append((crystal, time))
            which = "corrector" if len(asked) == 1 else "predictor"
            return Prediction(g["pred_lattice"], g[f"pred_coords_{which}"], g["pred_types"])

        crystal = Crystal(g["lattice_t"], g["frac_t"], g["types_t"], jnp.ones((5, 8), bool))
        noise = StepNoise(g["noise_lattice"], g["noise_predictor"], jnp.full((5, 8), 0.5))
        before = solver.step_with(
            diffusion, denoise, crystal, times, times - 1, noise, g["noise_corrector"]
        )
        probs = diffusion.types.posterior(
            g["types_t"], jax.nn.softmax(g["pred_types"]), times[:, None], times[:, None] - 1
        )
        return before, probs, asked

    return step


@pytest.mark.parametrize("t", [999, 500, 120, 1, 0])
def test_a_reverse_step_equals_the_published(golden, published, same_coords, t):
    numbers = golden("reverse_steps")
    g = as_jax({k.removeprefix(f"t{t}_"): x for k, x in numbers.items() if k.startswith(f"t{t}_")})
    before, probs, asked = published(g, jnp.full(5, t))

    # The second evaluation sees the corrected coordinates, at the old lattice and types.
    assert len(asked) == 2
    for _, time in asked:
        np.testing.assert_array_equal(time, [t] * 5)
    seen = asked[1][0]
    np.testing.assert_allclose(seen.frac_coords, g["frac_half"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen.lattice, g["lattice_t"])
    np.testing.assert_array_equal(seen.atom_types, g["types_t"])
    same_coords(before.frac_coords, g["frac_next"], atol=1e-5)
    np.testing.assert_allclose(before.lattice, g["lattice_next"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probs, g["type_probs_next"], rtol=1e-4, atol=1e-5)
    if t == 0:
        np.testing.assert_array_equal(before.atom_types, g["type_probs_next"].argmax(-1))
    else:
        cumulative = np.cumsum(np.float64(g["type_probs_next"]), -1)
        cumulative /= cumulative[..., -1:]
        at = np.asarray(before.atom_types)[..., None]
        upper = np.take_along_axis(cumulative, at, -1)[..., 0]
        width = np.take_along_axis(np.float64(g["type_probs_next"]), at, -1)[..., 0]
        assert (upper >= 0.5 - 1e-4).all()
        assert (upper - width <= 0.5 + 1e-4).all()


def test_a_coordinate_that_is_held_does_not_move_in_the_last_predictor_step(step, crystals):
    still, noisy = (PredictorCorrector(corrector_gamma=x, last_step="hold") for x in (0.0, 1e-5))
    last = step(still, crystals, 0, -1)
    np.testing.assert_array_equal(last.frac_coords, crystals.frac_coords)
    assert np.abs(last.lattice - crystals.lattice).max() > 1e-4, "the lattice moves"
    one, two = (step(noisy, crystals, 0, -1, keys) for keys in (KEYS, KEYS[::-1]))
    assert np.abs(one.frac_coords - two.frac_coords).max() > 1e-4, "the corrector is noisy"
    # It is the last step that holds, from whatever time it goes.
    far, other = step(still, crystals, 400, -1), step(still, crystals, 400, 0)
    np.testing.assert_array_equal(far.frac_coords, crystals.frac_coords)
    assert np.abs(other.frac_coords - crystals.frac_coords).max() > 1e-3


def test_the_last_denoising_step_follows_the_score_without_noise(full, step, crystals, same_coords):
    gamma = 1e-3
    solver = PredictorCorrector(corrector_gamma=gamma)
    assert solver.last_step == "denoise", "the default"
    last = step(solver, crystals, 0, -1)
    sigma, rms = 0.005, np.sqrt(np.float64(full.coords.score_sq_mean[0]))
    half = np.float64(crystals.frac_coords)
    half = half - gamma * rms * np.sin(2 * np.pi * half)
    expected = half - sigma**2 * rms * np.sin(2 * np.pi * half)
    real = np.asarray(crystals.mask)
    same_coords(last.frac_coords[real], expected[real], atol=1e-6)
