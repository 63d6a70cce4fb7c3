"""Release files from elsewhere: what cannot be true is refused in a sentence, before it costs."""

import io
import json
import time
import zipfile

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import miad_jax
from miad_jax.model import load_model
from miad_jax.release import read_release, shapes_of, write_release


@pytest.fixture(scope="module")
def parts(tiny_config, drawn_params):
    """Parameters and what a file says of them."""
    from miad_jax.build import network_from

    config = tiny_config()
    meta = {
        "version": "0.1.0",
        "config": config.to_dict(),
        "histogram": [0, 3, 4],
        "step": 12,
        "data_fingerprint": "abc",
    }
    return jax.tree.map(np.asarray, drawn_params(network_from(config))), meta


@pytest.fixture
def harmed(parts, tmp_path):
    """Write a release file of which something is changed; the file has no hash, as those of 0.1."""
    params, meta = parts

    def write(of_meta=None, arrays=None, config=None):
        said = json.loads(json.dumps({"format": "miad_jax weights 1", **meta, **(of_meta or {})}))
        for name, value in (config or {}).items():
            place = said["config"]
            *path, last = name.split(".")
            for part in path:
                place = place[part]
            place[last] = value
        flat = {f"param.{k}": v for k, v in flatten_dict(params, sep="/").items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, meta=np.array(json.dumps(said)), **(flat | (arrays or {})))
        path = tmp_path / "harmed.npz"
        path.write_bytes(buffer.getvalue())
        return path

    return write


NAME = "param.types_out/bias"


def test_a_file_with_and_without_a_hash_is_read(parts, harmed, tmp_path):
    params, meta = parts
    write_release(tmp_path / "new.npz", params, meta, np.float32)
    for path in (tmp_path / "new.npz", harmed()):
        model = load_model(path)
        jax.tree.map(np.testing.assert_array_equal, model.params, params)
        assert model.histogram.tolist() == [0, 3, 4]
    with zipfile.ZipFile(tmp_path / "new.npz") as file:
        assert "sha256.npy" in file.namelist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(harmed, parts, value):
    bad = np.asarray(parts[0]["types_out"]["bias"]).copy()
    bad[3] = value
    with pytest.raises(ValueError, match=r"types_out/bias of .*harmed.npz holds NaN or infinity"):
        load_model(harmed(arrays={NAME: bad}))


@pytest.mark.parametrize(
    "histogram",
    [
        *([], [0], [0, 0], [1, 2], [0, -3, 9], [0, 1.5], [0, "3"], "many", None, {"1": 3}, 7),
        *([[0, 1], [2]], [[0, 3]], [0, 2**63], [0, 1e400], [0, None], [0] * 20_000 + [1]),
    ],
)
def test_a_histogram_that_is_none_is_refused(harmed, histogram):
    with pytest.raises(ValueError, match=r"histogram of .*harmed.npz.* is none: allowed"):
        load_model(harmed({"histogram": histogram}))


@pytest.mark.parametrize(
    ("of_meta", "said"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": "many"}, "step is 'many'"),
        ({"step": None}, "step is None"),
        ({"data_fingerprint": 7}, "data_fingerprint is 7"),
        ({"init_from": "a run"}, "init_from is 'a run'"),
        ({"init_from": {}}, r"init_from is \{\}"),
        ({"format": "other"}, "its format is 'other'"),
        ({"config": 7}, "configuration"),
        ({"config": None}, "configuration"),
        ({"config": {"network": {"nmae": 1}}}, "nmae"),
    ],
)
def test_what_cannot_be_true_is_refused(harmed, of_meta, said):
    with pytest.raises(ValueError, match=said):
        load_model(harmed(of_meta))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("network.num_layers", n) for n in (10**6, 999, 0, -1, 10**30, 1.5, "2", None, [3])),
        *(("network.hidden_dim", n) for n in (10**9, 60_000, 2**70)),
        *(("network.num_freqs", n) for n in (10**9, 9_000)),
        ("network.time_dim", 10**9),
        ("infusion.num_atoms", 10**7),
        ("diffusion.num_steps", 10**9),
        ("optimizer.learning_rate", float("inf")),
        ("sampling.type_temperature", float("nan")),
        ("network.name", "../x"),
        ("network.dtype", "object"),
        ("sampling.cell_bounds_angstrom", ["a", "b"]),
        ("sampling.visit", [["a"]]),
        ("data.properties", [1]),
        ("network", 3),
    ],
)
def test_sizes_and_fields_that_are_impossible_are_refused_at_once(harmed, field, value):
    path, began = harmed(config={field: value}), time.monotonic()
    with pytest.raises(ValueError, match=r"."):
        load_model(path)
    assert time.monotonic() - began < 5


def test_other_arrays_are_refused_before_they_are_unpacked(harmed, parts):
    with pytest.raises(ValueError, match=r"param.*another network.*types_out/bias unpacks to"):
        load_model(harmed(arrays={NAME: np.zeros(10**7, np.float32)}))
    shape = np.shape(parts[0]["types_out"]["bias"])
    for bad in (np.zeros(shape, complex), np.zeros(shape, "U5"), np.zeros(shape[0] - 1)):
        with pytest.raises(ValueError, match=r"another network.*types_out/bias is"):
            load_model(harmed(arrays={NAME: bad}))
    with pytest.raises(ValueError, match=r"another network.*: more/kernel is only in one"):
        load_model(harmed(arrays={"param.more/kernel": np.zeros(3)}))
    with pytest.raises(ValueError, match="it holds meta, huge beside its parameters"):
        load_model(harmed(arrays={"huge": np.zeros(10**7)}))
    with pytest.raises(ValueError, match="what it says of itself is 80000128 bytes"):
        load_model(harmed(arrays={"sha256": np.zeros(10**7)}))


def test_a_pickle_in_it_is_not_read(harmed):
    with pytest.raises(ValueError, match=r"no release file.*allow_pickle"):
        load_model(harmed(arrays={NAME: np.array([print], object)}))


def test_parameters_too_large_for_half_precision_are_not_written(parts, tmp_path):
    params, meta = parts
    large = jax.tree.map(lambda x: x * 1e6, params)
    with pytest.raises(ValueError, match=r"is not finite in float16: give dtype=np.float32"):
        write_release(tmp_path / "half.npz", large, meta)
    assert not (tmp_path / "half.npz").exists()
    write_release(tmp_path / "single.npz", large, meta, np.float32)
    read, config, _ = read_release(tmp_path / "single.npz")
    jax.tree.map(np.testing.assert_array_equal, read, large)
    assert jax.tree.map(np.shape, read) == jax.tree.map(lambda x: x.shape, shapes_of(config))


def test_the_package_says_its_version():
    assert miad_jax.__version__.count(".") == 2
