"""Folders that version 0.1 wrote: they load, continue, and sampling anew gives the same."""

import csv
import json
import zipfile
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.config import default_config
from miad_jax.crystal import Crystal
from miad_jax.evaluation import load_samples
from miad_jax.model import load_model
from miad_jax.training import load_training_data, train
from tests.in_process import run_command


@pytest.fixture
def of_0_1(tmp_path):
    """A copy of the folders: run/, samples/ and default/, report/."""
    with zipfile.ZipFile(Path(__file__).parent / "runs_of_0_1.zip") as file:
        file.extractall(tmp_path)
    return tmp_path


# Training.

# What version 0.1 itself logged when it continued run/ from its checkpoint of step 41.
CONTINUED = {
    43: {"loss": 8.940547, "lattice": 4.725264, "coords": 1.148973, "types": 3.066311},
    45: {"loss": 8.970125, "lattice": 4.921591, "coords": 1.176620, "types": 2.871914},
}
VALIDATION = {
    "validation_loss": 9.240419,
    "validation_lattice": 4.610975,
    "validation_coords": 0.963141,
    "validation_types": 3.666303,
}


@pytest.mark.slow
def test_a_run_loads_with_its_fields_where_they_are_now(of_0_1):
    model = load_model(of_0_1 / "run")
    assert model.step == 41
    sampling = model.config.sampling.to_dict()
    assert sampling == default_config().sampling.to_dict() | {
        "steps": 20,
        "corrector_gamma": 2e-5,
        "last_step": "hold",
        "solver": "predictor_corrector",
        "first_time": 999,
        "churn": 0.0,
        "coords_ahead": 0.0,
        "cell_bounds_angstrom": (),
    }
    assert model.config.diffusion.to_dict() == default_config().diffusion.to_dict()
    assert model.diffusion.num_steps == 1000
    assert model.config.network.name == "cspnet"
    assert (model.config.network.hidden_dim, model.config.num_epochs) == (8, 1)
    assert model.histogram.tolist() == [0, 88, 278, 270, 665]
    denoise = jax.tree.map(jnp.asarray, model.denoise)
    crystal = Crystal(jnp.eye(3), jnp.zeros((5, 3)), jnp.ones(5, jnp.int32), jnp.ones(5, bool))
    said = denoise(crystal, jnp.int32(500))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(said))


@pytest.mark.slow
def test_a_run_continues_as_it_would_have_then(of_0_1):
    """Its newest step, its optimiser, its order of crystals and its noise: the losses are 0.1's."""
    folder = of_0_1 / "run"
    config = load_model(folder).config
    config.num_epochs = 2
    with pytest.raises(ValueError, match=r"config.batch_size is 32 there and 16 now"):
        train(replaced(config, batch_size=16), load_training_data(config), folder)

    calls = []
    state = train(
        config,
        load_training_data(config),
        folder,
        should_stop=lambda: calls.append(0) or len(calls) == 2,
    )
    assert state.step == 45
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for step, losses in CONTINUED.items():
        (line,) = (x for x in logged if x["step"] == step and "loss" in x)
        assert {name: line[name] for name in losses} == pytest.approx(losses, rel=1e-4)
    assert {name: logged[-1][name] for name in VALIDATION} == pytest.approx(VALIDATION, rel=1e-4)
    assert load_model(folder).step == 45
    assert [x.name for x in (folder / "checkpoints").iterdir()] == ["45"]


def replaced(config, **fields):
    other = config.copy_and_resolve_references()
    other.update(fields)
    return other


# Samples.

OF_WEIGHTS = ("--checkpoint=mp20-small12", "--seed=0", "--steps=20", "--quality=published")
"""Of default/: the weights that were the default then."""


def of_run(folder):
    """Of samples/: the training run beside it, whose configuration says the rest."""
    return (f"--checkpoint={folder / 'run'}", "--seed=5", "--chunk_size=2")


def sample(out, *arguments):
    done = run_command("sample", f"--out={out}", *arguments)
    assert done.returncode == 0, done.stderr
    with np.load(out / "samples.npz") as file:
        return dict(file)


def contents(folder):
    """What a continued run may not touch."""
    kept = [folder / "run.json", *folder.glob("batches/*"), *folder.glob("cif/*")]
    return {path: path.read_bytes() for path in kept}


def table(folder):
    with (folder / "samples.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_continued(folder, num, arguments):
    """More samples, and those of 0.1 as they were: columns that 0.1 lacked are empty."""
    before, rows = contents(folder), table(folder)
    with np.load(folder / "samples.npz") as file:
        old = dict(file)
    new = sample(folder, *arguments, f"--num={num + 2}")
    assert {path: path.read_bytes() for path in before} == before
    now = table(folder)
    assert len(now) == num + 2
    for row, old_row in zip(now[:num], rows, strict=True):
        assert {name: row[name] for name in old_row} == old_row
        assert {row[name] for name in row.keys() - old_row.keys()} == {""}
    assert {row["plausible"] for row in now[num:]} <= {"True", "False"}
    assert all(row["plausible"] in (True, False) for row in load_samples(folder).rows)
    for name, array in old.items():
        np.testing.assert_array_equal(new[name][:num], array)
        assert new[name].dtype == array.dtype
        assert len(new[name]) == num + 2


def test_samples_of_a_run_continue(of_0_1):
    assert_continued(of_0_1 / "samples", 3, of_run(of_0_1))


@pytest.mark.slow
def test_samples_of_the_weights_continue_and_anew_are_the_same(of_0_1):
    assert_continued(of_0_1 / "default", 4, OF_WEIGHTS)
    rows = table(of_0_1 / "default")
    for frame in ase.io.read(of_0_1 / "default" / "samples.extxyz", index=":"):
        edges = [float(rows[frame.info["index"]][name]) for name in "abc"]
        np.testing.assert_allclose(frame.cell.lengths(), edges, rtol=1e-5)
    with np.load(of_0_1 / "default" / "samples.npz") as file:
        continued = dict(file)
    anew = sample(of_0_1 / "anew", *OF_WEIGHTS, "--num=6", "--chunk_size=8")
    # A draw that rounding tips over gives another type; a wrong one would give another crystal.
    assert (anew["atom_types"] != continued["atom_types"]).sum() <= 2
    # At so few steps the first ones magnify rounding, in the samples of 0.1 as in these.
    np.testing.assert_allclose(anew["lattice"], continued["lattice"], rtol=0.01, atol=0.01)
    for name in ("atom_types", "lattice", "frac_coords"):
        np.testing.assert_array_equal(anew[name][4:], continued[name][4:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps=50"], "sampling.steps is 20 there and 50 now"),
        (["--seed=1"], "seed is 0 there and 1 now"),
        (["--ending=hold"], "sampling.last_step is denoise there and hold now"),
        (["--corrector_gamma=2e-5"], "sampling.corrector_gamma is 1e-05 there and 2e-05 now"),
        (["--type_temperature=0.5"], "sampling.type_temperature is 1.0 there and 0.5 now"),
        (["--coords_score=marginal"], "sampling.coords_score is conditional there and marginal"),
        (["--chunk_size=4"], "chunk_size is 8 there and 4 now"),
        (["--checkpoint=mp20-small12-diffcsp"], "config.infusion.enabled is True there and False"),
    ],
)
def test_another_setting_is_refused_by_its_name(of_0_1, arguments, said):
    folder = of_0_1 / "default"
    before = contents(folder)
    done = run_command("sample", f"--out={folder}", *OF_WEIGHTS, *arguments, "--num=6")
    assert done.returncode == 2
    assert said in done.stderr
    assert contents(folder) == before


def test_the_record_of_0_1_says_what_the_command_of_today_would(of_0_1):
    """Every field, so that none is passed over where it differs."""
    from miad_jax.commands.sample_record import upgraded as upgraded_run

    record = json.loads((of_0_1 / "samples" / "run.json").read_text())["run"]
    upgraded = upgraded_run(json.loads(json.dumps(record)))
    assert upgraded["sampling"] == {
        "solver": "predictor_corrector",
        "steps": 20,
        "corrector_gamma": 2e-5,
        "last_step": "hold",
        "type_temperature": 1.0,
        "coords_score": "conditional",
        "guidance": 1.0,
        "first_time": 999,
        "visit": [],
        "corrector": "langevin",
        "churn": 0.0,
        "coords_ahead": 0.0,
        "cell_bounds_angstrom": [],
    }
    for name in ("seed", "chunk_size", "checkpoint_step", "parameters", "data_fingerprint"):
        assert upgraded[name] == record[name]
    assert upgraded["config"]["diffusion"] == default_config().diffusion.to_dict()
    assert upgraded_run(json.loads(json.dumps(upgraded))) == upgraded, "that of today stays"
