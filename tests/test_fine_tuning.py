"""A trained model that is trained further, on crystals in memory or of a data set."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

import miad_jax
from miad_jax import fine_tuning
from miad_jax.model import DEFAULT


def salts(num=6):
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return [Structure(Lattice.cubic(4 + i / 10), ["Cs", "Cl"], places) for i in range(num)]


@pytest.fixture
def asked(monkeypatch):
    """What the training was asked for, in place of doing it."""
    found = {}

    def train(config, data, workdir, *, initial, bar):
        found.update(config=config, data=data, workdir=workdir, initial=initial)

    load_model = fine_tuning.load_model
    monkeypatch.setattr(fine_tuning, "train", train)
    monkeypatch.setattr(
        fine_tuning, "load_model", lambda x: "tuned" if x == found.get("workdir") else load_model(x)
    )
    return found


def test_a_training_starts_from_the_model(asked, tmp_path):
    done = miad_jax.fine_tune(
        salts(), tmp_path / "run", num_steps=100, settings={"data.val_fraction": 0.5}, batch_size=2,
        progress=False,
    )  # fmt: skip
    assert done == "tuned"
    config, data = asked["config"], asked["data"]
    assert (len(data.train), len(data.validation)) == (3, 3)
    assert asked["initial"].source["name"] == DEFAULT
    assert config.network.to_dict() == miad_jax.load_model(DEFAULT).config.network.to_dict()
    assert (config.optimizer.learning_rate, config.optimizer.final_learning_rate) == (1e-4, 1e-5)
    assert (config.num_steps, config.checkpoint_every, config.data.path) == (100, 10, "structures")


def test_values_of_ones_own_are_told_where_they_are_known(asked, tmp_path):
    values = [1.5, None, 0.5, 2.5, None, 3.5]
    miad_jax.fine_tune(
        salts(), tmp_path, model="mp20-transformer", properties={"magic": values}, batch_size=2,
        settings={"data.val_fraction": 0.2}, progress=False,
    )  # fmt: skip
    assert asked["config"].data.properties[-1] == "magic"
    told = asked["data"].train_condition.properties["magic"]
    edges = np.asarray(asked["data"].train.lattice)[:, 0, 0]
    places = ((edges - 4) * 10).round().astype(int)
    expected = [np.nan if values[i] is None else values[i] for i in places]
    np.testing.assert_array_equal(told, np.float32(expected))


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (salts(), {"properties": {"gap": [1.0]}}, "6 crystals, but 1 values of 'gap'"),
        ("mine", {"properties": {"gap": [1.0]}}, "the data set mine has its own: give the names"),
        (
            salts(),
            {"model": "mp20-small12", "properties": {"gap": [1.0] * 6}},
            'told properties: .*"mp20-trans',
        ),
        (salts(), {"settings": {"data.max_atoms": 3}}, "no field config.data.max_atoms .*max_num_"),
        (salts(), {"settings": {"batch_size": "many"}}, "config.batch_size cannot be 'many'"),
        (salts(), {"num_steps": 0}, "config.num_steps is 0"),
        (salts(), {"model": "nothing.npz"}, "nothing.npz does not exist"),
    ],
)
def test_what_cannot_be_is_refused(data, options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        miad_jax.fine_tune(data, tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_tuned_model_generates_and_goes_on(tmp_path):
    settings = {"data.val_fraction": 0.5}
    options = {
        "model": "mp20-small12",
        "num_steps": 4,
        "batch_size": 2,
        "settings": settings,
        "progress": False,
    }
    model = miad_jax.fine_tune(salts(), tmp_path, **options)
    assert (model.step, model.init_from["name"]) == (4, "mp20-small12")
    crystals = miad_jax.generate(1, model=model, quality="draft", progress=False)
    assert all(isinstance(x, Structure) for x in crystals)
    again = miad_jax.fine_tune(salts(), tmp_path, **options)
    assert (again.step, again.digest) == (4, model.digest)
