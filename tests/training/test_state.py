import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from miad_jax.config import default_config
from miad_jax.training import make_optimizer
from miad_jax.training.ema import update_ema
from miad_jax.training.state import create


@pytest.fixture
def params():
    return {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, -0.1])}


def settings(**fields):
    config = default_config().optimizer
    config.update(fields)
    return config


def walk(optimizer, params, num_steps, value=1.0, scale=1.0):
    """The parameters after every step of a fixed sequence of gradients."""
    values = jnp.broadcast_to(jnp.asarray(value, jnp.float32), (num_steps,))

    def step(carry, inputs):
        params, opt_state = carry
        i, value = inputs
        gradients = jax.tree.map(lambda x: scale * (jnp.sin(x + i) + 0.2), params)
        updates, opt_state = optimizer.update(gradients, opt_state, params, value=value)
        params = optax.apply_updates(params, updates)
        return (params, opt_state), params

    start = params, optimizer.init(params)
    return jax.lax.scan(step, start, (jnp.arange(num_steps), values))[1]


def rates(config, num_steps, steps_per_epoch=1, value=1.0):
    """The learning rate of every step: with one constant gradient, Adam moves by just that."""
    optimizer = make_optimizer(config, num_steps, steps_per_epoch)
    values = jnp.broadcast_to(jnp.asarray(value, jnp.float32), (num_steps,))

    def step(opt_state, value):
        updates, opt_state = optimizer.update(
            jnp.float32(2), opt_state, jnp.float32(0), value=value
        )
        return opt_state, -updates

    return np.asarray(jax.lax.scan(step, optimizer.init(jnp.float32(0)), values)[1])


def same(left, right, rtol=0.0):
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol)


def test_published_settings_are_plain_adam(params):
    ours = walk(make_optimizer(settings(), 100, 10), params, 20)
    plain = walk(optax.with_extra_args_support(optax.adam(1e-3)), params, 20)
    same(ours, plain)
    assert not np.allclose(ours["bias"][-1], params["bias"])


def test_warm_up_starts_from_zero():
    found = rates(settings(learning_rate=0.4, warmup_steps=4), 8)
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4], rtol=1e-4)


def test_cosine_ends_at_the_final_rate():
    config = settings(learning_rate=0.4, schedule="cosine", final_learning_rate=0.1)
    found = rates(config, 9)  # the rate of step n is that at n/9 of the run
    expected = 0.1 + 0.3 * (1 + np.cos(np.pi * np.arange(9) / 9)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_cosine_after_a_warm_up_still_ends_with_the_run():
    config = settings(learning_rate=0.4, schedule="cosine", final_learning_rate=0.1, warmup_steps=3)
    found = rates(config, 12)
    expected = 0.1 + 0.3 * (1 + np.cos(np.pi * np.arange(9) / 9)) / 2
    np.testing.assert_allclose(found[:3], [0, 0.4 / 3, 0.8 / 3], rtol=1e-4)
    np.testing.assert_allclose(found[3:], expected, rtol=1e-4)


def test_clipping_bounds_the_norm_of_the_gradient(params):
    clipped = make_optimizer(settings(clip_norm=0.5), 100, 10)
    plain = optax.with_extra_args_support(optax.adam(1e-3))
    small, large = (
        jax.tree.map(lambda x, s=size: s * jnp.ones_like(x) / np.sqrt(6), params)
        for size in (0.1, 3.0)
    )
    # Adam forgets the size of the first gradient, but not how the second compares with it.
    for first, second in ((small, large), (large, small), (small, small)):

        def updates(optimizer, limit, first=first, second=second):
            opt_state = optimizer.init(params)
            for gradient in (first, second):
                size = min(1.0, limit / float(optax.tree.norm(gradient)))
                gradient = jax.tree.map(lambda g, s=size: s * g, gradient)
                moved, opt_state = optimizer.update(gradient, opt_state, params, value=1.0)
            return moved

        same(updates(clipped, np.inf), updates(plain, 0.5), rtol=1e-4)
    with pytest.raises(AssertionError):
        same(updates(clipped, np.inf, small, large), updates(plain, np.inf, small, large), 1e-3)


PLATEAU = {"schedule": "plateau", "learning_rate": 0.4, "plateau_factor": 0.5}


def test_plateau_lowers_the_rate_after_epochs_without_progress():
    config = settings(**PLATEAU, plateau_patience=2, final_learning_rate=0.15)
    found = rates(config, 24, steps_per_epoch=3, value=1.0)
    # Epochs of 3 steps, seen at their last step; the first sets the best, and two do not better it.
    expected = [0.4] * 8 + [0.2] * 6 + [0.15] * 10
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_plateau_keeps_the_rate_while_the_loss_falls():
    config = settings(**PLATEAU, plateau_patience=1, final_learning_rate=0.01)
    falling = 0.9 ** np.arange(12)
    np.testing.assert_allclose(rates(config, 12, value=falling), 0.4, rtol=1e-4)


def test_plateau_compares_means_of_epochs():
    """A loss that falls from epoch to epoch but not from step to step is progress."""
    config = settings(**PLATEAU, plateau_patience=1, final_learning_rate=0.01)
    saw = 0.9 ** np.repeat(np.arange(6), 2) + np.tile([-0.5, 0.5], 6)
    np.testing.assert_allclose(rates(config, 12, steps_per_epoch=2, value=saw), 0.4, rtol=1e-4)
    assert rates(config, 12, steps_per_epoch=1, value=saw)[-1] < 0.1


def test_average_follows_its_formula(params):
    moved = jax.tree.map(lambda x: x + 1.0, params)
    for step, decay in ((0, 0.1), (10, 0.55), (90, 0.91), (10**6, 0.999)):
        average = update_ema(params, moved, jnp.int32(step), 0.999)
        same(average, jax.tree.map(lambda x, d=decay: x + 1 - d, params), rtol=1e-4)


def test_without_decay_the_average_is_the_parameters(params):
    moved = jax.tree.map(lambda x: 3 * x + 1, params)
    for step in (0, 7, 10**6):
        same(update_ema(params, moved, jnp.int32(step), 0.0), moved, rtol=1e-6)


def test_new_state(params):
    key = jax.random.key(5)
    state = create(params, make_optimizer(settings(), 10, 1), key)
    assert state.step == 0
    assert state.step.dtype == jnp.int32
    same(state.ema_params, params)
    # The training step donates both: they must not share memory.
    pointers = [
        {x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)}
        for tree in (state.params, state.ema_params)
    ]
    assert pointers[0].isdisjoint(pointers[1])
