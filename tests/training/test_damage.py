"""What a kill, a full disk or a flipped bit leaves of a run is found, named, and made up for."""

import errno
import json
import os
import shutil
from dataclasses import replace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from miad_jax.model import load_model, save_pretrained
from miad_jax.training import Checkpoints, NonFiniteLossError, make_optimizer, train
from miad_jax.training.loop import _non_finite, make_objective
from miad_jax.training.metrics_file import MetricsFile
from miad_jax.training.sharding import ShardedTraining
from miad_jax.training.state import create


@pytest.fixture(scope="module")
def whole(tiny_config, data, tmp_path_factory):
    """A run of 12 steps that nothing interrupts, and its last state."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(tiny_config(), data, folder)


@pytest.fixture
def run(whole, tmp_path):
    """A copy of that run."""
    shutil.copytree(whole[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def saved(tiny_config, drawn_params, tmp_path):
    """A folder with checkpoints of steps 8 and 12, of parameters that were never trained."""
    config = tiny_config()
    objective = make_objective(config, 4)
    state = create(
        drawn_params(objective.net), make_optimizer(config.optimizer, 12, 3), jax.random.key(1)
    )
    meta = {"config": config.to_dict(), "histogram": [0, 3, 4], "data_fingerprint": "abc"}
    checkpoints = Checkpoints(tmp_path / "saved")
    for step in (8, 12):
        checkpoints.save(replace(state, step=np.int32(step)), meta)
        checkpoints.wait()
    return tmp_path / "saved", state


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def validations(workdir):
    return {line["step"]: line for line in lines(workdir) if "validation_loss" in line}


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves((state.params, state.ema_params))]


class Killed(BaseException):
    """Ends a run at a place, as SIGKILL would."""


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 12])
def test_a_run_killed_before_its_validation_makes_up_for_it(
    tiny_config, data, whole, tmp_path, monkeypatch, step
):
    validate = ShardedTraining.validate

    def killed(self, bar):
        if Checkpoints(tmp_path).latest() == step:
            raise Killed
        return validate(self, bar)

    with monkeypatch.context() as patch:
        patch.setattr(ShardedTraining, "validate", killed)
        patch.setattr(Checkpoints, "save", saved_at_once(Checkpoints.save))
        with pytest.raises(Killed):
            train(tiny_config(), data, tmp_path)
    assert step not in validations(tmp_path)
    state = train(tiny_config(), data, tmp_path)
    for one, two in zip(leaves(state), leaves(whole[1]), strict=True):
        np.testing.assert_array_equal(one, two)
    assert validations(tmp_path) == validations(whole[0])
    before = (tmp_path / "metrics.jsonl").read_text()
    train(tiny_config(), data, tmp_path)  # nothing is left to do
    assert validations(tmp_path) == validations(whole[0])
    assert (tmp_path / "metrics.jsonl").read_text().startswith(before)


def saved_at_once(save):
    """A checkpoint that is on disk before the run goes on."""

    def both(self, *args, **more):
        save(self, *args, **more)
        self.wait()

    return both


def test_a_line_that_a_kill_cut_is_taken_away(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "loss": 1.5}\n{"step": 4, "lo')
    MetricsFile(file).append({"event": "resume", "step": 4})
    assert lines(tmp_path) == [{"step": 2, "loss": 1.5}, {"event": "resume", "step": 4}]
    # One that lacks only its end is whole.
    file.write_text('{"step": 2, "loss": 1.5}\n{"step": 4, "validation_loss": 1}')
    metrics = MetricsFile(file)
    assert metrics.has_validation(4)
    assert not metrics.has_validation(2)
    metrics.append({"step": 6})
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    for cut in (b"", b"{", b'\xff\x00{"step"', b'{"a": "\xc3'):
        file.write_bytes(b'{"step": 2}\n' + cut)
        MetricsFile(file).append({"step": 3})
        assert [line["step"] for line in lines(tmp_path)] == [2, 3]


def test_a_line_on_a_full_disk_is_whole_or_not_there(tmp_path):
    full = tmp_path / "metrics.jsonl"
    full.symlink_to("/dev/full")
    metrics = MetricsFile(tmp_path / "nothing" / "metrics.jsonl")
    metrics._path = full
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
        metrics.append({"step": 1})


PARTS = ("average", "rest", "meta")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_named(saved, part):
    folder, state = saved
    shutil.rmtree(folder / "checkpoints" / "12" / part)
    expected = rf"the part '{part}' of the checkpoint .*12 is missing.*step 8 is the newest"
    with pytest.raises(ValueError, match=expected):
        Checkpoints(folder).restore(state)
    if part != "rest":
        with pytest.raises(ValueError, match=expected):
            load_model(folder)
    shutil.rmtree(folder / "checkpoints" / "12")  # as the sentence says
    assert Checkpoints(folder).restore(state).step == 8
    assert load_model(folder).step == 8


@pytest.mark.parametrize("each", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_never_loaded(saved, each):
    """A bit in the largest file of each part, or two in each: it is told, or changes nothing."""
    folder, state = saved
    newest = folder / "checkpoints" / "12"
    files = sorted(x for x in newest.rglob("*") if x.is_file() and x.stat().st_size)
    if not each:
        files = [
            max((x for x in files if part in x.parts), key=lambda x: x.stat().st_size)
            for part in PARTS
        ]
    expected = load_model(folder)
    said = []
    for file in files:
        content = file.read_bytes()
        for place in (len(content) // 2, len(content) * 4 // 5)[: 1 + each]:
            file.write_bytes(flipped(content, place))
            try:
                found = load_model(folder)
                restored = Checkpoints(folder).restore(state)
            except ValueError as error:
                said.append(str(error))
            else:
                assert found.digest == expected.digest
                assert found.config.to_dict() == expected.config.to_dict()
                for one, two in zip(leaves(restored), leaves(state), strict=True):
                    np.testing.assert_array_equal(one, two)
            file.write_bytes(content)
    assert len(said) > len(files) / 4
    assert max(map(len, said)) < 700


def flipped(content, place, bit=2):
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def test_a_full_disk_is_named_in_a_sentence(saved, monkeypatch):
    folder, state = saved

    def full(self, *args, **more):
        raise ValueError(f"RESOURCE_EXHAUSTED: write failed: {os.strerror(errno.ENOSPC)} [os=28]")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*checkpoints'$"):
        Checkpoints(folder).save(replace(state, step=np.int32(13)), {})


def test_a_checkpoint_that_does_not_fit_is_not_begun(saved, monkeypatch, capfd):
    folder, state = saved
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*checkpoints'$"):
        Checkpoints(folder).save(replace(state, step=np.int32(13)), {})
    assert sorted(x.name for x in (folder / "checkpoints").iterdir()) == ["12", "8"]
    assert capfd.readouterr().err == ""


def test_what_a_run_saves_says_nothing_of_its_checkpoints(saved, tmp_path):
    save_pretrained(saved[0], tmp_path / "release.npz", {})
    with np.load(tmp_path / "release.npz") as file:
        meta = json.loads(str(file["meta"]))
    assert not {"sha256", "sha256_of_parts", "validates"} & set(meta)


@pytest.mark.slow
def test_advice_after_a_loss_that_is_not_finite_can_be_followed(tiny_config, data, run, tmp_path):
    said = _non_finite("loss", 13, Checkpoints(run))
    newest = run / "checkpoints" / "12"
    assert f"new --workdir, with --init_from={newest}, and a lower config.opt" in said
    assert load_model(newest).step == 12
    with pytest.raises(ValueError, match="new --workdir"):
        train(tiny_config(**{"optimizer.learning_rate": 1e-4}), data, run)
    poisoned = data.train.lattice.copy()
    poisoned[:] = np.nan
    bad = replace(data, train=replace(data.train, lattice=poisoned))
    new = tmp_path / "new"
    with pytest.raises(NonFiniteLossError, match="no checkpoint yet: give the same command a low"):
        train(tiny_config(), bad, new)
    lower = tiny_config(**{"optimizer.learning_rate": 1e-4})
    assert train(lower, data, new, should_stop=lambda: True).step > 0
