"""The release file: a trained model as one `.npz` that says all of itself, without pickle.

    param.PATH    the averaged parameters, by their path in the network, usually in float16
    meta          text: JSON of format, configuration, data, training, licence, attribution
    sha256        text: the hash of all that; files of version 0.1 have none

Such a file may come from anywhere. What it says of itself is checked before its arrays are read,
and their sizes before they are unpacked.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from numpy.typing import DTypeLike

from miad_jax.build import network_from
from miad_jax.config import load_config
from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import SHA256, hashed_npz, read_npz

FORMAT = "miad_jax weights 1"
MAX_META_BYTES = 16_000_000
MAX_NUM_PARAMETERS = 2_000_000_000
"""8 GB in single precision; the largest network of `configs/` has 61.5 million."""

_PARAM, _META = "param.", "meta"
_HEADER_BYTES = 4096
"""An array in an npz is no longer than its numbers, at 8 bytes each at most, and this."""


def write_release(
    path: Path, params: Any, meta: Mapping[str, Any], dtype: DTypeLike = np.float16
) -> None:
    """Write a release file, whole or not at all.

    Args:
        path: Where.
        params: The parameters.
        meta: What the file says of itself beside its format.
        dtype: Of the parameters in the file.

    Raises:
        ValueError: If a parameter is not finite in that type.
    """
    arrays = {}
    for name, value in flatten_dict(params, sep="/").items():
        with np.errstate(over="ignore"):  # which is told in the next line
            arrays[_PARAM + name] = np.asarray(value).astype(dtype)
        if not np.isfinite(arrays[_PARAM + name]).all():
            raise ValueError(
                f"the parameter {name} is not finite in {np.dtype(dtype)}: give dtype=np.float32, "
                "or another checkpoint"
            )
    said = json.dumps({"format": FORMAT, **meta})
    write_atomically(path, hashed_npz({_META: np.array(said), **arrays}))


def read_release(path: Path) -> tuple[Any, ConfigDict, dict[str, Any]]:
    """Read a release file.

    Returns:
        The parameters in float32, the configuration, and what the file says of itself.

    Raises:
        ValueError: If it is no release file, is damaged, or does not fit this version.
    """
    try:
        sizes = _sizes(path)
        meta = _read_meta(path)
    except Exception as error:  # a damaged archive can raise all there is
        raise _no_release(path, error) from error
    config = load_config(meta["config"])
    names = {name.removeprefix(_PARAM) for name in sizes if name.startswith(_PARAM)}
    if config.network.num_layers > len(names):
        raise ValueError(
            f"{path} says that its network has {config.network.num_layers} layers, and holds "
            f"{len(names)} arrays: it is no release file"
        )
    shapes = flatten_dict(shapes_of(config), sep="/")
    if (num := sum(math.prod(x.shape) for x in shapes.values())) > MAX_NUM_PARAMETERS:
        raise ValueError(
            f"{path} is of a network of {num} parameters; allowed: {MAX_NUM_PARAMETERS}"
        )
    other = f"{path} holds parameters of another network than its configuration"
    if names != set(shapes):
        raise ValueError(f"{other}: {min(names ^ set(shapes))} is only in one of them")
    for name, shape in shapes.items():
        if sizes[_PARAM + name] > 8 * math.prod(shape.shape) + _HEADER_BYTES:
            raise ValueError(f"{other}: {name} unpacks to {sizes[_PARAM + name]} bytes")
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise _no_release(path, error) from error
    flat = {}
    for name, shape in shapes.items():
        array = arrays[_PARAM + name]
        if array.dtype.kind != "f" or array.shape != shape.shape:
            raise ValueError(
                f"{other}: {name} is {array.dtype} {list(array.shape)} and should be float "
                f"{list(shape.shape)}"
            )
        flat[name] = array.astype(np.float32)
    return unflatten_dict(flat, sep="/"), config, meta


def shapes_of(config: ConfigDict) -> Any:
    """The shapes of a network's parameters; nothing is computed."""
    return jax.eval_shape(network_from(config).init_params, jax.random.key(0))


def _sizes(path: Path) -> dict[str, int]:
    """The unpacked size of each array in bytes."""
    with zipfile.ZipFile(path) as archive:
        sizes = {x.filename.removesuffix(".npy"): x.file_size for x in archive.infolist()}
    strange = [name for name in sizes if not name.startswith(_PARAM)]
    if not {_META} <= set(strange) <= {_META, SHA256}:
        raise ValueError(f"it holds {', '.join(strange) or 'no meta'} beside its parameters")
    if (size := max(sizes[name] for name in strange)) > MAX_META_BYTES:
        raise ValueError(f"what it says of itself is {size} bytes long")
    return sizes


def _read_meta(path: Path) -> dict[str, Any]:
    """What the file says of itself; its arrays stay unread."""
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file[_META]))
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']!r}, not {FORMAT!r}")
    if missing := [x for x in ("config", "histogram", "step", "data_fingerprint") if x not in meta]:
        raise ValueError(f"it does not say its {', '.join(missing)}")
    return dict(meta)


def _no_release(path: Path, error: Exception) -> ValueError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{path} is no release file of weights: {said}")
