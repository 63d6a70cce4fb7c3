"""Trained models: the weights that come with the package, release files, and runs of one's own.

A release file is one `.npz` that says all of itself, without pickle:

    param.PATH    the averaged parameters, by their path in the network, usually in float16
    meta          text: JSON of format, configuration, data, training, licence, attribution
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Int
from ml_collections import ConfigDict
from numpy.typing import DTypeLike

from miad_jax.build import diffusion_from, network_from
from miad_jax.config import load_config, upgraded
from miad_jax.data.formats import npz_bytes
from miad_jax.diffusion.joint import Denoise, Diffusion
from miad_jax.storage.files import write_atomically

if TYPE_CHECKING:
    from miad_jax.training.checkpoint import Checkpoints

_FOLDER = Path(__file__).parent / "weights"
WEIGHTS = {
    "mp20-small12": _FOLDER / "mp20_small12.npz",
    "mp20-small12-diffcsp": _FOLDER / "mp20_small12_diffcsp.npz",
    "mp20-transformer": _FOLDER / "mp20_transformer.npz",
}
"""Weights that come with the package, by name; the first is the default."""

DEFAULT = next(iter(WEIGHTS))
FORMAT = "miad_jax weights 1"
_PARAM = "param."
_DAMAGE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class TrainedModel:
    """What sampling needs of a training run.

    Attributes:
        params: The averaged parameters.
        config: The configuration it was trained with.
        histogram: Number of training crystals with 0, 1, 2, … atoms.
        step: Training steps done.
        fingerprint: Identifies the training data.
        init_from: Name, step and data of the model whose parameters it started from, or None.
    """

    params: Any
    config: ConfigDict
    histogram: Int[np.ndarray, " counts"]
    step: int
    fingerprint: str
    init_from: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """Identifies the parameters."""
        content = hashlib.sha256()
        for name, value in sorted(flatten_dict(self.params, sep="/").items()):
            content.update(name.encode() + np.asarray(value).tobytes())
        return content.hexdigest()[:16]

    @property
    def diffusion(self) -> Diffusion:
        """The process."""
        return diffusion_from(self.config)

    @property
    def denoise(self) -> Denoise:
        """The network with its parameters, a `jax.tree_util.Partial`."""
        return jax.tree_util.Partial(network_from(self.config).denoise, self.params)


def load_model(name_or_path: str | Path) -> TrainedModel:
    """Load weights of the package, a release file, or a checkpoint of a run.

    Args:
        name_or_path: A key of `WEIGHTS`, a `.npz` that `save_pretrained` wrote, the `--workdir` of
            a run for its newest checkpoint, or one of its checkpoints: `RUN/checkpoints/STEP`.

    Raises:
        ValueError: If there is no such model, or it does not fit this version.

    Example:
        >>> model = miad_jax.load_model("mp20-small12")
        >>> model.config.infusion.enabled, int(model.histogram.argmax())
        (True, 4)
    """
    path = WEIGHTS.get(str(name_or_path), Path(name_or_path))
    if path.suffix == ".npz":
        return _load_release(path)
    checkpoints = _checkpoints(path)
    if checkpoints.latest() is None:
        raise ValueError(
            f"no checkpoint in {checkpoints.directory}: name the --workdir of a training run, a "
            f"release file (.npz), or weights of the package: {', '.join(WEIGHTS)}"
        )
    meta = checkpoints.meta()
    config = load_config(meta["config"])
    params = checkpoints.restore_average(_shapes(config))
    return _model(config, params, meta, checkpoints.step())


def load_pretrained(
    name_or_path: str | Path = DEFAULT,
) -> tuple[Diffusion, Denoise, ConfigDict]:
    """Load a trained model: its process, its denoiser and its configuration.

    Args:
        name_or_path: Weights that come with the package, a release file, the folder of a training
            run (`--workdir`), or one of its checkpoints.

    Raises:
        ValueError: If there is no such model, or it does not fit this version.

    Example:
        >>> diffusion, denoise, config = miad_jax.load_pretrained()
        >>> config.infusion.num_atoms
        15
    """
    model = load_model(name_or_path)
    return model.diffusion, model.denoise, model.config


def save_pretrained(
    workdir: str | Path,
    path: str | Path,
    about: Mapping[str, Any],
    *,
    dtype: DTypeLike = np.float16,
    sampling: Mapping[str, Any] | None = None,
    **moved: Any,
) -> None:
    """Write a checkpoint of a run as a release file.

    Args:
        workdir: The `--workdir` of the run, or one of its checkpoints.
        path: The `.npz` to write; it must not exist.
        about: What else the file says of itself, such as data, licence and attribution.
        dtype: Of the parameters in the file; they are read back as float32.
        sampling: Fields of `config.sampling` to take instead of the run's, such as
            `{"steps": 250}`.
        **moved: Refused: `diffusion` of version 0.1 is `sampling` now.

    Raises:
        ValueError: If there is no checkpoint, the file exists, its name is no `.npz`, or a field
            is unknown or has an impossible value.

    Example:
        >>> miad_jax.save_pretrained("runs/mp20", "mine.npz", {"data": "MP-20"})  # doctest: +SKIP
    """
    for name in moved:
        hint = ": give sampling={...}, the fields of config.sampling" if name == "diffusion" else ""
        raise ValueError(f"save_pretrained has no argument {name!r}{hint}")
    path = Path(path)
    if path.suffix != ".npz" or path.exists():
        raise ValueError(f"{path} exists or is no .npz: name a new file that ends in .npz")
    checkpoints = _checkpoints(Path(workdir))
    meta = checkpoints.meta()
    saved = upgraded(meta["config"])
    saved["sampling"] = {**saved.get("sampling", {}), **dict(sampling or {})}
    config = load_config(saved)
    params = checkpoints.restore_average(_shapes(config))
    meta["config"] = config.to_dict()
    data = meta["config"]["data"]
    data["path"] = Path(data["path"]).name  # where it lay is nobody's business
    said = {
        "format": FORMAT,
        "version": version("miad_jax"),
        "step": checkpoints.step(),
        **meta,
        "about": dict(about),
    }
    arrays: dict[str, Any] = {
        _PARAM + name: np.asarray(x).astype(dtype)
        for name, x in flatten_dict(params, sep="/").items()
    }
    write_atomically(path, npz_bytes({"meta": np.array(json.dumps(said)), **arrays}))


def _checkpoints(path: Path) -> Checkpoints:
    """The newest checkpoint of a run's folder, or the one that the path names."""
    from miad_jax.training.checkpoint import Checkpoints  # orbax takes most of a second

    if path.parent.name == "checkpoints" and path.name.isdecimal():
        return Checkpoints(path.parent.parent, step=int(path.name))
    return Checkpoints(path)


def _load_release(path: Path) -> TrainedModel:
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; weights that come with the package: {', '.join(WEIGHTS)}"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] != FORMAT:
                raise ValueError(f"its format is {meta['format']!r}, not {FORMAT!r}")
            flat = {
                name.removeprefix(_PARAM): file[name].astype(np.float32)
                for name in file.files
                if name.startswith(_PARAM)
            }
    except _DAMAGE as error:
        raise ValueError(f"{path} is no release file of weights: {error}") from error
    config = load_config(meta["config"])
    params = unflatten_dict(flat, sep="/")
    shapes = _shapes(config)
    if jax.tree.map(np.shape, params) != jax.tree.map(lambda x: x.shape, shapes):
        raise ValueError(f"{path} holds parameters of another network than its configuration")
    return _model(config, params, meta, meta["step"])


def _shapes(config: ConfigDict) -> Any:
    return jax.eval_shape(network_from(config).init_params, jax.random.key(0))


def _model(config: ConfigDict, params: Any, meta: Mapping[str, Any], step: int) -> TrainedModel:
    if jax.default_backend() == "cpu":  # which has no fast bfloat16
        config.network.dtype = "float32"
    return TrainedModel(
        params=params,
        config=config,
        histogram=np.asarray(meta["histogram"]),
        step=step,
        fingerprint=meta["data_fingerprint"],
        init_from=meta.get("init_from"),
    )
