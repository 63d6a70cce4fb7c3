"""The scales on which energies can be compared: elemental energies, and corrections.

Total energies become formation energies by the elements' entries, or by elemental energies that are
fitted to a data set; uncorrected total energies become the Materials Project's by its 2020
corrections.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.evaluation.stability.hull import check_lengths, symbols_of
from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_json, read_json

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure


@dataclass(frozen=True)
class ElementalEnergies:
    """Energies of the elements that turn total energies to formation energies.

    Attributes:
        energies_ev: Energy of one atom by symbol.
        num_crystals: How many crystals were fitted; 0 for energies of the elements' entries.
        mae_ev_per_atom: Mean absolute error of the fit.
        rmse_ev_per_atom: Root of its mean square error.
    """

    energies_ev: Mapping[str, float]
    num_crystals: int = 0
    mae_ev_per_atom: float = 0.0
    rmse_ev_per_atom: float = 0.0

    def formation_energy_ev_per_atom(
        self, composition: Composition, total_energy_ev_per_atom: float
    ) -> float | str:
        """The total energy less the elements', in eV/atom, or the reason why there is none."""
        if unknown := sorted(symbols_of(composition) - set(self.energies_ev)):
            return f"the elemental energies lack {', '.join(unknown)}"
        shares = composition.element_composition.fractional_composition
        elemental = sum(self.energies_ev[e.symbol] * share for e, share in shares.items())
        return float(total_energy_ev_per_atom - elemental)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as JSON, whole or not at all."""
        write_atomically(Path(path), hashed_json(asdict(self)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ElementalEnergies:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is none.
        """
        try:
            found = cls(**read_json(Path(path)))
            if not all(map(math.isfinite, found.energies_ev.values())):
                raise ValueError("an energy is not finite")
            return found
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(path)} holds no elemental energies ({error}): delete it and fit again"
            ) from error


def choose_for_fit(compositions: Sequence[Composition], num_per_element: int = 30) -> list[int]:
    """Indices of the first crystals that together show each element so many times, if they can.

    They are enough to fit elemental energies without an energy of every crystal of a dataset.
    """
    seen: dict[str, int] = {}
    chosen = []
    for i, composition in enumerate(compositions):
        symbols = symbols_of(composition)
        if any(seen.get(symbol, 0) < num_per_element for symbol in symbols):
            chosen.append(i)
            seen |= {symbol: seen.get(symbol, 0) + 1 for symbol in symbols}
    return chosen


def fit_elemental_energies(
    compositions: Sequence[Composition],
    total_energies_ev_per_atom: Sequence[float],
    formation_energies_ev_per_atom: Sequence[float],
) -> ElementalEnergies:
    """Fit Σ x_e E_e = total − formation energy by least squares, x_e an element's share of atoms.

    An element whose energy the crystals leave open is left out, such as two elements that are
    only met together in one ratio.

    Raises:
        ValueError: If the lengths differ, there is no crystal, or an energy is not finite.
    """
    total = np.asarray(total_energies_ev_per_atom, np.float64)
    formation = np.asarray(formation_energies_ev_per_atom, np.float64)
    check_lengths(compositions=compositions, total=total, formation=formation)
    if not len(total) or not np.isfinite(total - formation).all():
        raise ValueError(
            f"elemental energies need finite energies of at least one crystal, got {len(total)} "
            f"crystals, {int((~np.isfinite(total - formation)).sum())} of them without: leave out "
            "those that have none"
        )
    symbols = sorted(set().union(*map(symbols_of, compositions)))
    shares = np.array(
        [[c.element_composition.get_atomic_fraction(s) for s in symbols] for c in compositions]
    )
    inverse = np.linalg.pinv(shares, rcond=1e-10)
    energies = inverse @ (total - formation)
    is_settled = np.isclose(np.diag(inverse @ shares), 1)
    error = shares @ energies - (total - formation)
    return ElementalEnergies(
        energies_ev={s: float(energies[i]) for i, s in enumerate(symbols) if is_settled[i]},
        num_crystals=len(total),
        mae_ev_per_atom=float(np.abs(error).mean()),
        rmse_ev_per_atom=float(np.sqrt((error**2).mean())),
    )


ANIONS = ("Br", "I", "Se", "Si", "Sb", "Te", "H", "N", "F", "Cl")
"""Elements that are corrected where they are anions; O and S are by how they are bound."""

_NOT_CORRECTED = "the energy cannot be corrected as the Materials Project's"


def corrected_energy_per_atom(
    structure: Structure,
    energy_ev_per_atom: float,
    *,
    hubbards: Mapping[str, float] | None = None,
    potcar_symbols: Sequence[str] | None = None,
) -> float | str:
    """A GGA or GGA+U total energy with the Materials Project's 2020 corrections.

    The corrections depend on the anions, on how oxygen is bound, and on which elements carry a
    Hubbard U (Wang et al., Sci. Rep. 11, 15496, 2021). How oxygen is bound is decided as the
    Materials Project's entries have it: a peroxide's bonds are up to 1.1 times 1.49 Å long, where
    pymatgen's correction by itself takes 1.05. Where pymatgen finds no oxidation states it corrects
    the most electronegative element alone, as the Materials Project does; `guessed_anions` says
    where that is a guess.

    Args:
        structure: What the energy is of.
        energy_ev_per_atom: The uncorrected total energy.
        hubbards: The U in eV of each element that had one; the Materials Project's when None.
        potcar_symbols: Names of the pseudopotentials, which are then checked.

    Returns:
        The corrected energy in eV/atom, or the reason why the energy cannot be corrected.
    """
    from pymatgen.analysis.structure_analyzer import oxide_type
    from pymatgen.entries.compatibility import (
        CompatibilityError,
        MaterialsProject2020Compatibility,
    )
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = MaterialsProject2020Compatibility(check_potcar=potcar_symbols is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity, oxidation states
        states = _oxidation_states(structure.composition)
        if len(structure.composition) > 1 and (unknown := _without_x(structure.composition)):
            names = ", ".join(unknown)
            return f"{_NOT_CORRECTED}: {names} has no electronegativity, which tells the anions"
        if hubbards is None:
            expected = scheme.u_settings.get(_most_electronegative(structure.composition), {})
            symbols = symbols_of(structure.composition)
            hubbards = {symbol: u for symbol, u in expected.items() if symbol in symbols}
        parameters: dict[str, Any] = {
            "run_type": "GGA+U" if any(hubbards.values()) else "GGA",
            "hubbards": dict(hubbards),
        }
        if potcar_symbols is not None:
            parameters["potcar_symbols"] = [f"PAW_PBE {name}" for name in potcar_symbols]
        try:
            entry = ComputedStructureEntry(
                structure,
                energy_ev_per_atom * len(structure),
                parameters=parameters,
                data={"oxide_type": oxide_type(structure), "oxidation_states": states},
            )
            scheme.process_entry(entry, on_error="raise")
        except (CompatibilityError, LookupError, ValueError) as error:
            reason = str(error).split(" for {")[0]
            return f"{_NOT_CORRECTED}: {reason}"
    return float(entry.energy_per_atom)


def _oxidation_states(composition: Composition) -> dict[str, float]:
    """The likeliest oxidation states of the elements, as pymatgen's correction guesses them."""
    try:
        guesses = composition.oxi_state_guesses(max_sites=-20)
    except ValueError:  # too many atoms
        guesses = ()
    return dict(guesses[0]) if guesses else {}


def _most_electronegative(composition: Composition) -> str:
    """Symbol of the most electronegative element."""
    return sorted(composition.elements, key=lambda element: element.X)[-1].symbol


def _without_x(composition: Composition) -> list[str]:
    """Symbols of elements without an electronegativity."""
    return sorted(element.symbol for element in composition if np.isnan(element.X))


def guessed_anions(composition: Composition) -> str:
    """What of the 2020 corrections of a composition is a guess, in words, or an empty string.

    Without oxidation states it is not known whether an element is an anion that is not the most
    electronegative one: it then gets no correction.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(composition) == 1 or _without_x(composition) or _oxidation_states(composition):
            return ""
        others = symbols_of(composition) & set(ANIONS) - {_most_electronegative(composition)}
    if not others:
        return ""
    return (
        "a guess, as the Materials Project's: no oxidation states are found, and "
        f"{', '.join(sorted(others))} got no correction as an anion"
    )
