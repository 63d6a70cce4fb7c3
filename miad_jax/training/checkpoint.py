"""Checkpoints: everything a run needs to continue, and everything sampling needs to start.

A checkpoint has three parts: `average`, the averaged parameters, which is all that sampling
reads; `rest`, the remaining state; and `meta`, a JSON of the configuration and the data. `meta`
holds a hash of each part, so that damage is found when a part is read; checkpoints of older
versions have none.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

from miad_jax.config import CARRYING_OUT, LENGTHS, load_config
from miad_jax.storage.files import out_of_space
from miad_jax.storage.hashed import SHA256, checked, hash_of_arrays, hash_of_json
from miad_jax.storage.run_record import differences
from miad_jax.training.state import TrainState

_LONGEST = 200
"""So many characters of what a library says are told."""

_BESIDE_ARRAYS_BYTES = 2**17
"""What a checkpoint holds beside its arrays, at most."""

VALIDATES = "validates"
"""Where `meta` says whether the run validates at this step, after the checkpoint."""

HASHES = "sha256_of_parts"
"""Where `meta` holds the hashes of the other parts."""


class Checkpoints:
    """The checkpoints of one run, in a folder; the newest few are kept.

    Args:
        directory: The run's folder; checkpoints lie in `checkpoints/` inside it.
        keep: Number of checkpoints kept.
        step: The checkpoint to read; the newest when None.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3, step: int | None = None):
        # Orbax logs with a traceback what it then raises.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.directory = Path(directory).absolute() / "checkpoints"
        self._manager: ocp.CheckpointManager | None = None
        self._keep, self._step = keep, step

    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        if not self.directory.is_dir():
            return None
        self.wait()
        return self._open().latest_step()

    def save(self, state: TrainState, meta: Mapping[str, Any], *, validates: bool = False) -> None:
        """Begin to write a checkpoint of this step, unless there is one; training may go on.

        It appears whole or not at all; `wait` returns when it is there.

        Args:
            state: The state.
            meta: Configuration and data.
            validates: Whether the run validates at this step, after the checkpoint.

        Raises:
            OSError: If it, or the one before, cannot be written; a full disk is one reason.
        """
        step = int(state.step)
        if self.latest() == step:
            return
        parts = {"average": _to_host(state.ema_params), "rest": _rest(state)}
        hashes = {part: _hash_of(tree) for part, tree in parts.items()}
        meta = json.loads(json.dumps({**meta, VALIDATES: validates, HASHES: hashes}))
        with _in_one_sentence(self.directory):
            manager = self._open()
            # Orbax finds out as well, but its threads tell it in a traceback each. It writes arrays
            # twice: as they come, and then together.
            needed = 2 * sum(x.nbytes for x in jax.tree.leaves(parts)) + _BESIDE_ARRAYS_BYTES
            if needed > shutil.disk_usage(self.directory).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            manager.save(
                step,
                args=ocp.args.Composite(
                    **{part: ocp.args.StandardSave(tree) for part, tree in parts.items()},
                    meta=ocp.args.JsonSave({**meta, SHA256: hash_of_json(meta)}),
                ),
            )

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: If it cannot be written.
        """
        if self._manager is not None:
            with _in_one_sentence(self.directory):
                self._manager.wait_until_finished()

    def resume(
        self, state: TrainState, meta: dict[str, Any]
    ) -> tuple[TrainState, dict[str, Any], bool]:
        """Where a run that ended goes on.

        Args:
            state: The state before the first step of such a run.
            meta: Configuration and data of the run that is to go on.

        Returns:
            The state of the newest checkpoint, `meta` with what the run started from, and whether
            the run validates at that step.

        Raises:
            ValueError: If the checkpoints are of a run of another configuration or other data.
        """
        saved = self._meta()
        _check_same_run(saved, meta, self.directory.parent)
        meta = {**meta, "init_from": saved.get("init_from")}
        return self.restore(state), meta, bool(saved.get(VALIDATES))

    def restore(self, like: TrainState) -> TrainState:
        """The state, exactly as it was saved.

        Args:
            like: A state of the same structure and shapes.
        """
        average = self._arrays("average", _to_host(like.ema_params))
        rest = self._arrays("rest", _rest(like))
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
        return self._arrays("average", empty)

    def meta(self) -> dict[str, Any]:
        """Configuration and data.

        Raises:
            ValueError: If there is no such checkpoint, or it is damaged.
        """
        return {name: x for name, x in self._meta().items() if name not in (HASHES, VALIDATES)}

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

    def _meta(self) -> dict[str, Any]:
        """Configuration and data, and what a checkpoint says of itself."""
        meta = self._restore("meta", ocp.args.JsonRestore())
        try:
            meta = checked(meta)
            if missing := [name for name in ("config", "data_fingerprint") if name not in meta]:
                raise ValueError(f"it lacks {', '.join(missing)}")
        except (TypeError, ValueError) as error:
            raise self._damaged("meta", error) from error
        return meta

    def _arrays(self, part: str, like: Any) -> Any:
        """A part that holds arrays, as its hash says."""
        found = self._restore(part, ocp.args.StandardRestore(like))
        hashes = self._meta().get(HASHES)
        if hashes is not None and hashes.get(part) != _hash_of(found):
            raise self._damaged(part, ValueError("it does not fit its hash"))
        return found

    def _restore(self, part: str, how: ocp.args.CheckpointArgs) -> Any:
        step = self.step()  # before a folder is made for a manager
        manager = self._open()
        try:
            return manager.restore(step, args=ocp.args.Composite(**{part: how}))[part]
        except Exception as error:  # a damaged checkpoint can raise all there is
            raise self._damaged(part, error) from error

    def _damaged(self, part: str, error: Exception) -> ValueError:
        """What to say of a checkpoint whose part cannot be read."""
        step = self.step()
        earlier = [x for x in self._open().all_steps() if x < step]
        then = (
            f"delete that folder, and the checkpoint of step {max(earlier)} is the newest"
            if earlier
            else "there is no checkpoint before it, so name a new folder"
        )
        said = (" ".join(str(error).split()) or type(error).__name__)[:_LONGEST]
        return ValueError(
            f"the part {part!r} of the checkpoint {self.directory / str(step)} is missing, damaged "
            f"or of another network ({said}): {then}"
        )

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            # Each process reads by itself, and one alone writes.
            index = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=index, active_processes={index}, barrier_sync_key_prefix=str(index)
            )
            self.directory.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, create=False, multiprocessing_options=alone
            )
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


def _hash_of(tree: Mapping[str, Any]) -> str:
    """The hash of a part, over its arrays by their paths."""
    return hash_of_arrays(flatten_dict(tree, sep="/"))


@contextmanager
def _in_one_sentence(directory: Path) -> Iterator[None]:
    """Tell a lack of space in the words of the operating system, and name the folder."""
    try:
        yield
    except Exception as error:  # the libraries below have their own for it
        if out_of_space(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory)) from None
        raise


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
