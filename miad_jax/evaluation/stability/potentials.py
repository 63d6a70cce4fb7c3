"""Interatomic potentials by name, and what can be said of them before one is loaded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miad_jax.evaluation.stability.nequix import (
    INSTALL,
    NEQUIX,
    WEIGHTS,
    find_weights,
    load_nequix,
)
from miad_jax.evaluation.stability.potential import CHGNET, SEVENNET
from miad_jax.parallel.progress import Progress
from miad_jax.spelling import did_you_mean

PACKAGES = {
    CHGNET: ("chgnet", 'pip install "miad_jax[eval]"'),
    NEQUIX: ("nequix", INSTALL),
    SEVENNET: ("sevenn", 'pip install "miad_jax[sevennet]"'),
}
"""The module of each potential that has a name, and how it is installed."""

DEPENDS_ON = {CHGNET: ("chgnet", "torch"), NEQUIX: ("nequix", "jax"), SEVENNET: ("sevenn", "torch")}
"""Packages on whose versions the results of a potential depend."""

NAMED_WEIGHTS = {NEQUIX: tuple(WEIGHTS), SEVENNET: ("7net-l3i5", "7net-0")}
"""Weights that have a name; the first are the default."""

MEASURED_ERRORS_EV_PER_ATOM = {
    "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1": 0.065,  # CHGNet 0.3.0
    WEIGHTS["nequix-oam-1"].sha256: 0.028,
    WEIGHTS["nequix-mp-1"].sha256: 0.042,
    "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d": 0.039,  # 7net-l3i5
}
"""Mean absolute error by the hash of a potential's weights, with the corrections of the Materials
Project's 2020 scheme, of 109 crystals that WyFormer's authors relaxed by DFT (arXiv:2503.02407).
From `experiments/evaluation/agreement.py`."""

_IS_A_FACTORY = "'module:factory', a function that takes no argument and returns an ASE calculator"


def check_potential(calculator: str, weights: str | os.PathLike[str] | None = None) -> None:
    """Refuse a potential that no name stands for, and weights that it does not take.

    Args:
        calculator: A name of `PACKAGES`, or "module:factory".
        weights: A name of `NAMED_WEIGHTS`, or a file; None for the potential's own.

    Raises:
        ValueError: If the name is unknown, or the potential takes no weights, or none of that name.
        FileNotFoundError: If there is no such file of weights.
    """
    module, colon, factory = calculator.partition(":")
    if calculator not in PACKAGES and not (module and colon and factory):
        raise ValueError(
            f"the calculator is {calculator!r}{did_you_mean(calculator, PACKAGES)}; allowed: "
            f"{', '.join(map(repr, PACKAGES))}, or {_IS_A_FACTORY}"
        )
    if weights is None:
        return
    if calculator not in NAMED_WEIGHTS:
        raise ValueError(
            f"weights are given, but {calculator!r} brings its own: leave them out, or choose "
            f"{' or '.join(NAMED_WEIGHTS)}"
        )
    names, given = NAMED_WEIGHTS[calculator], os.fspath(weights)
    if given in names or Path(given).is_file():
        return
    if os.sep in given or Path(given).suffix:
        raise FileNotFoundError(f"{given} does not exist: name a file of weights of {calculator}")
    raise ValueError(
        f"no weights of {calculator} are called {given!r}{did_you_mean(given, names)}; allowed: "
        f"{', '.join(names)}, or a file"
    )


def prepare_potential(
    calculator: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | bool = False,
) -> None:
    """Refuse what cannot be used, and fetch weights that are missing, before anything long runs.

    Args:
        calculator: As of `check_potential`.
        weights: As of `check_potential`.
        progress: Where to show how weights are fetched.

    Raises:
        ValueError: As of `check_potential` and `check_installed`, or if a file holds no weights.
        FileNotFoundError: If there is no such file of weights.
        ConnectionError: If weights could not be fetched.
    """
    check_potential(calculator, weights)
    check_installed(calculator)
    if calculator == NEQUIX:
        load_nequix(find_weights(weights, progress))


def error_sentence(calculator: str, facts: Mapping[str, Any]) -> str:
    """How far a potential's energies are from those of DFT, as far as it was measured.

    Args:
        calculator: The potential.
        facts: What it says of itself.
    """
    error = MEASURED_ERRORS_EV_PER_ATOM.get(str(facts.get("weights_sha256")))
    if error is None:
        return f"How far the energies of {calculator} are from DFT was not measured."
    return (
        f"The energies of {calculator} are off by {error:g} eV/atom on average, on 109 new "
        "crystals that DFT relaxed."
    )


def check_installed(calculator: str) -> None:
    """Refuse a potential whose package is missing.

    Raises:
        ValueError: If it cannot be found; how to install it is said.
    """
    module, how = PACKAGES.get(
        calculator,
        (calculator.partition(":")[0], "install it, or add its folder to PYTHONPATH"),
    )
    try:
        is_there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        raise ValueError(f"the package of the potential {calculator!r} is missing: {how}")
