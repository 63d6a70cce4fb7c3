"""What `sample --trajectory` writes: a file for every sample of the call, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.trajectory_files import write_trajectories
from miad_jax.plots.trajectory import MAX_CELLS, trajectory_gif
from miad_jax.sampling.trajectory import Trajectory
from miad_jax.storage.files import write_atomically

NUM_STATES = 33
"""About so many states a trajectory has if nothing else is asked for."""


@dataclass
class TrajectoryWriter:
    """Writes trajectories batch by batch, and keeps the first samples for the picture.

    Attributes:
        folder: The folder of the samples.
        num_written: Number of trajectories so far.
    """

    folder: Path
    num_written: int = 0
    _parts: list[Crystal] = field(default_factory=list)
    _steps: Any = None
    _rows: list[Mapping[str, Any]] = field(default_factory=list)

    def write_batch(
        self, first_index: int, trajectory: Trajectory, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Put the trajectories of a batch on disk.

        Args:
            first_index: Number in the run of the batch's first sample; the others follow.
            trajectory: The states of the batch.
            rows: A row each, from `describe`.
        """
        crystals, steps = trajectory.crystals, trajectory.steps
        folder = self.folder / "trajectories"
        write_trajectories(folder, first_index, crystals, trajectory.times, steps, rows)
        if room := MAX_CELLS - len(self._rows):
            self._parts.append(crystals[:room])
            self._steps = steps
            self._rows += rows[:room]
        self.num_written += len(crystals)

    def finish(self) -> str:
        """Draw the picture if there is anything to draw, and say what was written."""
        if not self.num_written:
            return "no trajectories: all samples were on disk already"
        crystals = jax.tree.map(lambda *x: np.concatenate(x), *self._parts)
        path = self.folder / "trajectory.gif"
        write_atomically(path, trajectory_gif(crystals, self._steps, self._rows))
        return f"trajectories of {self.num_written} samples in trajectories/ and trajectory.gif"
