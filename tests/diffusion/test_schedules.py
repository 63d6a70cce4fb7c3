"""The tables against the published numbers, and against formulas written once more in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.schedules import score_sq_mean

STEPS, OFFSET = 1000, 0.008


def float64(process):
    """The columns of a process, without the logarithms."""
    return {
        name: np.float64(column)
        for name, column in vars(process).items()
        if not name.startswith("log_")
    }


def kept_and_lost(log_table, t, s):
    """x_t/x_s and 1 − x_t/x_s of a falling share, in float32 as steps compute them."""
    difference = log_table.difference(jnp.asarray(t), jnp.asarray(s))
    return np.float64(jnp.exp(difference)), np.float64(-jnp.expm1(difference))


def reverse_std(lattice, t, s):
    _, beta = kept_and_lost(lattice.log_alpha_bar, t, s)
    remaining = np.float64(lattice.one_minus_alpha_bar)
    return np.sqrt(beta * remaining[s] / remaining[t])


def lattice_oracle():
    """ᾱ_0, …, ᾱ_{T−1} as a product, step by step, and the clean 1 last."""
    alpha_bar = [1.0]
    for t in range(STEPS):
        f, f_next = (
            np.cos((u / STEPS + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2 for u in (t, t + 1)
        )
        alpha_bar.append(alpha_bar[-1] * (1 - min(max(1 - f_next / f, 1e-4), 0.9999)))
    return np.roll(alpha_bar, -1)


def types_oracle():
    """a(1), …, a(T), and the clean a(0) last."""
    u = np.arange(STEPS + 1) / (STEPS + 1)
    cosine = np.cos((u + OFFSET) / (1 + OFFSET) * np.pi / 2)
    return np.roll(cosine / np.cos(OFFSET / (1 + OFFSET) * np.pi / 2), -1)


def test_the_tables_equal_the_published(golden, full):
    g = golden("schedules")
    lattice, coords, types = (float64(x) for x in (full.lattice, full.coords, full.types))
    t = np.arange(STEPS)
    keep, redrawn = types["keep"][t], types["one_minus_keep"][t]
    _, beta = kept_and_lost(full.types.log_keep, t, t - 1)
    for ours, published, atol in (
        (lattice["alpha_bar"][t], g["lattice_alpha_bar"], 1e-5),
        (kept_and_lost(full.lattice.log_alpha_bar, t, t - 1)[1], g["lattice_beta"], 1e-5),
        (reverse_std(full.lattice, t, t - 1), g["lattice_reverse_std"], 1e-5),
        (coords["sigma"][t], g["coord_sigma"], 1e-5),
        (keep + redrawn / NUM_TYPES, g["type_Qbar_diag"], 3e-4),
        (redrawn / NUM_TYPES, g["type_Qbar_off"], 3e-4),
        (1 - beta + beta / NUM_TYPES, g["type_Q_diag"], 1e-5),
        (beta / NUM_TYPES, g["type_Q_off"], 1e-5),
    ):
        assert ours.shape == published.shape == (STEPS,)
        np.testing.assert_allclose(ours, published, rtol=1e-4, atol=atol)


def test_the_mean_square_of_the_score_is_exact(golden, full):
    g = golden("schedules")
    ours = full.coords.score_sq_mean[:-1]
    np.testing.assert_allclose(ours, g["coord_score_sq_mean_exact"], rtol=1e-3)
    # The published estimate from random draws is as far off as it is said to be.
    error = g["coord_score_sq_mean_reference"] / np.float64(ours) - 1
    assert 0.005 < np.abs(error).max() < 0.02
    # Narrow: a normal on the line, E[s²] = 1/σ². Wide: q ≈ 1 + 2 e^{−2π²σ²} cos(2πd).
    np.testing.assert_allclose(score_sq_mean(np.array([0.005])), 1 / 0.005**2, rtol=1e-9)
    wide = 2 * (2 * np.pi * np.exp(-2 * np.pi**2 * 0.8**2)) ** 2
    np.testing.assert_allclose(score_sq_mean(np.array([0.8])), wide, rtol=1e-4)


def test_the_columns_keep_their_digits_at_small_t(full):
    """1 − ᾱ and 1 − a would have no correct digits as float32 differences."""
    alpha_bar, keep = lattice_oracle(), types_oracle()
    for process, expected in (
        (full.lattice, {"alpha_bar": alpha_bar, "one_minus_alpha_bar": 1 - alpha_bar}),
        (full.types, {"keep": keep, "one_minus_keep": 1 - keep}),
    ):
        found = float64(process)
        assert found.keys() == expected.keys()
        for name, column in expected.items():
            np.testing.assert_allclose(found[name], column, rtol=1e-6, err_msg=name)
    assert all(column.dtype == jnp.float32 for column in jax.tree.leaves(full))


@pytest.mark.parametrize("gap", [1, 2, 37, 600])
@pytest.mark.parametrize("field", ["lattice", "types"])
def test_steps_keep_their_digits_whatever_their_length(full, field, gap):
    """α and β of neighbours would have no correct digits as differences of float32 logarithms."""
    table, oracle = {
        "lattice": (full.lattice.log_alpha_bar, lattice_oracle()),
        "types": (full.types.log_keep, types_oracle()),
    }[field]
    t = np.arange(gap - 1, STEPS)
    s = t - gap
    assert s[0] == -1
    alpha, beta = kept_and_lost(table, t, s)
    np.testing.assert_allclose(alpha, oracle[t] / oracle[s], rtol=1e-6)
    np.testing.assert_allclose(beta, 1 - oracle[t] / oracle[s], rtol=1e-6)
    to_clean = np.full_like(t, -1)
    alpha, beta = kept_and_lost(table, t, to_clean)
    np.testing.assert_allclose(alpha, oracle[t], rtol=1e-6)
    np.testing.assert_allclose(beta, 1 - oracle[t], rtol=1e-6)


@pytest.mark.parametrize("num_kept", [1, 2, 37, 1000])
def test_steps_multiply_to_the_full_process(full, num_kept):
    t = np.round(np.linspace(0, STEPS - 1, num_kept)).astype(int) if num_kept > 1 else [STEPS - 1]
    t = np.asarray(t)
    s = np.concatenate([[-1], t[:-1]])
    lattice, coords, types = (float64(x) for x in (full.lattice, full.coords, full.types))

    alpha, beta = kept_and_lost(full.lattice.log_alpha_bar, t, s)
    np.testing.assert_allclose(np.cumprod(alpha), lattice["alpha_bar"][t], rtol=1e-4)
    np.testing.assert_allclose(1 - beta, alpha, rtol=1e-6, atol=1e-7)
    keep, redrawn = kept_and_lost(full.types.log_keep, t, s)
    np.testing.assert_allclose(np.cumprod(1 - redrawn), types["keep"][t], rtol=1e-4)
    np.testing.assert_allclose(np.cumprod(keep), types["keep"][t], rtol=1e-4)
    gap = coords["sigma"][t] ** 2 - coords["sigma"][s] ** 2
    np.testing.assert_allclose(np.cumsum(gap), coords["sigma"][t] ** 2, rtol=1e-4)

    alpha_bar = lattice_oracle()
    before, after = alpha_bar[s], alpha_bar[t]
    variance = (1 - after / before) * (1 - before) / (1 - after)
    found = reverse_std(full.lattice, t, s)
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=1e-5)
    assert found[0] == 0


def test_the_process_has_both_ends_and_the_clean_row(full, short):
    np.testing.assert_allclose(full.coords.sigma[jnp.array([0, -2])], [0.005, 0.5], rtol=1e-6)
    assert 0 < full.lattice.alpha_bar[STEPS - 1] < 1e-5
    assert 0 < full.types.keep[STEPS - 1] < 0.002
    for process, clean in (
        (full.lattice, {"alpha_bar": 1, "one_minus_alpha_bar": 0}),
        (full.coords, {"sigma": 0, "score_sq_mean": 1}),
        (full.types, {"keep": 1, "one_minus_keep": 0}),
    ):
        columns = float64(process)
        assert {name: column[-1] for name, column in columns.items()} == clean
        assert all(len(column) == STEPS + 1 for column in columns.values())
        assert process.num_steps == full.num_steps == STEPS
    np.testing.assert_allclose(short.coords.sigma[jnp.array([0, 19])], [0.005, 0.5], rtol=1e-6)
    assert make_diffusion(1).num_steps == 1


@pytest.mark.parametrize("num_steps", [0, -3])
def test_a_process_without_steps_is_refused(num_steps):
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}; allowed: a whole number from"):
        make_diffusion(num_steps)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("num_kept", r"solver=PredictorCorrector\(steps=\.\.\.\)"),
        ("corrector_gamma", r"solver=PredictorCorrector\(corrector_gamma=\.\.\.\)"),
        ("ending", r'solver=PredictorCorrector\(last_step="denoise" or "hold"\)'),
        ("type_temperature", r"control=Control\(type_temperature=\.\.\.\)"),
        ("coords_score", r"control=Control\(coords_score=\.\.\.\)"),
    ],
)
def test_arguments_of_the_sampler_are_told_their_new_place(name, place):
    with pytest.raises(ValueError, match=f"no argument '{name}': give {place} to miad_jax.sample"):
        make_diffusion(**{name: 1})
    with pytest.raises(
        ValueError, match="no argument 'steps'; it takes num_steps, lattice, coords"
    ):
        make_diffusion(steps=3)
