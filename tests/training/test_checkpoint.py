from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.config import default_config, network_from
from miad_jax.pretrained import load_model, load_pretrained
from miad_jax.training import Checkpoints, make_optimizer
from miad_jax.training.state import create


@pytest.fixture(scope="module")
def config():
    config = default_config()
    config.network.hidden_dim = 16
    config.network.num_layers = 2
    config.network.num_freqs = 4
    config.network.time_dim = 8
    config.diffusion.num_steps = 40
    config.optimizer.schedule = "plateau"
    config.optimizer.warmup_steps = 5
    config.optimizer.clip_norm = 1.0
    return config


def random_like(tree, seed):
    """Other values everywhere, so that nothing restored can be what was there before."""
    rng = np.random.default_rng(seed)

    def draw(x):
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(rng.integers(1, 99, x.shape), x.dtype)
        return jnp.asarray(rng.normal(size=x.shape), x.dtype)

    return jax.tree.map(draw, tree)


@pytest.fixture(scope="module")
def state(config, tiny_params):
    optimizer = make_optimizer(config.optimizer, 100, 10)
    fresh = create(tiny_params, optimizer, jax.random.key(0))
    return replace(
        fresh,
        params=random_like(fresh.params, 1),
        average=random_like(fresh.average, 2),
        opt_state=random_like(fresh.opt_state, 3),
        step=jnp.int32(7),
        key=jax.random.key(123),
    )


@pytest.fixture(scope="module")
def meta(config):
    return {
        "config": config.to_dict(),
        "histogram": [0, 3, 0, 5],
        "data_fingerprint": "abc",
        "num_train": 8,
    }


@pytest.fixture(scope="module")
def workdir(state, meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    Checkpoints(path).save(state, meta)
    return path


def same_bits(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_everything_comes_back_bit_for_bit(config, state, meta, workdir):
    optimizer = make_optimizer(config.optimizer, 100, 10)
    params = jax.tree.map(jnp.zeros_like, state.params)
    found = Checkpoints(workdir).restore(create(params, optimizer, jax.random.key(0)))
    same_bits(
        replace(found, key=jax.random.key_data(found.key)),
        replace(state, key=jax.random.key_data(state.key)),
    )
    assert jax.random.key_impl(found.key) == jax.random.key_impl(state.key)
    assert len(jax.tree.leaves(found.opt_state)) > 2 * len(jax.tree.leaves(found.params))
    assert Checkpoints(workdir).meta() == meta
    assert Checkpoints(workdir).latest() == 7


def test_the_average_comes_back_alone(config, state, workdir):
    shapes = jax.eval_shape(network_from(config).init_params, jax.random.key(0))
    same_bits(Checkpoints(workdir).restore_average(shapes), state.average)


def test_the_newest_few_are_kept(state, meta, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (3, 5, 8):
        moved = jax.tree.map(lambda x, n=step: x + n, state.average)
        checkpoints.save(replace(state, step=jnp.int32(step), average=moved), meta)
    names = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert names == {5, 8}
    newest = Checkpoints(tmp_path)
    assert newest.latest() == 8
    same_bits(newest.restore_average(state.average), jax.tree.map(lambda x: x + 8, state.average))


def test_a_checkpoint_is_not_written_twice(state, meta, tmp_path):
    Checkpoints(tmp_path).save(state, meta)
    other = replace(state, average=jax.tree.map(jnp.zeros_like, state.average))
    Checkpoints(tmp_path).save(other, meta)
    same_bits(Checkpoints(tmp_path).restore_average(state.average), state.average)


def test_a_folder_without_checkpoint_is_refused(state, tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        checkpoints = Checkpoints(path)
        assert checkpoints.latest() is None
        for read in (
            checkpoints.meta,
            lambda found=checkpoints: found.restore(state),
            lambda found=checkpoints: found.restore_average(state.average),
            lambda path=path: load_pretrained(path),
        ):
            with pytest.raises(ValueError, match=r"no checkpoint in .*--workdir of a training run"):
                read()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_version_is_refused(state, meta, tmp_path):
    other = meta | {"config": meta["config"] | {"mirages": 3}}
    Checkpoints(tmp_path).save(state, other)
    with pytest.raises(ValueError, match=r"does not fit this version.*mirages"):
        load_pretrained(tmp_path)


def test_a_pretrained_model_is_the_network_with_the_average(
    config, state, workdir, random_crystals
):
    diffusion, denoise, found = load_pretrained(workdir)
    assert found == config
    assert diffusion.num_steps == 40
    net = network_from(config)
    crystals, time = random_crystals([4, 2], 4), jnp.array([3, 39])
    prediction = denoise(crystals, time)
    same_bits(prediction, net.denoise(state.average, crystals, time))
    other = net.denoise(state.params, crystals, time)
    assert np.abs(np.asarray(prediction.types - other.types)).max() > 0.1


def test_what_sampling_needs_of_a_run(workdir):
    model = load_model(str(workdir))
    assert (model.step, model.fingerprint) == (7, "abc")
    np.testing.assert_array_equal(model.histogram, [0, 3, 0, 5])
