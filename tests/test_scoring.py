"""Scores: what they are means of, and what they do not depend on."""

import numpy as np
import pytest

import miad_jax

SMALL = "mp20-small12"


@pytest.fixture(scope="module")
def structures():
    crystals, _ = miad_jax.load_dataset("prototypes", "test")
    larger = [i for i, mask in enumerate(crystals.mask) if 5 <= mask.sum() <= 12]
    return miad_jax.to_structures(crystals[np.array(larger[:4])])


@pytest.fixture(scope="module")
def scores(structures):
    return miad_jax.score(structures, SMALL, num_draws=16)


def test_a_score_is_the_weighted_sum_of_its_terms(scores):
    weights = miad_jax.load_model(SMALL).config.loss
    for score in scores:
        total = sum(weights[name] * mean for name, mean in score.terms.items())
        assert score.loss == pytest.approx(total, rel=1e-5)
        assert 0 < score.error < score.loss


def test_the_others_do_not_change_a_score_and_its_cell_no_more_than_noise(structures, scores):
    (alone,) = miad_jax.score(structures[2], SMALL, num_draws=16)
    assert alone.loss == pytest.approx(scores[2].loss, rel=1e-5)
    larger = structures[2] * (1, 1, 2)
    larger.translate_sites(range(len(larger)), [0.3, 0.1, 0.2])
    (other,) = miad_jax.score(larger, SMALL, num_draws=16)
    assert abs(other.loss - alone.loss) < 5 * (other.error + alone.error)


def test_moved_atoms_make_a_crystal_less_likely(structures, scores):
    moved = [x.copy().perturb(0.4) for x in structures]
    others = miad_jax.score(moved, SMALL, num_draws=16)
    assert all(y.loss > x.loss for x, y in zip(scores, others, strict=True))


def test_the_baseline_scores_too(structures):
    (score,) = miad_jax.score(structures[0], "mp20-small12-diffcsp", num_draws=2)
    assert np.isfinite(score.loss)


def test_what_cannot_be_scored_is_refused(structures):
    with pytest.raises(ValueError, match="num_draws is 3"):
        miad_jax.score(structures, num_draws=3)
    large = structures[0] * (3, 3, 3)
    large.replace(0, "Xe")
    with pytest.raises(ValueError, match=r"crystal 0 has \d+ atoms, and the model 25 slots"):
        miad_jax.score(large)
