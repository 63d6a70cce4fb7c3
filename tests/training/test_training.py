"""The training step on one and two devices, and the loop that stops, resumes and refuses."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.build import solver_from
from miad_jax.config import default_config
from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import LossTerms
from miad_jax.model import load_model, load_pretrained, save_pretrained
from miad_jax.parallel.progress import Bar
from miad_jax.sampling import sample
from miad_jax.training import (
    Checkpoints,
    Initial,
    NonFiniteLossError,
    load_training_data,
    make_optimizer,
    train,
    train_step,
)
from miad_jax.training.loop import make_objective, number_of_steps
from miad_jax.training.sharding import batch_indices
from miad_jax.training.state import create


@pytest.fixture(scope="module")
def setting(tiny_config, drawn_params):
    config = tiny_config()
    objective = make_objective(config, 4)
    optimizer = make_optimizer(config.optimizer, 100, 3)
    state = create(drawn_params(objective.net), optimizer, jax.random.key(1))
    return objective, optimizer, state


def close(one, two, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, two)


@pytest.mark.slow
def test_the_baseline_sees_no_padding(tiny_config, data, setting, drawn_params):
    _, optimizer, _ = setting
    config = tiny_config(**{"infusion.enabled": False})
    objective = make_objective(config, 4)
    state = create(drawn_params(objective.net), optimizer, jax.random.key(1))
    batch = data.train[:8]
    filled = replace(
        batch,
        frac_coords=np.where(batch.mask[..., None], batch.frac_coords, 0.3).astype(np.float32),
        atom_types=np.where(batch.mask, batch.atom_types, 77).astype(np.int32),
    )
    step = jax.jit(partial(train_step, objective, optimizer))
    one, terms = step(state, batch, jnp.arange(8))
    two, same = step(state, filled, jnp.arange(8))
    assert terms.counts["types"] == batch.mask.sum()
    jax.tree.map(np.testing.assert_array_equal, (one.params, terms), (two.params, same))


class Recording(Bar):
    """Keeps what it is told."""

    def __init__(self):
        self.updates = []

    def update(self, done, numbers):
        self.updates.append((done, dict(numbers)))


@pytest.fixture(scope="module")
def whole(tiny_config, data, tmp_path_factory):
    """A run of 12 steps that nothing interrupts: its folder, its last state, what its bar heard."""
    folder, bar = tmp_path_factory.mktemp("whole"), Recording()
    state = train(tiny_config(checkpoint_every=2), data, folder, bar=bar)
    assert state.step == 12
    return folder, state, bar


@pytest.mark.slow
def test_a_run_starts_from_the_parameters_of_another(tiny_config, data, whole, tmp_path):
    model = load_model(whole[0])
    initial = Initial(model.params, {"name": "first", "step": model.step})
    config = tiny_config(seed=1)
    state = train(config, data, tmp_path / "second", initial=initial, should_stop=lambda: True)
    assert state.step == 2
    # Two steps of Adam move nothing by more than about twice the learning rate.
    assert config.optimizer.learning_rate == 1e-3
    close(state.params, model.params, rtol=0, atol=3e-3)
    close(state.ema_params, model.params, rtol=0, atol=3e-3)
    checkpoints = Checkpoints(tmp_path / "second")
    assert checkpoints.meta()["init_from"] == {"name": "first", "step": model.step}

    train(config, data, tmp_path / "second")
    later = Checkpoints(tmp_path / "second")
    assert later.latest() == 12
    assert later.meta()["init_from"]["name"] == "first"

    other = tiny_config(**{"network.hidden_dim": 8})
    with pytest.raises(ValueError, match=r"another network: .* has shape .*, config.network needs"):
        train(other, data, tmp_path / "third", initial=initial)
    assert not (tmp_path / "third" / "checkpoints").exists()


def test_batches_are_whole_epochs_from_any_step():
    stream = batch_indices(3, 10, 4, 0, 10).reshape(-1)
    for epoch in range(4):
        assert sorted(stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert (stream[:10] != stream[10:20]).any()
    np.testing.assert_array_equal(batch_indices(3, 10, 4, 7, 3), stream.reshape(10, 4)[7:])


def bits(state):
    plain = replace(state, key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(plain)]


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_restart_continues_exactly(tiny_config, data, whole, tmp_path):
    folder, state, _ = whole
    calls = []
    early = train(
        tiny_config(),
        data,
        tmp_path / "parts",
        should_stop=lambda: calls.append(0) or len(calls) == 3,
    )
    assert 0 < early.step < 12
    assert Checkpoints(tmp_path / "parts").latest() == early.step
    rest = train(tiny_config(), data, tmp_path / "parts")
    for one, two in zip(bits(state), bits(rest), strict=True):
        np.testing.assert_array_equal(one, two)
    expected, found = (
        {x["step"]: x["loss"] for x in lines(x) if "loss" in x}
        for x in (folder, tmp_path / "parts")
    )
    assert expected == {step: found[step] for step in expected}
    assert {"event": "resume", "step": int(early.step)} in lines(tmp_path / "parts")
    again = train(tiny_config(), data, tmp_path / "parts")  # nothing is left to do
    assert again.step == 12


def test_metrics_and_a_pretrained_model(tiny_config, data, whole, tmp_path):
    folder, state, bar = whole
    config_of_run = tiny_config(checkpoint_every=2).to_dict()
    found = lines(folder)
    names = {"loss", "lattice", "coords", "types"}
    assert names | {"step", "epoch", "steps_per_second"} <= found[0].keys()
    assert {f"validation_{name}" for name in names} <= found[-1].keys()
    assert not any("loss" in line and "validation_loss" in line for line in found)
    steps = [step for step, _ in bar.updates]
    assert steps == sorted(steps)
    assert steps[-1] == 12
    assert bar.updates[-1][1].keys() == names | {"validation_loss"}

    diffusion, denoise, config = load_pretrained(folder)
    assert diffusion.num_steps == 50
    assert config.to_dict() == config_of_run
    for one, two in zip(
        jax.tree.leaves(denoise.args), jax.tree.leaves(state.ema_params), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert Checkpoints(folder).meta()["histogram"] == data.histogram.tolist()

    # The same as a release file, in half precision.
    file = tmp_path / "release.npz"
    save_pretrained(folder, file, {"licence": "none"})
    released = load_model(file)
    assert released.step == 12
    assert released.config.to_dict() == config_of_run
    np.testing.assert_array_equal(released.histogram, data.histogram)
    for one, two in zip(
        jax.tree.leaves(released.denoise.args), jax.tree.leaves(state.ema_params), strict=True
    ):
        np.testing.assert_array_equal(one, np.float32(np.float16(two)))
    exact = tmp_path / "exact.npz"
    with pytest.raises(ValueError, match="stepps"):
        save_pretrained(folder, exact, {}, sampling={"stepps": 10})
    with pytest.raises(ValueError, match=r"no argument 'diffusion': give sampling=\{\.\.\.\}"):
        save_pretrained(folder, exact, {}, diffusion={"sampling_steps": 10})
    with pytest.raises(ValueError, match=r"no argument 'stepps'$"):
        save_pretrained(folder, exact, {}, stepps=10)
    assert not exact.exists()
    save_pretrained(folder, exact, {}, dtype=np.float32, sampling={"steps": 10})
    diffusion, denoise, config = load_pretrained(exact)
    assert diffusion.num_steps == 50
    assert config.sampling.steps == 10
    assert load_model(exact).digest == load_model(folder).digest != released.digest
    for one, two in zip(
        jax.tree.leaves(denoise.args), jax.tree.leaves(state.ema_params), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"exists or is no \.npz"):
        save_pretrained(folder, file, {})
    with pytest.raises(ValueError, match=r"no checkpoint of step 11 .* but of .*12: config.keep_"):
        load_model(folder / "checkpoints" / "11")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no release file of weights"):
        load_model(file)


def test_the_newest_checkpoints_are_kept_and_any_of_them_makes_samples(whole):
    folder, state, _ = whole
    kept = sorted(int(x.name) for x in (folder / "checkpoints").iterdir())
    assert kept == [8, 10, 12]
    early, late = (load_model(folder / "checkpoints" / step) for step in ("8", "12"))
    assert (early.step, late.step) == (8, 12)
    assert early.digest != late.digest == load_model(folder).digest
    jax.tree.map(np.testing.assert_array_equal, late.params, state.ema_params)


def test_time_ends_a_run_with_a_checkpoint(tiny_config, data, tmp_path):
    state = train(tiny_config(max_minutes=1e-9), data, tmp_path)
    assert 0 < state.step < 12
    assert Checkpoints(tmp_path).latest() == state.step


@pytest.mark.slow
def test_another_run_is_refused(tiny_config, data, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"config.batch_size is 8 there and 4 now.*new --workdir"):
        train(tiny_config(batch_size=4), data, tmp_path)
    with pytest.raises(ValueError, match=r"config.data.properties is .* there and .*gap.* now"):
        train(tiny_config(**{"data.properties": ("gap",)}), data, tmp_path)
    with pytest.raises(ValueError, match="not the one of that run"):
        train(tiny_config(), replace(data, fingerprint="other"), tmp_path)
    # Nothing is left to do, whatever says how it would be done.
    carrying_out = {"log_every": 1, "validate_every": 1, "network.dtype": "bfloat16"}
    assert train(tiny_config(**carrying_out), data, tmp_path).step == 12
    sampling = {"sampling.steps": 5, "sampling.last_step": "hold"}
    assert train(tiny_config(num_epochs=6, **sampling), data, tmp_path).step == 18


def test_a_cosine_is_not_made_longer(tiny_config, data, setting, tmp_path):
    _, _, state = setting
    cosine = {"optimizer.schedule": "cosine"}
    meta = {"config": tiny_config(num_epochs=1, **cosine).to_dict(), "data_fingerprint": "abc"}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, meta)
    checkpoints.wait()
    with pytest.raises(ValueError, match=r"config.num_epochs is 1 there and 2 now.*--init-from"):
        train(tiny_config(num_epochs=2, **cosine), data, tmp_path)
    with pytest.raises(ValueError, match=r"config.num_steps is None there and 9 now.*--init-from"):
        train(tiny_config(num_epochs=1, num_steps=9, **cosine), data, tmp_path)


def test_a_length_in_steps_goes_before_epochs(tiny_config):
    assert number_of_steps(tiny_config(num_epochs=3, batch_size=8), 32) == 12
    assert number_of_steps(tiny_config(num_epochs=3, batch_size=8, num_steps=5), 32) == 5


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, data, tmp_path):
    calls = []
    config = tiny_config(checkpoint_every=1)
    good = train(config, data, tmp_path, should_stop=lambda: calls.append(0) or len(calls) == 2)
    # A crystal that the next two steps do not see, but the fourth.
    batches = batch_indices(0, 24, 8, 4, 4)
    poisoned = data.train.lattice.copy()
    poisoned[np.setdiff1d(batches[3], batches[:3])[0]] = np.nan
    bad = replace(data, train=replace(data.train, lattice=poisoned))
    with pytest.raises(NonFiniteLossError, match=r"loss of step 7 is not finite.*step 6 is kept"):
        train(config, bad, tmp_path)
    # Steps are counted from 0: the sixth was good, and its state is whole.
    assert (good.step, Checkpoints(tmp_path).latest()) == (4, 6)
    kept = Checkpoints(tmp_path).restore(good)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept.params))


def test_no_checkpoint_is_said(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint in"):
        load_pretrained(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_large_crystals_are_refused_by_name_or_left_out():
    config = default_config()
    config.infusion.num_atoms = 18
    with pytest.raises(ValueError, match=r"num_atoms = 18: .* \(20\).*max_num_atoms = 18"):
        load_training_data(config)
    config.data.max_num_atoms = 6
    loaded = load_training_data(config)
    assert loaded.train.size == 6
    assert loaded.num_left_out > 1000
    assert loaded.histogram.sum() == len(loaded.train)


def test_rows_that_cannot_be_read_are_told_with_their_reasons(tmp_path, monkeypatch):
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    cif = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0] * 3, [0.5] * 3]).to(fmt="cif")
    for split, rows in (("train", [cif, "no CIF", cif]), ("val", [cif])):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["cif"], *([row] for row in rows)])
    config = default_config()
    config.data.path = str(tmp_path)
    loaded = load_training_data(config)
    assert len(loaded.train) == 2
    line, _ = loaded.remarks
    assert "train split" in line
    assert "2 crystals, 1 rejected: " in line


@pytest.mark.slow
def test_a_flow_beside_masked_types_trains_loads_and_samples(tiny_config, data, tmp_path):
    config = tiny_config(
        **{"diffusion.coords": "flow", "diffusion.types": "masked", "diffusion.lattice": "log"},
        **{"sampling.churn": 0.0, "sampling.steps": 8},
    )
    train(config, data, tmp_path)
    diffusion, denoise, loaded = load_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    crystals = sample(
        diffusion, denoise, jax.random.key(0), 3, 5, solver=solver_from(loaded), chunk_size=2
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(crystals))
    assert np.asarray(crystals.atom_types).max() < NUM_TYPES


@pytest.mark.slow
def test_training_learns(tiny_config, data, setting, drawn_params):
    objective, _, _ = setting
    config = tiny_config(**{"optimizer.learning_rate": 3e-3})
    optimizer = make_optimizer(config.optimizer, 300, 1)
    state = create(drawn_params(objective.net), optimizer, jax.random.key(1))
    batch = jax.tree.map(jnp.asarray, data.train[:8])

    def step(state, _):
        return train_step(objective, optimizer, state, batch, jnp.arange(8))

    _, terms = jax.jit(lambda state: jax.lax.scan(step, state, None, 300))(state)
    assert isinstance(terms, LossTerms)
    first, last = (np.asarray(terms.types[part]).mean() for part in (slice(20), slice(-50, None)))
    assert last < 0.8 * first
