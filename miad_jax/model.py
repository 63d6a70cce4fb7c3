"""Trained models: the weights that come with the package, release files, and runs of one's own.

What a release file holds is in `miad_jax.release`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Int
from ml_collections import ConfigDict
from numpy.typing import DTypeLike

from miad_jax.build import diffusion_from, network_from
from miad_jax.config import DTYPES, MAX_SLOTS, load_config, upgraded
from miad_jax.diffusion.joint import Denoise, Diffusion
from miad_jax.release import read_release, shapes_of, write_release
from miad_jax.version import VERSION

if TYPE_CHECKING:
    from miad_jax.training.checkpoint import Checkpoints

_FOLDER = Path(__file__).parent / "weights"
WEIGHTS = {
    "mp20-transformer": _FOLDER / "mp20_transformer.npz",
    "mp20-small12": _FOLDER / "mp20_small12.npz",
    "mp20-small12-diffcsp": _FOLDER / "mp20_small12_diffcsp.npz",
}
"""Weights that come with the package, by name; the first is the default."""

DEFAULT = next(iter(WEIGHTS))


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

    params: Any = field(repr=False)
    config: ConfigDict = field(repr=False)
    histogram: Int[np.ndarray, " counts"] = field(repr=False)
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


def load_model(name_or_path: str | Path, *, dtype: str | None = None) -> TrainedModel:
    """Load weights of the package, a release file, or a checkpoint of a run.

    Args:
        name_or_path: A key of `WEIGHTS`, a `.npz` that `save_pretrained` wrote, the `--workdir` of
            a run for its newest checkpoint, or one of its checkpoints: `RUN/checkpoints/STEP`.
        dtype: Precision of the factors of matrix products, "float32" or "bfloat16"; None for
            float32 on a CPU and that of the training elsewhere.

    Raises:
        ValueError: If there is no such model, it does not fit this version, or there is no such
            precision.

    Example:
        >>> model = miad_jax.load_model("mp20-small12")
        >>> model.config.infusion.enabled, int(model.histogram.argmax())
        (True, 4)
    """
    if dtype not in (None, *DTYPES):
        raise ValueError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    model = _load(WEIGHTS.get(str(name_or_path), Path(name_or_path)))
    if dtype is not None:
        model.config.network.dtype = dtype
    elif jax.default_backend() == "cpu":  # not every one has fast products of bfloat16
        model.config.network.dtype = "float32"
    return model


def _load(path: Path) -> TrainedModel:
    """What a file or a folder holds."""
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
    params = checkpoints.restore_average(shapes_of(config))
    return _model(path, config, params, meta, checkpoints.step())


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
        25
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
        ValueError: If there is no checkpoint, the file exists, its name is no `.npz`, a field is
            unknown or has an impossible value, or a parameter is not finite in `dtype`.

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
    params = checkpoints.restore_average(shapes_of(config))
    meta["config"] = config.to_dict()
    data = meta["config"]["data"]
    data["path"] = Path(data["path"]).name  # where it lay is nobody's business
    said = {"version": VERSION, "step": checkpoints.step(), **meta, "about": dict(about)}
    write_release(path, params, said, dtype)


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
    params, config, meta = read_release(path)
    return _model(path, config, params, meta, meta["step"])


def _model(
    path: Path, config: ConfigDict, params: Any, meta: Mapping[str, Any], step: int
) -> TrainedModel:
    """What was read, if it can be true."""
    for name, value in sorted(flatten_dict(params, sep="/").items()):
        if not np.isfinite(value).all():
            raise ValueError(
                f"the parameter {name} of {path} holds NaN or infinity: take an earlier "
                "checkpoint, or another file"
            )
    for what, is_possible in (
        ("step", isinstance(step, int) and step >= 0),
        ("data_fingerprint", isinstance(meta["data_fingerprint"], str)),
        ("init_from", _is_source(meta.get("init_from"))),
    ):
        if not is_possible:
            raise ValueError(f"{path} says that its {what} is {meta.get(what)!r}: it is damaged")
    histogram = _histogram(path, meta["histogram"])
    return TrainedModel(
        params=params,
        config=config,
        histogram=histogram,
        step=step,
        fingerprint=meta["data_fingerprint"],
        init_from=meta.get("init_from"),
    )


def _histogram(path: Path, counts: Any) -> Int[np.ndarray, " counts"]:
    """Number of training crystals with 0, 1, 2, … atoms, if it can be that."""
    try:
        histogram = np.asarray(counts)
    except ValueError:  # lists of several lengths
        histogram = np.array("lists")
    is_possible = (
        histogram.ndim == 1
        and 2 <= len(histogram) <= MAX_SLOTS + 1
        and histogram.dtype.kind in "iu"
        and histogram.min() >= 0
        and histogram[0] == 0
        and 0 < histogram.sum(dtype=float) < 2**53
    )
    if not is_possible:
        raise ValueError(
            f"the histogram of {path}, {str(counts)[:60]}, is none: allowed are the numbers of "
            f"training crystals with 0, 1, 2, … atoms, up to {MAX_SLOTS}, not all of them 0"
        )
    return histogram


def _is_source(said: Any) -> bool:
    """Whether this can be what a model started from."""
    return said is None or (
        isinstance(said, Mapping) and isinstance(said.get("name"), str) and "step" in said
    )
