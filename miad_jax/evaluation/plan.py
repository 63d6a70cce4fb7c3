"""What is asked of an evaluation, checked before anything is computed."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from miad_jax.evaluation.report.folder import NUM_RELAXED
from miad_jax.evaluation.stability.dft import DftEnergy, read_dft_energies
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.hull_files import read_hull
from miad_jax.evaluation.stability.potential import CHGNET
from miad_jax.evaluation.stability.potentials import check_installed, check_potential
from miad_jax.evaluation.stability.relax import settings_of

EXTRA = ("smact", "matminer", "chgnet")
"""Packages of the extra `eval`."""


@dataclass(frozen=True)
class Plan:
    """What is asked of an evaluation.

    Attributes:
        calculator: "chgnet", "nequix", "sevennet" or "module:factory"; "none" for no energies.
        weights: Name or file of the potential's weights; None for its own.
        hull: The hull; None for that of the reference's crystals.
        hull_file: What it was read from.
        elements_file: What the energies of its elements were read from.
        num_relaxed: So many of the first samples are relaxed; None for all.
        max_steps: Steps of a relaxation at most.
        seconds_per_crystal: A relaxation that takes longer is failed.
        coverage: Whether coverage of the test split is computed.
        nearest: Whether the nearest reference crystals are searched.
        dft: Energies of static DFT runs by the sample's id.
        dft_file: What they were read from.
        missing: Packages of the extra `eval` that are not installed.
    """

    calculator: str = CHGNET
    weights: str | os.PathLike[str] | None = None
    hull: Hull | None = None
    hull_file: str = "none: the reference's crystals"
    elements_file: str = "none"
    num_relaxed: int | None = None
    max_steps: int = 1500
    seconds_per_crystal: float = 600
    coverage: bool = True
    nearest: bool = False
    dft: Mapping[str, DftEnergy] = field(default_factory=dict)
    dft_file: str = "none"
    missing: tuple[str, ...] = ()

    @property
    def has_energies(self) -> bool:
        """Whether crystals are relaxed and measured against a hull."""
        return self.calculator != "none"

    @property
    def fits_elemental_energies(self) -> bool:
        """Whether the reference's formation energies are needed to compare with the hull's."""
        has_scale = self.hull is not None and (
            self.hull.scale == "total" or self.hull.elemental is not None
        )
        return self.has_energies and not has_scale

    @property
    def splits(self) -> tuple[str, ...] | None:
        """Splits of the reference that are needed; None for all that there are."""
        if self.fits_elemental_energies:
            return None
        return ("train", "test") if self.coverage else ("train",)

    def settings(self, samples: str) -> dict[str, Any]:
        """What the report says of this run.

        Args:
            samples: Where the samples are from.
        """
        said: dict[str, Any] = {
            "samples": samples,
            "coverage": self.coverage,
            "potential": self.calculator,
        }
        if self.has_energies:
            said |= {
                "weights": "the potential's own" if self.weights is None else str(self.weights),
                "hull file": self.hull_file,
                "elements file": self.elements_file,
                "DFT energies": self.dft_file,
                NUM_RELAXED: "all" if self.num_relaxed is None else self.num_relaxed,
                "steps of a relaxation at most": self.max_steps,
                "seconds of a relaxation at most": self.seconds_per_crystal,
            }
        versions = {}
        for name in ("miad_jax", "pymatgen", *EXTRA):
            with suppress(PackageNotFoundError):
                versions[name] = version(name)
        return said | {"versions": versions}


def make_plan(
    *,
    calculator: str,
    weights: str | os.PathLike[str] | None,
    hull: str | os.PathLike[str] | Hull | None,
    elements: str | os.PathLike[str] | None,
    num_relaxed: int | None,
    max_steps: int,
    seconds_per_crystal: float,
    coverage: bool,
    nearest: bool = False,
    dft_inputs: str | os.PathLike[str] | None,
    dft_energies: str | os.PathLike[str] | Mapping[str, DftEnergy] | None,
) -> Plan:
    """Check the arguments of `evaluate`; what needs a missing package is left out with a warning.

    Raises:
        ValueError: If an argument is wrong or arguments do not go together.
        FileNotFoundError: If a file is missing.
    """
    if num_relaxed is not None:
        _check_num_relaxed(num_relaxed, calculator)
    if calculator == "none":
        asked = {"weights": weights, "dft_inputs": dft_inputs, "dft_energies": dft_energies}
        if names := [name for name, value in asked.items() if value is not None]:
            raise ValueError(f"{names[0]} needs relaxed crystals: leave out calculator=none")
    else:
        settings_of(calculator, max_steps, seconds_per_crystal=seconds_per_crystal)
        check_potential(calculator, weights)
        if calculator != CHGNET:
            check_installed(calculator)
    if dft_energies is not None and hull is None:
        raise ValueError("dft_energies needs a hull: give --hull")
    if elements is not None and (hull is None or isinstance(hull, Hull)):
        raise ValueError("elements need a hull: give --hull, a table of formation energies")
    dft, dft_file = {}, "none"
    if isinstance(dft_energies, Mapping):
        dft, dft_file = dict(dft_energies), f"{len(dft_energies)} energies"
    elif dft_energies is not None:
        dft, dft_file = read_dft_energies(dft_energies), os.fspath(dft_energies)
    hull_file = Plan.hull_file
    if isinstance(hull, Hull):
        hull_file = hull.definition
    elif hull is not None:
        hull_file = os.fspath(hull)
        hull = read_hull(hull, elements)
    missing = missing_packages()
    unneeded = {*(() if calculator == CHGNET else (CHGNET,)), *(() if coverage else ("matminer",))}
    if lacking := [name for name in missing if name not in unneeded]:
        warnings.warn(
            f"{', '.join(lacking)} not installed, so what needs them is left out; to install: "
            'pip install "miad_jax[eval]"',
            stacklevel=3,
        )
    return Plan(
        calculator="none" if calculator == CHGNET and CHGNET in missing else calculator,
        weights=weights,
        hull=hull,
        hull_file=hull_file,
        elements_file="none" if elements is None else os.fspath(elements),
        num_relaxed=num_relaxed,
        max_steps=max_steps,
        seconds_per_crystal=seconds_per_crystal,
        coverage=coverage and not {"matminer", "smact"} & set(missing),
        nearest=nearest,
        dft=dft,
        dft_file=dft_file,
        missing=tuple(missing),
    )


def _check_num_relaxed(num_relaxed: int, calculator: str) -> None:
    """Refuse a number of relaxations that is none, or for which nothing is there that relaxes."""
    if num_relaxed < 1:
        raise ValueError(
            f"num_relaxed is {num_relaxed}; allowed: 1 or more; leave it out to relax all samples, "
            "and give calculator=none to relax none"
        )
    if calculator == "none":
        raise ValueError(
            f"num_relaxed is {num_relaxed}, but calculator=none relaxes nothing: leave one out"
        )
    if calculator == CHGNET and CHGNET in missing_packages():
        raise ValueError(
            f"num_relaxed is {num_relaxed}, but chgnet is not installed, so nothing would be "
            'relaxed: pip install "miad_jax[eval]", or leave out num_relaxed'
        )


def missing_packages() -> list[str]:
    """Packages of the extra `eval` that are not installed."""
    return [name for name in EXTRA if importlib.util.find_spec(name) is None]
