"""Checkpoints: everything a run needs to continue, and everything sampling needs to start.

A checkpoint has three parts: `average`, the averaged parameters, which is all that sampling
reads; `rest`, the remaining state; and `meta`, a JSON of the configuration and the data.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from miad_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run, in a folder; the newest few are kept.

    Args:
        directory: The run's folder; checkpoints lie in `checkpoints/` inside it.
        keep: Number of checkpoints kept.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3):
        logging.getLogger("absl").setLevel(logging.WARNING)
        self.directory = Path(directory).absolute() / "checkpoints"
        self._manager: ocp.CheckpointManager | None = None
        self._keep = keep

    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        if not self.directory.is_dir():
            return None
        self.wait()
        return self._open().latest_step()

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Begin to write a checkpoint of this step, unless there is one; training may go on.

        It appears whole or not at all; `wait` returns when it is there.
        """
        step = int(state.step)
        if self.latest() == step:
            return
        manager = self._open()
        manager.save(
            step,
            args=ocp.args.Composite(
                average=ocp.args.StandardSave(_to_host(state.average)),
                rest=ocp.args.StandardSave(_rest(state)),
                meta=ocp.args.JsonSave(meta),
            ),
        )

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, exactly as it was saved.

        Args:
            like: A state of the same structure and shapes.
        """
        average = self._restore("average", _to_host(like.average))
        rest = self._restore("rest", _rest(like))
        return TrainState(
            params=rest["params"],
            average=average,
            opt_state=jax.tree.unflatten(
                jax.tree.structure(like.opt_state), jax.tree.leaves(rest["opt_state"])
            ),
            step=rest["step"],
            key=jax.random.wrap_key_data(rest["key"]),
        )

    def restore_average(self, like: Any) -> Any:
        """The averaged parameters of the newest checkpoint.

        Args:
            like: Anything of their structure, shapes and types, such as `jax.eval_shape` gives.
        """
        empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        return self._restore("average", empty)

    def meta(self) -> dict[str, Any]:
        """Configuration and data of the newest checkpoint.

        Raises:
            ValueError: If there is no checkpoint.
        """
        step = self._newest()
        restored = self._open().restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        return restored["meta"]

    def _restore(self, part: str, like: Any) -> Any:
        args = ocp.args.Composite(**{part: ocp.args.StandardRestore(like)})
        return self._open().restore(self._newest(), args=args)[part]

    def _newest(self) -> int:
        step = self.latest()
        if step is None:
            raise ValueError(
                f"no checkpoint in {self.directory}: name the --workdir of a training run"
            )
        return step

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, create=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager


def _rest(state: TrainState) -> dict[str, Any]:
    """The state without its average, as plain arrays: keys as data, the optimiser as a list."""
    return _to_host(
        {
            "params": state.params,
            "opt_state": {f"{i:04}": x for i, x in enumerate(jax.tree.leaves(state.opt_state))},
            "step": state.step,
            "key": jax.random.key_data(state.key),
        }
    )


def _to_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
