"""A Dask scheduler and its workers as processes of this machine."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

QUIET = ("--no-dashboard", "--host=127.0.0.1")


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        address: The scheduler's address.
        workers: Processes of one thread each, without a nanny that would start them again.
        processes: All processes, to be ended.
        environment: Of the workers.
    """

    address: str
    workers: list[subprocess.Popen]
    processes: list[subprocess.Popen]
    environment: dict[str, str]

    def add_worker(self, **environment):
        """Start a worker, and do not wait for it."""
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address]
        settings = ("--nthreads=1", "--no-nanny", "--memory-limit=0", *QUIET)
        process = subprocess.Popen(
            [*command, *settings], env=self.environment | environment, stderr=subprocess.DEVNULL
        )
        self.workers.append(process)
        self.processes.append(process)

    def wait_for(self, num_workers, seconds=60):
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(num_workers, timeout=seconds)


@contextmanager
def running(folder, num_workers, **environment):
    """Run a cluster whose files are in a folder."""
    said = folder / "scheduler.log"
    environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder), **environment}
    with said.open("w") as log:
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port=0", *QUIET],
            env=environment, stderr=log,
        )  # fmt: skip
    cluster = Cluster("", [], [scheduler], environment)
    try:
        until = time.monotonic() + 60
        while "Scheduler at:" not in said.read_text():
            assert scheduler.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.05)
        cluster.address = said.read_text().split("Scheduler at:")[1].split()[0]
        for _ in range(num_workers):
            cluster.add_worker()
        if num_workers:
            cluster.wait_for(num_workers)
        yield cluster
    finally:
        for process in cluster.processes:
            with suppress(OSError):
                process.kill()
            process.wait()
