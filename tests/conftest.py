"""Two fake CPU devices for every test, caches of the session's own, and shared fixtures."""

import gc
import os
import signal
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Beside other workers, threads of linear algebra only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=2"
    # Tests compile much and run little: these make a third of the time. An XLA that knows one of
    # them no more ends and says so: take it out then.
    + " --xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
)

from collections.abc import Callable
from pathlib import Path
from typing import Any

# Compile each program once in a run of the tests: workers inherit the folder of the first process.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="miad_jax_xla_", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from ml_collections import ConfigDict

from miad_jax.config import default_config, validate
from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.diffusion import Diffusion, make_diffusion
from miad_jax.network import CSPNet, Network

# Property tests run the same examples every time: a failure can be reproduced, none is luck.
settings.register_profile("miad", deadline=None, derandomize=True, max_examples=10)
# pytest --hypothesis-profile=long: twenty times as many, other ones at every call.
settings.register_profile("long", deadline=None, derandomize=False, max_examples=200)
settings.load_profile("miad")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the user's cache out of the tests, and the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIAD_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps():
    """Let go of compiled programs before a process has all the memory maps that Linux gives it.

    Each program takes several of the 65,530, and XLA ends the process where it gets none.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def signals_that_tests_send():
    """Signals as in a terminal: a shell's background job and `nohup` ignore some, and so do we."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Load the numbers of `golden/NAME.npz`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as numbers:
            return dict(numbers)

    return load


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    if "MIAD_DATA" not in os.environ:
        pytest.skip("MIAD_DATA is not set: it names a folder with real data sets")
    return Path(os.environ["MIAD_DATA"])


@pytest.fixture(scope="session")
def random_crystals() -> Callable[..., Crystal]:
    """Make random crystals with the given numbers of atoms; padding holds random values too."""

    def make(counts: list[int], size: int, seed: int = 0, num_mirage: int = 0) -> Crystal:
        rng = np.random.default_rng(seed)
        batch = len(counts)
        atom_types = rng.integers(1, 100, (batch, size))
        atom_types[:, :num_mirage] = 0
        return Crystal(
            lattice=jnp.asarray(4 * np.eye(3) + rng.normal(size=(batch, 3, 3)), jnp.float32),
            frac_coords=jnp.asarray(rng.random((batch, size, 3)), jnp.float32),
            atom_types=jnp.asarray(atom_types, jnp.int32),
            mask=jnp.asarray(np.arange(size) < np.asarray(counts)[:, None]),
        )

    return make


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., ConfigDict]:
    """Make a configuration of 12 steps over 24 crystals of up to 4 atoms; fields are by path."""

    def make(**fields) -> ConfigDict:
        config = default_config()
        config.infusion.num_atoms = 5
        config.network.hidden_dim = 16
        config.network.num_layers = 1
        config.network.num_freqs = 4
        config.network.time_dim = 8
        config.diffusion.num_steps = config.sampling.steps = 50
        config.batch_size = 8
        config.num_epochs = 4
        config.log_every = 2
        config.validate_every = 4
        config.checkpoint_every = 4
        config.update_from_flattened_dict(fields)
        return validate(config)

    return make


@pytest.fixture(scope="session")
def full() -> Diffusion:
    """The published process of 1000 steps."""
    return make_diffusion()


@pytest.fixture(scope="session")
def short() -> Diffusion:
    """A process of 20 steps."""
    return make_diffusion(20)


@pytest.fixture(scope="session")
def plain_denoise() -> Callable[..., Prediction]:
    """A denoiser in closed form that depends on everything it is given, atom by atom."""

    def denoise(crystal, time):
        level = (time / 1000)[..., None, None]
        kinds = jax.nn.one_hot(crystal.atom_types, NUM_TYPES)
        return Prediction(
            lattice=0.3 * crystal.lattice - level,
            coords=jnp.sin(2 * jnp.pi * crystal.frac_coords) + level,
            types=3 * kinds + crystal.frac_coords.sum(-1, keepdims=True) * jnp.linspace(0, 1, 100),
        )

    return denoise


@pytest.fixture(scope="session")
def tiny_net() -> CSPNet:
    """A network that compiles in a second."""
    return CSPNet(hidden_dim=16, num_layers=2, num_freqs=4, time_dim=8)


@pytest.fixture(scope="session")
def drawn_params() -> Callable[..., Any]:
    """Draw a network's parameters by NumPy: compiling the real initialisation takes seconds."""

    def draw(net: Network) -> Any:
        rng = np.random.default_rng(7)
        shapes = jax.eval_shape(net.init_params, jax.random.key(0))
        params = jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0]), x.dtype), shapes
        )
        # A lattice that is not denoised grows in a reverse process: keep its prediction small.
        params["lattice_out"]["kernel"] *= 0.1
        return params

    return draw


@pytest.fixture(scope="session")
def tiny_params(tiny_net, drawn_params) -> dict:
    """Parameters of `tiny_net`."""
    return drawn_params(tiny_net)


@pytest.fixture(scope="session")
def tiny_denoise(tiny_net, tiny_params) -> jax.tree_util.Partial:
    """The tiny network as a denoiser."""
    return jax.tree_util.Partial(jax.jit(tiny_net.denoise), tiny_params)


@pytest.fixture(scope="session")
def same_coords() -> Callable[..., None]:
    """Assert that fractional coordinates agree modulo 1."""

    def check(actual, expected, atol: float) -> None:
        difference = np.asarray(actual, np.float64) - np.asarray(expected, np.float64)
        np.testing.assert_allclose(difference - np.round(difference), 0, atol=atol)

    return check
