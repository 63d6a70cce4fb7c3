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

from miad_jax.config import CARRYING_OUT, LENGTHS, load_config
from miad_jax.storage.run_record import differences
from miad_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run, in a folder; the newest few are kept.

    Args:
        directory: The run's folder; checkpoints lie in `checkpoints/` inside it.
        keep: Number of checkpoints kept.
        step: The checkpoint to read; the newest when None.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3, step: int | None = None):
        logging.getLogger("absl").setLevel(logging.WARNING)
        self.directory = Path(directory).absolute() / "checkpoints"
        self._manager: ocp.CheckpointManager | None = None
        self._keep, self._step = keep, step

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
                average=ocp.args.StandardSave(_to_host(state.ema_params)),
                rest=ocp.args.StandardSave(_rest(state)),
                meta=ocp.args.JsonSave(meta),
            ),
        )

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def resume(self, state: TrainState, meta: dict[str, Any]) -> tuple[TrainState, dict[str, Any]]:
        """Where a run that ended goes on.

        Args:
            state: The state before the first step of such a run.
            meta: Configuration and data of the run that is to go on.

        Returns:
            The state of the newest checkpoint, and `meta` with what the run started from.

        Raises:
            ValueError: If the checkpoints are of a run of another configuration or other data.
        """
        saved = self.meta()
        _check_same_run(saved, meta, self.directory.parent)
        return self.restore(state), {**meta, "init_from": saved.get("init_from")}

    def restore(self, like: TrainState) -> TrainState:
        """The state, exactly as it was saved.

        Args:
            like: A state of the same structure and shapes.
        """
        average = self._restore("average", ocp.args.StandardRestore(_to_host(like.ema_params)))
        rest = self._restore("rest", ocp.args.StandardRestore(_rest(like)))
        return TrainState(
            params=rest["params"],
            ema_params=average,
            opt_state=jax.tree.unflatten(
                jax.tree.structure(like.opt_state), jax.tree.leaves(rest["opt_state"])
            ),
            step=rest["step"],
            key=jax.random.wrap_key_data(rest["key"]),
        )

    def restore_average(self, like: Any) -> Any:
        """The averaged parameters.

        Args:
            like: Anything of their structure, shapes and types, such as `jax.eval_shape` gives.
        """
        empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        return self._restore("average", ocp.args.StandardRestore(empty))

    def meta(self) -> dict[str, Any]:
        """Configuration and data.

        Raises:
            ValueError: If there is no such checkpoint.
        """
        return self._restore("meta", ocp.args.JsonRestore())

    def step(self) -> int:
        """Step of the checkpoint that is read.

        Raises:
            ValueError: If there is no such checkpoint.
        """
        latest = self.latest()
        if latest is None:
            raise ValueError(
                f"no checkpoint in {self.directory}: name the --workdir of a training run"
            )
        if self._step is None:
            return latest
        kept = list(self._open().all_steps())
        if self._step not in kept:
            raise ValueError(
                f"no checkpoint of step {self._step} in {self.directory}, but of "
                f"{', '.join(map(str, sorted(kept)))}: config.keep_checkpoints says how many stay"
            )
        return self._step

    def _restore(self, part: str, how: ocp.args.CheckpointArgs) -> Any:
        step = self.step()  # before a folder is made for a manager
        return self._open().restore(step, args=ocp.args.Composite(**{part: how}))[part]

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


def _check_same_run(saved: dict[str, Any], meta: dict[str, Any], workdir: Path) -> None:
    """Refuse to continue a run of another configuration or other data.

    Fields that an older version did not have stand at their defaults.
    """
    old = load_config(saved["config"]).to_dict()
    cosine = old["optimizer"]["schedule"] == "cosine"
    may_differ = [name for name in CARRYING_OUT if not (cosine and name in LENGTHS)]
    differing = [f"config.{line}" for line in differences(old, meta["config"], may_differ)]
    if saved["data_fingerprint"] != meta["data_fingerprint"]:
        differing.append(
            f"the data set {meta['config']['data']['path']} is not the one of that run"
        )
    if differing:
        raise ValueError(
            f"{workdir} holds another run ({'; '.join(differing)}): choose a new --workdir, which "
            "--init-from can start from the parameters of this one"
        )
