"""The studies of the paper: what they train, how trainings are compared, what they leave."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments.ablations import cost
from experiments.ablations import trainings as ablations
from experiments.ablations.crystals import changing
from experiments.ablations.curve import earlier, points
from experiments.ablations.show import write
from experiments.ablations.studies import studies
from experiments.claims.claim import Claim
from experiments.claims.numbers import (
    MISSING,
    NO,
    OPEN,
    YES,
    Number,
    compared,
    is_best,
    mean_of,
    number_of,
)
from experiments.mp20 import work
from experiments.perov_carbon import sets
from experiments.perov_carbon.show import write as write_sets
from experiments.systems.systems import claims
from miad_jax.config import validate

ROOT = Path(__file__).parents[2]


def config_of(variant):
    """The checked configuration that a training has, as flat fields."""
    path, _, words = variant.config.partition(":")
    spec = importlib.util.spec_from_file_location("studied", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(words)
    config.update_from_flattened_dict(variant.fields())
    return flatten_dict(validate(config, num_devices=1).to_dict(), sep=".")


@pytest.mark.parametrize("size", [ablations.TWO_CORES, ablations.PUBLISHED])
def test_an_ablation_changes_one_choice(size):
    configs = {name: config_of(x) for name, x in ablations.trainings(size).items()}
    usual = configs.pop("miad")
    assert usual["infusion.num_atoms"] == size.slots[1]
    changed = {
        name: {field for field in usual if config[field] != usual[field]}
        for name, config in configs.items()
    }
    infusion = {"infusion.placement", "infusion.mask_mirage"}
    assert changed["center-nonmasked"] == infusion
    assert changed["center-masked"] | changed["uniform-nonmasked"] == infusion
    assert changed["types-half"] == changed["types-double"] == {f"loss.{size.types}"}
    assert all(changed[name] == {"infusion.num_atoms"} for name in ablations.rescaled(size))
    sampler = {"sampling.churn", "sampling.coords_ahead"} if size is ablations.TWO_CORES else set()
    assert changed["diffcsp"] - {"num_epochs"} == {"infusion.enabled"} | sampler
    named = {name for study in studies(size).values() for name in study.trainings}
    assert named == {"miad", *configs}


def test_the_types_keep_their_share_of_the_loss(tmp_path, monkeypatch):
    size = ablations.TWO_CORES
    ends = {10: (0.5, 0.7, 1.2), 12: (0.6, 0.8, 0.9)}
    lengths = []

    def train(variant, data, workdir, *, num_steps, **fields):
        losses = ends[variant.fields()["infusion.num_atoms"]]
        names = ("lattice", "coords", "cross_entropy")
        line = {f"validation_{x}": y for x, y in zip(names, losses, strict=True)}
        workdir.mkdir(parents=True, exist_ok=True)
        line["validation_loss"] = sum(losses)
        (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        lengths.append(num_steps)

    monkeypatch.setattr(ablations, "train", train)
    weight = ablations.types_weight("slots-12", size, "data", tmp_path, 1000)

    def share(slots, weight):
        *others, types = ends[slots]
        return weight * types / (weight * types + sum(others))

    assert share(12, weight) == pytest.approx(share(10, 1.0))
    assert lengths == [200, 200]
    assert ablations.types_weight("slots-12", size, "data", tmp_path, 1000) == weight
    assert len(lengths) == 2  # what is measured is not measured again


def test_an_interrupted_training_is_not_sampled(tmp_path, monkeypatch):
    def module(name, *arguments):
        (tmp_path / "metrics.jsonl").write_text('{"step": 30}\n{"event": "resume", "step": 30}\n')

    monkeypatch.setattr(work, "module", module)
    variant = ablations.trainings(ablations.TWO_CORES)["miad"]
    work.train(variant, "data", tmp_path, num_steps=30)
    with pytest.raises(SystemExit, match=r"interrupted at step 30 .* the same command continues"):
        work.train(variant, "data", tmp_path, num_steps=31)


def test_numbers_are_told_apart_by_their_intervals():
    small, large = (Number(x, x - 0.05, x + 0.05, is_share=True) for x in (0.2, 0.3))
    assert compared(large, small) == YES
    assert compared(small, large) == NO
    assert compared(large, Number(0.25, 0.2, 0.3)) == OPEN  # 0.05 ± 0.07
    assert is_best(large, [small, Number(0.25, 0.2, 0.3)]) == OPEN
    assert is_best(large, [small, small]) == YES
    assert is_best(small, [large, None]) == MISSING
    assert str(small) == "20.0 % (15.0–25.0)"


def test_the_mean_of_trainings_holds_their_spread():
    near = [Number(x, x - 0.098, x + 0.098) for x in (0.5, 0.5, 0.5, 0.5)]
    mean = mean_of(near)
    assert (mean.high - mean.low) / 2 == pytest.approx(0.098 / 2)  # of four equal ones
    far = [Number(x, x - 0.01, x + 0.01) for x in (0.2, 0.6)]
    mean = mean_of(far)
    assert mean.value == pytest.approx(0.4)
    assert (mean.high - mean.low) / 2 == pytest.approx(1.96 * math.sqrt(0.08 / 2))
    assert mean_of([]) is None


def ended(run, types=1.2):
    """The log of a training that has ended."""
    losses = {"lattice": 0.5, "coords": 0.7, "cross_entropy": types, "loss": 1.2 + types}
    run.mkdir(parents=True)
    line = {f"validation_{x}": y for x, y in losses.items()}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def report(folder, **shares):
    """A report with these shares of 100 samples, and whether S.U.N. is one of them."""
    folder.mkdir(parents=True)
    entries = [
        {
            "name": name.replace("_", " "),
            "value": value,
            "interval_95": [max(value - 0.05, 0), value + 0.05],
            "unit": "share",
            "total": 100,
        }
        for name, value in shares.items()
    ]
    (folder / "report.json").write_text(json.dumps({"tables": [{"entries": entries}]}))


def test_what_was_not_run_is_not_measured(tmp_path):
    write(tmp_path / "one", ablations.TWO_CORES, range(3))
    write_sets(tmp_path / "two")
    for folder in ("one", "two"):
        found = json.loads((tmp_path / folder / "claims.json").read_text())
        assert found
        assert {x["holds"] for x in found} == {x["measured"] for x in found} == {MISSING}


def test_a_comparison_is_shown_with_all_its_seeds(tmp_path):
    for seed, values in enumerate(((0.3, 0.1), (0.34, 0.06))):
        for name, value in zip(("miad", "diffcsp"), values, strict=True):
            report(tmp_path / name / str(seed) / "report", **{"read": 1.0, "S.U.N.": value})
            ended(tmp_path / name / str(seed) / "run")
    ended(tmp_path / "diffcsp" / "2" / "run", types=9.0)  # not judged yet
    text = write(tmp_path, ablations.TWO_CORES, range(3))
    row = next(x for x in text.splitlines() if x.startswith("| diffcsp"))
    assert row.startswith("| diffcsp | 2 | 200 | 0.5 (0.5–0.5) | 0.7 (0.7–0.7) | 1.2 (1.2–1.2) |")
    assert "| 50.0 % (50.0–50.0) |" in row  # of the loss is the types'
    assert row.endswith("| 8.0 % (4.1–11.9) |")
    found = {x["source"]: x for x in json.loads((tmp_path / "claims.json").read_text())}
    assert found["§5"]["holds"] == YES
    assert "miad 32.0 %" in found["§5"]["measured"]
    assert found["Table 5"]["holds"] == MISSING  # three of its four were not trained
    assert number_of([tmp_path / "nowhere"], "read") is None


def test_atoms_that_come_and_go_are_counted():
    counts = np.array([[9, 7, 8, 8, 8, 8], [9, 8, 8, 7, 6, 6]])
    claim = changing(np.repeat(counts, [30, 10], axis=0), "command")
    assert claim.holds == YES
    assert claim.measured.startswith("of 40 samples 75.0 %")
    assert "25.0 %" in claim.measured  # change after half of the steps
    assert changing(counts[1:], "command").holds == NO


def test_infusion_must_not_cost_validity_of_perovskites(tmp_path):
    numbers = ("valid structure", "valid composition", "COV-R", "COV-P")
    report(tmp_path / "perov5" / "miad" / "report", **dict.fromkeys(numbers, 0.9))
    worse = dict.fromkeys(numbers, 0.9) | {"COV-P": 0.7}
    report(tmp_path / "perov5" / "diffcsp" / "report", **worse)
    write_sets(tmp_path)
    perov, carbon = json.loads((tmp_path / "claims.json").read_text())
    assert perov["holds"] == YES
    assert "COV-P 90.0 % (85.0–95.0) against 70.0 %" in perov["measured"]
    assert carbon["holds"] == MISSING


def test_infusion_carries_over_where_no_number_is_smaller(tmp_path):
    numbers = ("valid structure", "valid composition", "plausible structure")
    report(tmp_path / "flowmm" / "report", **dict.fromkeys(numbers, 0.8))
    better = dict.fromkeys(numbers, 0.7) | {"valid composition": 0.9}
    report(tmp_path / "flowmm-without" / "report", **better)
    holds = {x.claim.partition(":")[0].rpartition(" ")[2]: x.holds for x in claims(tmp_path)}
    assert holds == {"MatterGen": MISSING, "FlowMM": NO, "CrystalFlow": MISSING}


def test_the_curve_passes_over_checkpoints_of_interruptions(tmp_path):
    for step in (1000, 1370, 2000, 2010, 3001, 4000):
        (tmp_path / "run" / "checkpoints" / str(step)).mkdir(parents=True)
    drawn = earlier(tmp_path)
    assert [x.name for x, _ in drawn] == ["1000", "2000", "3001"]
    assert earlier(tmp_path / "elsewhere") == points(tmp_path / "elsewhere") == []
    for _, place in drawn:
        place.mkdir(parents=True)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 4000}\n')
    assert [step for step, _ in points(tmp_path)] == [1000, 2000, 3001, 4000]
    assert points(tmp_path)[-1][1] == tmp_path


@pytest.mark.parametrize("name", sets.SETS)
@pytest.mark.parametrize("size", [sets.TWO_CORES, sets.PUBLISHED])
def test_both_data_sets_are_trained_with_and_without_infusion(name, size):
    infused, baseline = (config_of(sets.variant(name, size, infused=x)) for x in (True, False))
    changed = {field for field in infused if infused[field] != baseline[field]}
    assert changed - {"sampling.churn", "sampling.coords_ahead"} == {"infusion.enabled"}
    assert infused["infusion.num_atoms"] == {"perov5": 6, "carbon24": 30}[name]


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/*/results/claims.json")), ids=str)
def test_the_files_of_the_studies_are_claims(file):
    found = [Claim(**x) for x in json.loads(file.read_text())]
    assert {x.holds for x in found} <= {YES, NO, OPEN, MISSING, "shown"}
    assert all(x.holds == MISSING for x in found if x.measured == MISSING)


def test_the_cost_is_a_ratio(tmp_path):
    both = {"miad": (0.4, 0.06), "diffcsp": (0.2, 0.05)}
    found = {name: dict(zip((cost.STEP, cost.SAMPLE), x, strict=True)) for name, x in both.items()}
    (tmp_path / "cost.json").write_text(json.dumps(found))
    said = cost.claim(tmp_path, "command").measured
    assert said == "a training step takes 2.00 times as long, a sample 1.20 times"
    assert f"| {cost.SAMPLE} | 0.06 | 0.05 | 1.20 |" in cost.table(tmp_path)


@pytest.mark.slow
def test_both_are_timed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cost.measure(ablations.TWO_CORES, "prototypes", tmp_path)
    found = json.loads((tmp_path / "cost.json").read_text())
    assert [found[x]["slots of a crystal"] for x in ("miad", "diffcsp")] == [10, 8]
    assert all(x[cost.STEP] > x[cost.SAMPLE] > 0 for x in found.values())


@pytest.mark.slow
def test_the_ablations_train_sample_and_judge(tmp_path, monkeypatch, capsys):
    from experiments.ablations.__main__ import main

    flags = ["--only=baseline", "--steps=2", "--samples=2", "--seeds=1", "--data=prototypes"]
    monkeypatch.setattr("sys.argv", ["ablations", f"--out={tmp_path}", *flags])
    monkeypatch.chdir(ROOT)
    main()
    table = capsys.readouterr().out.partition("## §5: baseline")[2].partition("\n## ")[0]
    assert table.count("| 1 | 2 |") == 2  # of both a training with two samples
