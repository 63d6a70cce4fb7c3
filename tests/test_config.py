import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from miad_jax import config as config_fields
from miad_jax.build import (
    control_from,
    diffusion_from,
    loss_weights_from,
    network_from,
    solver_from,
)
from miad_jax.config import MOVED, default_config, load_config, upgraded, validate
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.torus_flow import TorusFlow
from miad_jax.model import load_model
from miad_jax.network import CSPNet, Transformer
from miad_jax.sampling import Control, PredictorCorrector, make_solver
from miad_jax.sampling.quality import QUALITIES, settings_of, why_too_few

CONFIGS = Path(__file__).parents[1] / "configs"
PUBLISHED_PROCESS = {
    "num_steps": 1000,
    "lattice": "ddpm",
    "coords": "wrapped_normal",
    "types": "uniform",
    "sigma_max": 0.5,
    "limit_num_atoms": 25,
}
# N_m, batch, epochs, γ, schedule: what is published of each data set.
PUBLISHED = {
    "mp20": (25, 256, 8000, 1e-5, "constant"),
    "alex_mp20": (25, 256, None, 1e-5, "constant"),
    "perov5": (6, 1024, 3000, 5e-7, "plateau"),
    "carbon24": (30, 256, 4000, 1e-5, "plateau"),
}
VARIANTS = {
    "mp20": (
        *("published", "diffcsp", "small", "small12", "small20", "transformer"),
        *("mattergen", "flowmm", "crystalflow", "large"),
    ),
    "alex_mp20": ("diffcsp",),
    "perov5": ("diffcsp",),
    "carbon24": ("diffcsp",),
    "mpts52": ("diffcsp", "small"),
    "prototypes": ("diffcsp", "quick"),
}


def module(name):
    spec = importlib.util.spec_from_file_location(f"configs_{name}", CONFIGS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def changed(**fields):
    config = default_config()
    with config.unlocked():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


def test_every_config_is_listed_here():
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_loads_validates_and_says_its_command(name):
    loaded = module(name)
    config = validate(loaded.get_config())
    assert config.infusion.enabled
    assert config.infusion.mask_mirage
    assert config.infusion.placement == "uniform"
    assert f"python -m miad_jax.train --config=configs/{name}.py" in loaded.__doc__
    assert "--workdir=" in loaded.__doc__
    for heading in ("Hardware:", "Hours", "Expected result:", "Variants"):
        assert heading in loaded.__doc__
    for variant in VARIANTS[name]:
        assert f"\n    {variant} " in loaded.__doc__


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n in VARIANTS for v in (*VARIANTS[n], ",".join(VARIANTS[n]))]
)
def test_variants(name, variant):
    loaded = module(name)
    plain, config = loaded.get_config(), validate(loaded.get_config(variant))
    assert config.infusion.enabled == ("diffcsp" not in variant)
    is_smaller = any(word in variant for word in ("small", "quick", "transformer"))
    is_smaller = is_smaller and "large" not in variant
    assert (config.network.hidden_dim < plain.network.hidden_dim) == is_smaller
    if config.data.max_num_atoms is not None:
        assert config.data.max_num_atoms <= config.infusion.num_atoms


def test_the_transformer_has_the_sampler_of_its_weights_and_its_baseline_has_not():
    sampler = load_model("mp20-transformer").config.sampling
    assert module("mp20").get_config("transformer").sampling == sampler
    baseline = module("mp20").get_config("transformer,diffcsp").sampling
    assert (baseline.churn, baseline.coords_score) == (1.0, "conditional")


@pytest.mark.parametrize("name", VARIANTS)
def test_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown variant 'tiny'.*allowed: .*diffcsp"):
        module(name).get_config("tiny")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    config = module(name).get_config("published" if "published" in VARIANTS[name] else "")
    num_atoms, batch_size, num_epochs, gamma, schedule = PUBLISHED[name]
    assert config.infusion.num_atoms == num_atoms
    assert config.batch_size == batch_size
    assert num_epochs is None or config.num_epochs == num_epochs
    assert config.diffusion.to_dict() == PUBLISHED_PROCESS
    assert config.sampling.corrector_gamma == gamma
    network = {"hidden_dim": 512, "num_layers": 6, "num_freqs": 128, "time_dim": 256}
    network |= {"num_heads": 8, "pair_dim": 48}  # the transformer's
    assert config.network.to_dict() == {"name": "cspnet", **network, "dtype": "float32"}
    assert config.loss.to_dict() == {"lattice": 1, "coords": 1, "types": 1, "cross_entropy": 0}
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.schedule) == (1e-3, schedule)
    assert (optimizer.warmup_steps, optimizer.clip_norm) == (0, None)
    if schedule == "plateau":
        assert (optimizer.plateau_factor, optimizer.plateau_patience) == (0.6, 30)
        assert optimizer.final_learning_rate == 1e-4
    assert config.data.max_num_atoms is None


def test_our_recipe_of_mp20_teaches_the_types_by_cross_entropy():
    for variant in ("", "small20", "diffcsp"):
        loss = module("mp20").get_config(variant).loss.to_dict()
        assert loss == {"lattice": 1, "coords": 1, "types": 0, "cross_entropy": 1}


def test_published_baseline_of_mp20_is_shorter():
    for variant in ("published,diffcsp", "diffcsp,published"):
        config = module("mp20").get_config(variant)
        assert (config.num_epochs, config.infusion.enabled) == (1000, False)


@pytest.mark.parametrize("size", ["", "small,", "small20,", "transformer,"])
@pytest.mark.parametrize("baseline", ["", ",diffcsp"])
def test_systems_stand_beside_a_size_and_the_baseline(size, baseline):
    expected = {
        "mattergen": ("limit", "wrapped_normal", "masked", "predictor_corrector", 1000),
        "flowmm": ("lengths_angles", "flow", "flow", "ancestral", 1000),
        "crystalflow": ("flow", "flow", "flow", "ancestral", 100),
    }
    load = module("mp20").get_config
    for name, (lattice, coords, types, solver, steps) in expected.items():
        config = validate(load(f"{size}{name}{baseline}"))
        same = load(f"{name},{size}{baseline[1:]}".strip(",")).to_dict()
        assert same == config.to_dict(), "in any order"
        assert config.network == load(size.strip(",")).network
        diffusion, sampling = config.diffusion, config.sampling
        assert (diffusion.lattice, diffusion.coords, diffusion.types) == (lattice, coords, types)
        assert (sampling.solver, sampling.steps, sampling.churn) == (solver, steps, 0)
        times = solver_from(config).times(diffusion_from(config))
        assert (len(times), times[0], times[-1]) == (steps, 999, 0)
        solver_from(config).check(diffusion_from(config))
        if name == "mattergen":
            num = config.infusion.num_atoms
            assert diffusion.limit_num_atoms == num
            np.testing.assert_allclose(diffusion.sigma_max, 5 / num ** (1 / 3))
            assert diffusion_from(config).coords.sigma[999] > 1


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            "flowmm,published",
            r"solver is 'predictor_corrector'; allowed: ancestral, heun, as .*flow",
        ),
        ("crystalflow,published", r"allowed: ancestral, heun, as .* has no score"),
    ],
)
def test_a_flow_with_the_published_sampler_is_refused(variant, message):
    with pytest.raises(ValueError, match=message):
        validate(module("mp20").get_config(variant))


def test_a_flow_with_churn_is_refused():
    config = module("mp20").get_config("small,flowmm")
    config.sampling.churn = 1.0
    with pytest.raises(ValueError, match=r"churn is 1\.0; allowed: 0, as .* does not go back up"):
        validate(config)


def test_published_network_has_12_million_parameters():
    net = network_from(module("mp20").get_config())
    params = jax.eval_shape(net.init_params, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 12_346_468


def test_what_a_config_makes():
    config = changed(
        network__hidden_dim=24,
        network__dtype="bfloat16",
        diffusion__num_steps=12,
        sampling__solver="predictor_corrector",
        sampling__steps=5,
        sampling__first_time=11,
        sampling__corrector_gamma=3e-5,
        sampling__last_step="hold",
        sampling__type_temperature=0.9,
        sampling__coords_score="marginal",
        sampling__guidance=2.0,
        sampling__cell_bounds_angstrom=(3.0, 30.0),
        loss__types=0.5,
    )
    net = network_from(config)
    assert (net.hidden_dim, net.num_steps, net.dtype) == (24, 12, jax.numpy.bfloat16)
    diffusion = diffusion_from(config)
    assert diffusion.num_steps == 12
    assert isinstance(diffusion.lattice, LatticeDDPM)
    config.diffusion.lattice = "log"
    assert isinstance(diffusion_from(config).lattice, LatticeVP)
    config.diffusion.coords, config.diffusion.types = "flow", "masked"
    assert isinstance(diffusion_from(config).coords, TorusFlow)
    assert isinstance(diffusion_from(config).types, MaskedTypes)
    assert solver_from(config) == PredictorCorrector(5, 3e-5, "hold", first_time=11)
    assert solver_from(config).times(diffusion).tolist() == [11, 8, 6, 3, 0]
    assert control_from(config) == Control(0.9, "marginal", 2.0, (3.0, 30.0))
    assert loss_weights_from(config).types == 0.5
    assert control_from(changed(sampling__cell_bounds_angstrom=())).cell_bounds_angstrom is None


def test_the_default_is_the_standard_quality():
    config = default_config()
    solver = solver_from(config)
    assert type(solver).evaluations * len(solver.times(diffusion_from(config))) == 100
    assert control_from(config) == Control()
    before = config.to_dict()
    config.sampling.update(settings_of("standard", 1000))
    assert config.to_dict() == before


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("num_steps", [7, 1000])
def test_every_quality_is_a_configuration(quality, num_steps):
    config = changed(diffusion__num_steps=num_steps)
    config.sampling.update(settings_of(quality, num_steps))
    validate(config, num_devices=1)
    diffusion = diffusion_from(config)
    times = solver_from(config).times(diffusion)
    said = why_too_few(solver_from(config), control_from(config), diffusion)
    if num_steps == 1000:
        assert said == ""
    if quality == "published":
        np.testing.assert_array_equal(times, np.arange(num_steps)[::-1])
        assert control_from(config).cell_bounds_angstrom is None
        config.sampling.coords_score = "marginal"
        config.sampling.update(settings_of(quality, num_steps))
        assert control_from(config).coords_score == "conditional"


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_quality_that_a_flow_cannot_have_is_refused_with_what_can(quality):
    config = changed(diffusion__coords="flow")
    config.sampling.update(settings_of(quality, 1000))
    with pytest.raises(ValueError, match=r"as config\.diffusion\.coords is 'flow'") as error:
        validate(config, num_devices=1)
    line = str(error.value)
    if quality in ("best", "published"):
        assert "config.sampling.solver is 'predictor_corrector'; allowed: ancestral, heun" in line
        config.sampling.solver = "ancestral"
    else:
        assert "config.sampling.churn is 1.0; allowed: 0" in line
        config.sampling.churn = 0.0
    validate(config, num_devices=1)
    solver_from(config).check(diffusion_from(config))


@pytest.mark.parametrize(("quality", "steps"), [("draft", 50), ("standard", 100)])
def test_fewer_steps_leave_a_model_its_own_solver(quality, steps):
    own = changed(diffusion__coords="flow", sampling__churn=0.0, sampling__coords_ahead=5.0)
    own.sampling.visit = (999, 0)
    config = own.copy_and_resolve_references()
    config.sampling.update(settings_of(quality, 1000, own.sampling.to_dict()))
    validate(config, num_devices=1)
    assert config.sampling.to_dict() == {**own.sampling.to_dict(), "steps": steps, "visit": ()}
    own.sampling.solver = "heun"
    fields = settings_of(quality, 1000, own.sampling.to_dict())
    assert (fields["solver"], fields["churn"], fields["steps"]) == ("ancestral", 1.0, steps)


def test_masked_types_have_every_quality_but_no_heun():
    config = changed(diffusion__types="masked")
    for quality in QUALITIES:
        config.sampling.update(settings_of(quality, 1000))
        validate(config, num_devices=1)
        solver_from(config).check(diffusion_from(config))
    config.sampling.solver = "heun"
    with pytest.raises(ValueError, match=r"allowed: ancestral, predictor_corrector, as .*'masked'"):
        validate(config, num_devices=1)


def test_the_churn_of_another_solver_does_not_matter_to_a_flow():
    config = changed(diffusion__coords="flow", sampling__solver="heun", sampling__churn=1.0)
    validate(config, num_devices=1)


def test_what_was_saved_before_there_were_processes_to_choose_has_the_published():
    saved = default_config().to_dict()
    del saved["diffusion"]["coords"], saved["diffusion"]["types"]
    config = load_config(saved)
    assert (config.diffusion.coords, config.diffusion.types) == ("wrapped_normal", "uniform")


def test_an_unknown_quality_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'standart' \(did you mean 'standard'\?\); allowed"):
        settings_of("standart", 1000)


def test_what_too_few_steps_do_is_said():
    diffusion = make_diffusion(1000)
    few = why_too_few(make_solver("ancestral", steps=49), Control(), diffusion)
    assert "49 steps ask the network 49 times, which is few" in few
    assert not why_too_few(make_solver("heun", steps=25), Control(), diffusion)
    unbounded = Control(cell_bounds_angstrom=None)
    large = make_solver("predictor_corrector", steps=100, first_time=999)
    said = why_too_few(large, unbounded, diffusion)
    assert "from time 999 to 989, enlarges an error of the lattice 1000 times" in said
    assert not why_too_few(large, Control(), diffusion)
    assert not why_too_few(make_solver("predictor_corrector", steps=50), unbounded, diffusion)


def test_each_network_gets_its_own_fields_and_the_properties_if_it_can():
    config = changed(
        network__name="transformer",
        network__num_heads=4,
        network__pair_dim=12,
        data__properties=("gap", "energy"),
    )
    net = network_from(validate(config))
    assert isinstance(net, Transformer)
    assert (net.num_heads, net.pair_dim, net.hidden_dim) == (4, 12, 512)
    assert (net.properties, net.num_steps) == (("gap", "energy"), 1000)
    assert network_from(config.copy_and_resolve_references()) is net
    config.network.name = "cspnet"
    assert network_from(config) == CSPNet()


def test_heads_divide_the_width_of_a_transformer_alone():
    fields = {"network__hidden_dim": 30, "network__num_heads": 8}
    validate(changed(**fields))
    with pytest.raises(ValueError, match=r"num_heads is 8; allowed: a divisor of config.*, 30$"):
        validate(changed(**fields, network__name="transformer"))


def test_the_marginal_score_wants_mirage_atoms_uniform_and_not_in_the_loss():
    marginal = {"sampling__coords_score": "marginal"}
    assert control_from(validate(changed(**marginal))).coords_score == "marginal"
    for field, value in {"enabled": False, "mask_mirage": False, "placement": "center"}.items():
        config = changed(**marginal, **{f"infusion__{field}": value})
        with pytest.raises(ValueError, match="coords_score is 'marginal'; allowed: conditional, "):
            validate(config)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("batch_sise", "batch_size"), ("num_epoch", "num_epochs"), ("optimiser", "optimizer")],
)
def test_unknown_field_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(AttributeError, match=f'Did you mean.*"{near}"'):
        setattr(default_config(), wrong, 1)


def test_unknown_nested_field_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match=r'Did you mean.*"learning_rate"'):
        default_config().optimizer.learning_rat = 1.0


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(
            (f, v, "a whole number from 1 on")
            for f in (
                "infusion.num_atoms",
                "network.hidden_dim",
                "network.num_layers",
                "network.num_freqs",
                "network.num_heads",
                "network.pair_dim",
                "diffusion.num_steps",
                "batch_size",
                "log_every",
                "validate_every",
                "checkpoint_every",
            )
            for v in (0, -2)
        ),
        ("data.max_num_atoms", 0, "a whole number from 1 on, or None"),
        ("chunk_size", 0, "a whole number from 1 on, or None"),
        ("max_minutes", 0.0, "a number above 0, or None"),
        ("optimizer.clip_norm", 0.0, "a number above 0, or None"),
        ("optimizer.learning_rate", 0.0, "a number above 0"),
        ("optimizer.learning_rate", float("nan"), "a number above 0"),
        ("optimizer.final_learning_rate", -1e-4, "a number above 0"),
        ("sampling.corrector_gamma", -1e-6, "0 or more"),
        ("sampling.type_temperature", 0.0, "a number above 0"),
        ("num_epochs", 0, "a number above 0"),
        ("optimizer.plateau_patience", 0, "a number above 0"),
        ("loss.lattice", -1.0, "0 or more"),
        ("loss.coords", -1.0, "0 or more"),
        ("loss.types", float("nan"), "0 or more"),
        ("optimizer.warmup_steps", -1, "0 or more"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
        ("seed", 2**32, "a whole number from 0 to 4294967295"),
        ("sampling.steps", 0, "a whole number from 1 on, or None"),
        ("sampling.steps", 2000, "at most config.diffusion.num_steps, 1000"),
        ("sampling.first_time", 1000, "a time of the diffusion, 0 to 999, or None"),
        ("sampling.corrector", "none", "langevin, renewal"),
        ("sampling.churn", -1.0, "0 or more"),
        (
            "sampling.cell_bounds_angstrom",
            (5.0, 2.0),
            "a smallest and a larger length, both above 0, or ()",
        ),
        ("network.time_dim", 7, "an even number from 4 on"),
        ("network.time_dim", 2, "an even number from 4 on"),
        ("optimizer.ema_decay", 1.0, "0 up to, not including, 1"),
        ("optimizer.ema_decay", -0.1, "0 up to, not including, 1"),
        ("optimizer.plateau_factor", 1.0, "between 0 and 1"),
        ("infusion.placement", "corner", "uniform, center (did you mean 'center'?)"),
        ("diffusion.lattice", "cubic", "ddpm, log, limit, flow, lengths_angles"),
        ("diffusion.coords", "flew", "wrapped_normal, flow (did you mean 'flow'?)"),
        ("diffusion.types", "mask", "uniform, masked, flow (did you mean 'masked'?)"),
        ("diffusion.sigma_max", 0.004, "a number above 0.005, the smallest σ"),
        ("diffusion.sigma_max", float("nan"), "a number above 0.005, the smallest σ"),
        ("diffusion.limit_num_atoms", 0, "a whole number from 1 on"),
        ("sampling.last_step", "dirty", "denoise, hold"),
        ("sampling.solver", "euler", "predictor_corrector, ancestral, heun"),
        ("sampling.guidance", -1.0, "0 or more"),
        ("sampling.coords_score", "joint", "marginal, conditional"),
        ("network.name", "gnn", "cspnet, transformer"),
        ("keep_checkpoints", 0, "a whole number from 1 on"),
        ("network.dtype", "float16", "float32, bfloat16 (did you mean 'bfloat16'?)"),
        ("optimizer.schedule", "linear", "constant, cosine, plateau"),
        ("tasks.structure", -1.0, "0 or more"),
        ("tasks.generate", float("nan"), "0 or more"),
        ("data.property_dropout", 1.0, "0 up to, not including, 1"),
        ("batch_size", 255, "a multiple of the 2 devices"),
    ],
)
def test_impossible_value_is_named_with_what_is_allowed(field, value, allowed):
    with pytest.raises(ValueError, match=r"^config\.") as error:
        validate(changed(**{field.replace(".", "__"): value}))
    assert str(error.value).splitlines()[0] == f"config.{field} is {value!r}; allowed: {allowed}"


def test_a_crystal_must_be_used_for_something():
    with pytest.raises(ValueError, match=r"config.tasks are all 0; allowed: at least one above 0"):
        validate(changed(tasks__generate=0.0))
    validate(changed(tasks__generate=0.0, tasks__complete=0.1))


def test_all_impossible_values_are_named_at_once():
    with pytest.raises(ValueError, match="allowed") as error:
        validate(changed(seed=-1, chunk_size=0, network__dtype="int8", batch_size=3))
    fields = {line.split(" is ")[0] for line in str(error.value).splitlines()}
    assert fields == {
        "config.seed",
        "config.chunk_size",
        "config.network.dtype",
        "config.batch_size",
    }


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_learning_rate_that_would_rise_is_refused(schedule):
    wrong = changed(optimizer__schedule=schedule, optimizer__learning_rate=1e-5)
    with pytest.raises(ValueError, match=r"final_learning_rate is 0.0001; allowed: at most"):
        validate(wrong)
    validate(changed(optimizer__learning_rate=1e-5))


def test_validate_changes_nothing():
    config = default_config()
    assert validate(config) is config
    assert config == default_config()


@pytest.mark.parametrize("variant", ["", "quick", "quick,diffcsp"])
def test_saved_config_comes_back(variant):
    config = config_fields.get_config(variant)
    config.max_minutes = 2.5
    saved = json.loads(json.dumps(config.to_dict()))
    assert load_config(saved) == config


OF_0_1 = {
    "num_steps": 1000,
    "sampling_steps": 250,
    "corrector_gamma": 5e-7,
    "ending": "published",
    "type_temperature": 0.9,
    "coords_score": "marginal",
}
"""The section `diffusion` of version 0.1, nothing at its default."""


def saved_by_0_1(**fields):
    """The default configuration as version 0.1 saved it."""
    saved = json.loads(json.dumps(default_config().to_dict()))
    del saved["sampling"], saved["data"]["properties"]
    for name in ("name", "num_heads", "pair_dim"):
        del saved["network"][name]
    saved["diffusion"] = {**OF_0_1, **fields}
    return saved


def test_a_config_of_0_1_comes_back_with_its_fields_where_they_are_now():
    config = load_config(saved_by_0_1())
    assert config.diffusion.to_dict() == PUBLISHED_PROCESS
    assert config.sampling.to_dict() == {
        "solver": "predictor_corrector",
        "steps": 250,
        "corrector_gamma": 5e-7,
        "last_step": "hold",
        "type_temperature": 0.9,
        "coords_score": "marginal",
        "guidance": 1.0,
        "first_time": 999,
        "visit": (),
        "corrector": "langevin",
        "churn": 0.0,
        "coords_ahead": 0.0,
        "cell_bounds_angstrom": (),
    }
    assert (config.network.name, config.data.properties) == ("cspnet", ())
    assert set(MOVED) == {f"diffusion.{name}" for name in OF_0_1} - {"diffusion.num_steps"}
    clean = load_config(saved_by_0_1(ending="clean", sampling_steps=None)).sampling
    assert (clean.last_step, clean.steps) == ("denoise", None)
    # Every other field is what it was.
    plain = default_config().to_dict()
    for section in plain.keys() - {"diffusion", "sampling"}:
        assert config.to_dict()[section] == plain[section]


def test_upgrading_leaves_a_config_of_today_and_its_argument_as_they_are():
    today = default_config().to_dict()
    assert upgraded(today) == today
    saved = saved_by_0_1()
    before = json.dumps(saved)
    assert upgraded(upgraded(saved)) == upgraded(saved)
    assert json.dumps(saved) == before


@pytest.mark.parametrize(
    ("field", "value", "now"),
    [
        ("sampling_steps", 2000, "sampling.steps is 2000; allowed: at most"),
        ("ending", "dirty", "sampling.last_step is 'dirty'; allowed: denoise, hold"),
        ("corrector_gamma", -1.0, "sampling.corrector_gamma is -1.0; allowed: 0 or more"),
        ("type_temperature", 0.0, "sampling.type_temperature is 0.0; allowed: a number above 0"),
    ],
)
def test_impossible_values_of_0_1_are_named_where_they_are_now(field, value, now):
    with pytest.raises(ValueError, match=now):
        load_config(saved_by_0_1(**{field: value}))


def test_saved_config_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"does not fit this version.*mirages"):
        load_config(default_config().to_dict() | {"mirages": 3})
    with pytest.raises(ValueError, match="does not fit this version"):
        load_config(default_config().to_dict() | {"batch_size": "many"})
    with pytest.raises(ValueError, match=r"config\.seed is -3"):
        load_config(default_config().to_dict() | {"seed": -3})


def test_saved_config_of_another_number_of_devices_comes_back():
    """A run of one device can be sampled from on two."""
    assert load_config(default_config().to_dict() | {"batch_size": 5}).batch_size == 5
