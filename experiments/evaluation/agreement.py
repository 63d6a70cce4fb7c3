"""Does the judging agree with numbers that others published of crystals that others made?

    python -m experiments.evaluation.agreement --crystals=DIR --hull=HULL.json.gz --out=OUT \
        [--potentials=chgnet,nequix] [--weights=nequix-oam-1]

DIR holds what the authors of WyFormer (arXiv:2503.02407) published, as CSV, gzipped or not, with a
column `cif`: `as_generated` (smact_validity, structural_validity), `relaxed_by_chgnet` (the same,
chgnet_energy_per_atom, chgnet_e_above_hull_corrected), `relaxed_by_dft` and `relaxed_by_dft_2`
(dft_e_uncorrected and dft_e_corrected in eV a cell, dft_e_above_hull_corrected in eV/atom). HULL
holds total energies. Energies are single points of CHGNet; they are kept in OUT. The error of each
of `--potentials` is that of its single points of `relaxed_by_dft` and `_2` from what is published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from miad_jax.evaluation.stability.corrections import corrected_energy_per_atom
from miad_jax.evaluation.stability.energies import total_energy_ev_per_atom
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.hull_files import hull_from_entries
from miad_jax.evaluation.stability.relax import relax
from miad_jax.evaluation.validity.composition import valid_composition
from miad_jax.evaluation.validity.structure import is_valid_structure, min_distance
from miad_jax.storage.files import write_atomically

VERDICTS_EV_PER_ATOM = (0.0, 0.1)
"""The bounds of stable and metastable."""

CLOSE_EV_PER_ATOM = 1e-3
"""Energies that are farther apart are listed."""


@dataclass(frozen=True)
class Published:
    """A published crystal, and what its row says of it."""

    id: str
    structure: Structure
    row: dict[str, str]


def main() -> None:
    """Compare everything that DIR holds; print it and write it to OUT."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("crystals", "hull", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--potentials", default="chgnet", help="measured against DFT")
    parser.add_argument("--weights", help="name or file of NequIX's weights")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    hull = hull_from_entries(options.hull)
    found = {}
    for name in ("as_generated", "relaxed_by_chgnet"):
        found[f"validity of {name}"] = validity(read(options.crystals, name))
    relaxed = read(options.crystals, "relaxed_by_chgnet")
    found["CHGNet"] = chgnet(relaxed, hull, options.out / "chgnet")
    by_dft = [read(options.crystals, name) for name in ("relaxed_by_dft", "relaxed_by_dft_2")]
    for name, crystals in zip(("relaxed_by_dft", "relaxed_by_dft_2"), by_dft, strict=True):
        found[f"DFT of {name}"] = dft(crystals, hull)
    for name in options.potentials.split(","):
        weights = options.weights if name == "nequix" else None
        found[f"{name} against DFT"] = against_dft(
            [*by_dft[0], *by_dft[1]], hull, options.out / f"{name}_dft", name, weights
        )
    for name, numbers in found.items():
        print(f"\n{name}")
        for line, value in numbers.items():
            print(f"  {line}: {value}")
    write_atomically(options.out / "agreement.json", json.dumps(found, indent=1) + "\n")


def read(folder: Path, name: str) -> list[Published]:
    """The crystals of a table."""
    path = next(p for p in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if p.exists())
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = list(csv.DictReader(file))
    return [Published(r["material_id"], Structure.from_str(r["cif"], fmt="cif"), r) for r in rows]


def validity(crystals: Sequence[Published]) -> dict[str, object]:
    """How many verdicts on structure and composition are the published ones, and which are not."""
    compared: dict[str, object] = {}
    for column, judge in (
        ("structural_validity", structure_is_valid),
        ("smact_validity", composition_is_valid),
    ):
        verdicts = [(judge(c.structure), c.row[column].lower() == "true", c) for c in crystals]
        others = [
            f"{c.id} {c.structure.composition.reduced_formula}: ours {ours}, published {theirs}"
            for ours, theirs, c in verdicts
            if ours != theirs
        ]
        compared[column] = f"{len(verdicts) - len(others)} of {len(verdicts)} agree"
        compared[f"{column}, others"] = others
    return compared


def structure_is_valid(structure: Structure) -> bool:
    """The field's validity of a structure."""
    distance = min_distance(structure.lattice.matrix, structure.frac_coords)
    return bool(is_valid_structure(distance, structure.volume))


def composition_is_valid(structure: Structure) -> bool:
    """The field's validity of a composition."""
    return bool(valid_composition(np.array([site.specie.Z for site in structure])))


def chgnet(crystals: Sequence[Published], hull: Hull, folder: Path) -> dict[str, object]:
    """Single-point energies of CHGNet, and their distance to the hull."""
    relaxations = relax(
        [c.structure for c in crystals],
        folder,
        ids=[c.id for c in crystals],
        max_steps=0,
        progress=True,
    )
    totals = [total_energy_ev_per_atom(r) for r in relaxations]
    published = [float(c.row["chgnet_energy_per_atom"] or "nan") for c in crystals]
    above = [
        total
        if isinstance(total, str)
        else hull.e_above_hull_ev_per_atom(c.structure.composition, total)
        for c, total in zip(crystals, totals, strict=True)
    ]
    theirs = [float(c.row["chgnet_e_above_hull_corrected"] or "nan") for c in crystals]
    return {
        "energy, eV/atom": compared(crystals, totals, published),
        "energy above the hull, eV/atom": compared(crystals, above, theirs),
        **verdicts(above, theirs),
    }


def against_dft(
    crystals: Sequence[Published], hull: Hull, folder: Path, potential: str, weights: str | None
) -> dict[str, object]:
    """Single-point energies of a potential on crystals that DFT relaxed, with the corrections."""
    relaxations = relax(
        [c.structure for c in crystals],
        folder,
        ids=[c.id for c in crystals],
        calculator=potential,
        weights=weights,
        max_steps=0,
        progress=True,
    )
    totals = [total_energy_ev_per_atom(r) for r in relaxations]
    above = [
        total
        if isinstance(total, str)
        else hull.e_above_hull_ev_per_atom(c.structure.composition, total)
        for c, total in zip(crystals, totals, strict=True)
    ]
    published = [float(c.row["dft_e_corrected"]) / len(c.structure) for c in crystals]
    theirs = [float(c.row["dft_e_above_hull_corrected"]) for c in crystals]
    return {
        "corrected energy, eV/atom": compared(crystals, totals, published),
        "energy above the hull, eV/atom": compared(crystals, above, theirs),
        **verdicts(above, theirs),
    }


def dft(crystals: Sequence[Published], hull: Hull) -> dict[str, object]:
    """Published DFT energies read back: corrected by us, and measured against our hull."""
    corrected: list[float | str] = []
    above: list[float | str] = []
    for c in crystals:
        uncorrected = float(c.row["dft_e_uncorrected"]) / len(c.structure)
        total = corrected_energy_per_atom(c.structure, uncorrected)
        corrected.append(total)
        above.append(
            total
            if isinstance(total, str)
            else hull.e_above_hull_ev_per_atom(c.structure.composition, total)
        )
    published = [float(c.row["dft_e_corrected"]) / len(c.structure) for c in crystals]
    theirs = [float(c.row["dft_e_above_hull_corrected"]) for c in crystals]
    return {
        "corrected energy, eV/atom": compared(crystals, corrected, published),
        "energy above the hull, eV/atom": compared(crystals, above, theirs),
        **verdicts(above, theirs),
    }


def compared(
    crystals: Sequence[Published], ours: Sequence[float | str], theirs: Sequence[float]
) -> dict[str, object]:
    """Differences of two columns, and the crystals that are far apart or have no number."""
    missing = [
        f"{c.id} {c.structure.composition.reduced_formula}: {x}"
        for c, x in zip(crystals, ours, strict=True)
        if isinstance(x, str)
    ]
    pairs = [
        (x - y, c)
        for c, x, y in zip(crystals, ours, theirs, strict=True)
        if not isinstance(x, str) and np.isfinite(y)
    ]
    apart = np.array([difference for difference, _ in pairs])
    far = sorted((p for p in pairs if abs(p[0]) > CLOSE_EV_PER_ATOM), key=lambda p: -abs(p[0]))
    return {
        "compared": len(pairs),
        "median": round(float(np.median(apart)), 5),
        "mean": round(float(apart.mean()), 5),
        "mean absolute": round(float(abs(apart).mean()), 5),
        "largest": round(float(abs(apart).max()), 5),
        f"within {CLOSE_EV_PER_ATOM:g}": len(pairs) - len(far),
        "farthest": [
            f"{c.id} {c.structure.composition.reduced_formula} {difference:+.4f}"
            for difference, c in far[:10]
        ],
        "without a number": missing,
    }


def verdicts(ours: Sequence[float | str], theirs: Sequence[float]) -> dict[str, object]:
    """How often both call a crystal stable, or metastable, or neither does."""
    pairs = [
        (x, y)
        for x, y in zip(ours, theirs, strict=True)
        if not isinstance(x, str) and np.isfinite(y)
    ]
    found: dict[str, object] = {}
    for bound in VERDICTS_EV_PER_ATOM:
        agree = sum((x <= bound) == (y <= bound) for x, y in pairs)
        found[f"at most {bound:g} eV/atom"] = (
            f"{agree} of {len(pairs)} agree; ours {sum(x <= bound for x, _ in pairs)}, "
            f"published {sum(y <= bound for _, y in pairs)}"
        )
    return found


if __name__ == "__main__":
    main()
