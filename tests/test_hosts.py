"""Several processes that do one run: how they are found, and what they do together."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from miad_jax import hosts
from miad_jax.hosts import Launch, launch

SLURM = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NODELIST": "node[1-2]",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "node1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "0",
}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (SLURM, Launch(4, 3)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        # The script of sbatch itself, outside srun.
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "0.0;tcp://10.0.0.1:34911"}, Launch(2, 1)),
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "node1:1234"}, Launch(2, 1)),
        (BY_HAND, Launch(2, 0)),
        (SLURM | BY_HAND, Launch(2, 0)),
        (SLURM | {"JAX_NUM_PROCESSES": "1"}, None),
    ],
)
def test_the_environment_says_which_process_this_is(environment, found):
    assert launch(environment) == found


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (OPEN_MPI, "set JAX_COORDINATOR_ADDRESS to its host:port"),
        (BY_HAND | {"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is 2; allowed: 0 to 1"),
        (BY_HAND | {"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID is 'one'; allowed: a whole number"),
        ({"JAX_COORDINATOR_ADDRESS": "node1:1234"}, "but not JAX_NUM_PROCESSES"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID is not set"),
    ],
)
def test_an_impossible_environment_is_refused(environment, said):
    with pytest.raises(ValueError, match=said):
        launch(environment)


def test_a_process_alone_waits_for_nobody():
    with hosts.first_one_first():
        assert hosts.is_first()
    assert hosts.any_process(True)
    assert not hosts.any_process(False)
    assert hosts.of_first(7) == 7


STEPS = 12
TRAIN = (
    "--config=prototypes",
    "--config.data.max_num_atoms=4",
    "--config.infusion.num_atoms=5",
    "--config.batch_size=8",
    "--config.network.hidden_dim=16",
    "--config.network.num_layers=1",
    "--config.network.num_freqs=4",
    "--config.network.time_dim=8",
    "--config.log_every=2",
    "--config.validate_every=4",
    "--config.checkpoint_every=4",
    f"--config.num_steps={STEPS}",
)
SOON = "import miad_jax.hosts as h; h.HEARTBEAT_SECONDS = 20; from miad_jax.commands import start; "


def start(name: str, *arguments: object, num_devices: int, **variables: str) -> subprocess.Popen:
    """A command in a process of its own, which gives a lost one up soon."""
    environment = {
        **os.environ,
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace(
            "--xla_force_host_platform_device_count=2",
            f"--xla_force_host_platform_device_count={num_devices}",
        ),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-c", f"{SOON} start.start({name!r})", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_two(name: str, *arguments: object) -> list[subprocess.Popen]:
    """Two processes of two devices each, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [
        start(name, *arguments, num_devices=2, **together, JAX_PROCESS_ID=str(i)) for i in range(2)
    ]


def done(*processes: subprocess.Popen) -> list[str]:
    """What processes said, all of which end well."""
    said = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(said), said
    return said


def losses(workdir: Path) -> dict[tuple[int, str], float]:
    """Every loss of a run, by its step and name."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {
        (line["step"], name): value
        for line in lines
        for name, value in line.items()
        if name not in ("step", "event", "steps_per_second", "epoch")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of one process of four devices, `one`, and of two of two, `two`."""
    folder = tmp_path_factory.mktemp("hosts")
    done(start("train", *TRAIN, f"--workdir={folder / 'one'}", num_devices=4))
    done(*start_two("train", *TRAIN, f"--workdir={folder / 'two'}"))
    return folder


@pytest.mark.slow
def test_two_processes_train_as_one_does_with_as_many_devices(folder):
    one, two = (losses(folder / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert (STEPS, "validation_loss") in one
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=2e-5)


@pytest.mark.slow
def test_the_others_end_when_one_is_lost_and_the_run_goes_on(folder):
    workdir = folder / "lost"
    more = (*TRAIN, f"--workdir={workdir}", "--config.num_steps=100000")
    first, second = start_two("train", *more)
    deadline = time.monotonic() + 400
    while not (workdir / "checkpoints" / "8").exists() and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.2)
    second.kill()
    killed = time.monotonic()
    said = first.communicate(timeout=100)[0]
    assert time.monotonic() - killed < 90
    assert first.returncode
    assert "another task died" in said
    second.communicate()
    reached = max(int(x.name) for x in (workdir / "checkpoints").iterdir() if x.name.isdecimal())
    until = f"--config.num_steps={reached + 4}"
    done(*start_two("train", *TRAIN, f"--workdir={workdir}", until))
    assert (workdir / "checkpoints" / str(reached + 4)).exists()
    assert (reached + 4, "loss") in losses(workdir)


@pytest.mark.slow
def test_two_processes_draw_the_samples_of_one_and_write_one_summary(folder):
    asked = [
        *(f"--checkpoint={folder / 'one'}", "--num=10", "--batch_size=2", "--chunk_size=2"),
        *("--steps=4", "--seed=3"),
    ]
    done(start("sample", *asked, f"--out={folder / 'a'}", num_devices=2))
    said = done(*start_two("sample", *asked, f"--out={folder / 'b'}"))
    assert "of 10 samples" in said[0]
    assert "samples" not in said[1]
    for name in ("samples.npz", "samples.csv", "samples.extxyz", "summary.json"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
