"""Relax one crystal with an interatomic potential: the script that worker processes run.

It imports nothing of miad_jax, so that torch and JAX are never in one process. A request is a
dict that says everything: the potential and the settings, and the crystal. The potential is
loaded with the first request and kept.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import BaseCalculator

CHGNET, SEVENNET = "chgnet", "sevennet"
CHGNET_MAX_ATOMIC_NUMBER = 94
SEVENNET_WEIGHTS = "7net-l3i5"

VOLUME_PER_ATOM_ANGSTROM3 = (1.0, 1000.0)
"""A cell outside of these bounds has collapsed or come apart, whatever its energy."""

PROBE = "probe_energies_ev_per_atom"
"""What tells a user's potential apart from another of the same name and version."""

Record = dict[str, Any]
"""What became of a crystal, in values that JSON knows: `status` and what it comes with."""


def describe_potential(request: Mapping[str, Any]) -> Record:
    """What a potential says of itself, or `refused` and why it cannot be used.

    Args:
        request: `calculator`, its name; `weights_file`, the name or the file of its weights, "" for
            its own; `path`, the folders in which modules are found; `log`, the file to which
            everything is printed; `parent`, the process id of the parent.

    Returns:
        `energies_are_corrected`; `version`, of its package; `weights`, their name; and
        `weights_sha256`, "" where their file is not known. Of a user's potential also
        `probe_energies_ev_per_atom`, see `_probe`.
    """
    try:
        _, facts = _potential(*_process(request))
    except ValueError as error:
        return {"refused": str(error)}
    return facts


def relax(request: Mapping[str, Any]) -> Record:
    """Relax cell and positions by FIRE with ASE's FrechetCellFilter.

    What the potential raises over a crystal is its failure. A lack of memory, and a potential
    that could not be loaded this time, end the worker: they say nothing of the crystal.

    Args:
        request: What `describe_potential` takes, and `max_steps`, `fmax_ev_per_angstrom`,
            `lattice`, `frac_coords` and `atomic_numbers`.

    Returns:
        `status`, `steps`, `energy_ev_per_atom`, `lattice` and `frac_coords`; or the status
        "failed" and the `reason`.
    """
    from ase import Atoms
    from ase.data import chemical_symbols

    heaviest = max(request["atomic_numbers"])
    if request["calculator"] == CHGNET and heaviest > CHGNET_MAX_ATOMIC_NUMBER:
        last = chemical_symbols[CHGNET_MAX_ATOMIC_NUMBER]
        reason = f"CHGNet does not know {chemical_symbols[heaviest]}: its elements end with {last}"
        return {"status": "failed", "reason": reason}
    calculator, _ = _potential(*_process(request))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = Atoms(
                numbers=request["atomic_numbers"],
                cell=request["lattice"],
                scaled_positions=request["frac_coords"],
                pbc=True,
                calculator=calculator,
            )
            return _relax(atoms, request["max_steps"], request["fmax_ev_per_angstrom"])
    except MemoryError:
        raise
    except Exception as error:  # potentials raise all there is
        if "out of memory" in str(error).lower() or "can't allocate" in str(error).lower():
            raise  # torch's own error
        return {"status": "failed", "reason": f"the potential failed: {_plain(error)}"}


def _relax(atoms: Atoms, max_steps: int, fmax_ev_per_angstrom: float) -> Record:
    """The record of a crystal whose calculator is set."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    if reason := volume_out_of_bounds(atoms.get_volume() / len(atoms)):
        return {"status": "failed", "reason": reason}
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    status = "not converged"
    for converged in optimizer.irun(fmax=fmax_ev_per_angstrom, steps=max_steps):
        status = "converged" if converged else "not converged"
        reason = _not_finite(atoms) or volume_out_of_bounds(atoms.get_volume() / len(atoms))
        if reason:
            reason = f"the relaxation diverges: at step {optimizer.nsteps} {reason}"
            return {"status": "failed", "reason": reason}
    return {
        "status": status,
        "steps": int(optimizer.nsteps),
        "energy_ev_per_atom": float(atoms.get_potential_energy()) / len(atoms),
        "lattice": atoms.cell.array.tolist(),
        "frac_coords": atoms.get_scaled_positions(wrap=False).tolist(),
    }


def _not_finite(atoms: Atoms) -> str:
    """Which of the potential's answers is not finite, or an empty string."""
    answers = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    wrong = [name for name, value in answers.items() if not np.isfinite(value).all()]
    return f"the potential's answer is not finite ({', '.join(wrong)})" if wrong else ""


def volume_out_of_bounds(angstrom3_per_atom: float) -> str:
    """Why a cell is no solid's, or an empty string."""
    volume = float(angstrom3_per_atom)
    low, high = VOLUME_PER_ATOM_ANGSTROM3
    if low <= volume <= high:
        return ""
    return f"the cell has {volume:.3g} Å³ an atom; allowed are {low:g} to {high:g}"


def _plain(error: BaseException) -> str:
    """An exception in one line, without what a terminal acts upon."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(x for x in text if x.isprintable())


def _process(request: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...], str, int]:
    """What of a request is the same for all that a process gets."""
    name, weights_file = request["calculator"], request["weights_file"]
    return name, weights_file, tuple(request["path"]), request["log"], request["parent"]


@functools.cache
def _potential(
    name: str, weights_file: str, path: tuple[str, ...], log: str, parent: int
) -> tuple[BaseCalculator, dict[str, Any]]:
    """Load a potential, once in a process.

    A local worker ends with its parent and prints to a file. A process that was not started for
    this work alone, such as that of a notebook, stays as it is.
    """
    if os.getppid() == parent:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
        printed = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.path[:] = path  # what the parent finds, the worker finds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _load(name, weights_file)


def _follow(parent: int) -> None:
    """End the process when its parent is gone, also within a relaxation that hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _load(name: str, weights_file: str) -> tuple[BaseCalculator, dict[str, Any]]:
    """Load "chgnet" or "sevennet", or call the factory of "module:factory".

    Returns:
        The ASE calculator, and what it says of itself; see `describe_potential`.

    Raises:
        ValueError: If it cannot be loaded, or does not declare what its energies are.
    """
    if name == CHGNET:
        return _load_chgnet()
    if name == SEVENNET:
        return _load_sevennet(weights_file)
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module raises all there is
        raise ValueError(
            f"the module {module_name!r} of the calculator {name!r} cannot be imported "
            f"({_plain(error)}): install it, or add its folder to PYTHONPATH"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        near = difflib.get_close_matches(factory_name, dir(module), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"the module {module_name!r} has no function {factory_name!r}{hint}: name one that "
            "takes no argument and returns an ASE calculator"
        )
    corrected = getattr(factory, "energies_are_corrected", None)
    if corrected is None:
        corrected = getattr(module, "energies_are_corrected", None)
    weights = getattr(factory, "weights", None) or getattr(module, "weights", None)
    if not isinstance(corrected, bool):
        raise ValueError(
            f"the calculator {name!r} does not say what its energies are: add the line "
            f"`energies_are_corrected = True` to {module_name} if they carry the Materials "
            "Project's 2020 corrections (as CHGNet's do), or `= False` if they are plain "
            "GGA/GGA+U energies (as eqV2's are)"
        )
    try:
        calculator = factory()
    except Exception as error:  # a user's factory raises all there is
        raise ValueError(f"the calculator {name!r} cannot be made ({_plain(error)})") from error
    if isinstance(calculator, type) or not hasattr(calculator, "get_forces"):
        raise ValueError(f"{name!r} returned {calculator!r}: it must return an ASE calculator")
    version = getattr(module, "__version__", "")
    if not version and module.__file__:
        version = hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:16]
    try:
        facts = _facts(corrected, str(version), weights and Path(weights))
        return calculator, facts | {PROBE: _probe(calculator)}
    except OSError as error:
        raise ValueError(
            f"the weights that {module_name} names cannot be read ({error}): `weights` is the path "
            "of their file"
        ) from error


_PROBED_ELEMENTS = ("C", "Si", "Ge", "Al", "Fe", "Ni", "Ti", "W", "Li", "Pt", "Ar")


def _probe(calculator: BaseCalculator) -> list[float | None]:
    """Energies of a few crystals in eV/atom, to four digits; None where there is none.

    They tell potentials apart that say the same of themselves: a wrapper does not change when the
    weights that it loads do, nor when the package behind it does.
    """
    from ase.build import bulk

    energies: list[float | None] = []
    crystals = [bulk("NaCl", "rocksalt", a=5.64), bulk("MgO", "rocksalt", a=4.21), bulk("Cu")]
    for number, atoms in enumerate([*crystals, *map(bulk, _PROBED_ELEMENTS)]):
        if number >= len(crystals) and any(energy is not None for energy in energies):
            break  # the others are for potentials of few elements
        atoms.calc = calculator
        try:
            energy = float(atoms.get_potential_energy()) / len(atoms)
        except MemoryError:
            raise
        except Exception:  # potentials raise all there is, over elements that they do not know
            energy = math.nan
        energies.append(round(energy, 4) if math.isfinite(energy) else None)
    return energies


def _facts(
    corrected: bool, version: str, weights: Path | None, weights_name: str = ""
) -> dict[str, Any]:
    """What `describe_potential` returns."""
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else ""
    name = weights_name or (weights.name if weights else "")
    return {
        "energies_are_corrected": corrected,
        "version": version,
        "weights": name,
        "weights_sha256": sha256,
    }


def _load_chgnet() -> tuple[BaseCalculator, dict[str, Any]]:
    """CHGNet with the weights that come with it, on the CPU."""
    try:
        from chgnet.model.dynamics import CHGNetCalculator
    except ImportError as error:
        raise ValueError(
            f"the potential {CHGNET!r} cannot be imported ({_plain(error)}): "
            'pip install "miad_jax[eval]"'
        ) from error
    calculator = CHGNetCalculator(use_device="cpu")
    import chgnet

    version = str(calculator.version)
    (weights,) = (Path(chgnet.__file__).parent / "pretrained" / version).glob("*.pth.tar")
    package = f"chgnet {importlib.metadata.version('chgnet')}"
    return calculator, _facts(True, package, weights, version)


def _load_sevennet(weights_file: str) -> tuple[BaseCalculator, dict[str, Any]]:
    """SevenNet on the CPU, with weights that come with it, or with those of a file.

    Its energies are those of the Materials Project's GGA and GGA+U without corrections.
    """
    try:
        from sevenn.calculator import SevenNetCalculator
        from sevenn.util import pretrained_name_to_path
    except ImportError as error:
        raise ValueError(
            f"the potential {SEVENNET!r} cannot be imported ({_plain(error)}): "
            'pip install "miad_jax[sevennet]"'
        ) from error
    path, name = Path(weights_file), ""
    if not path.is_file():
        name = weights_file or SEVENNET_WEIGHTS
        path = Path(pretrained_name_to_path(name))
    try:
        calculator = SevenNetCalculator(str(path), device="cpu")
    except Exception as error:  # readers of foreign files raise all there is
        raise ValueError(
            f"{path} holds no weights of SevenNet for one kind of energies ({_plain(error)})"
        ) from error
    package = f"sevenn {importlib.metadata.version('sevenn')}"
    return calculator, _facts(False, package, path, name)
