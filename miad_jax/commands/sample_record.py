"""What identifies a folder of samples: all that they depend on, and how older versions wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from miad_jax.commands import asking, choosing
from miad_jax.config import load_config
from miad_jax.config import upgraded as upgraded_config
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.model import TrainedModel
from miad_jax.sampling import Sampler


def chunk_size_of(folder: Path) -> int | None:
    """That of the samples in a folder, which more of them share; None where there are none."""
    if not (folder / "run.json").is_file():
        return None
    return SampleDirectory.read_only(folder).run.get("chunk_size")


def run_of(
    values: flags.FlagValues, model: TrainedModel, config: ConfigDict, sampler: Sampler
) -> dict[str, Any]:
    """What the samples and their files depend on.

    A run that refines nothing says nothing of it, as folders of version 0.1 do.
    """
    more: dict[str, Any] = {} if values.refine is None else {"refine_angstrom": values.refine}
    if asked := asking.asked(values):
        more |= {"asked": asked, "attempts": values.attempts}
    more |= choosing.chosen_by(values)
    trained = model.config.to_dict()
    del trained["sampling"]  # what is taken of it stands beside it
    return {
        "seed": values.seed,
        "sampling": {**config.sampling.to_dict(), "steps": sampler.num_steps},
        "chunk_size": sampler.chunk_size,
        **more,
        "checkpoint_step": model.step,
        "parameters": model.digest,
        "data_fingerprint": model.fingerprint,
        "config": trained,
    }


def upgraded(run: dict[str, Any]) -> dict[str, Any]:
    """The record of an older version: fields stand where they are now, new ones at their defaults.

    Version 0.1 wrote the fields of sampling beside the seed.
    """
    old = {name: run.pop(name) for name in _OF_0_1 if name in run}
    config = upgraded_config(run["config"])
    if old:
        old["sampling_steps"] = old.pop("steps")
        config = upgraded_config({**config, "diffusion": {**config["diffusion"], **old}})
    else:
        config["sampling"] = run["sampling"]
    trained = json.loads(json.dumps(load_config(config).to_dict()))
    return {**run, "sampling": trained.pop("sampling"), "config": trained}


_OF_0_1 = ("steps", "ending", "coords_score", "corrector_gamma", "type_temperature")
