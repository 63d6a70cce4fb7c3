"""The volume of a prototype's cell when other elements are put in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pymatgen.analysis.structure_prediction.volume_predictor import bond_params

from experiments.prototypes.library import Ion, Prototype
from experiments.prototypes.substitution import ionic_radius


def dls_volume(prototype: Prototype, ions: Sequence[Ion]) -> float | None:
    """Volume at which the tightest bond has its data-mined length, r_i + k_i s + r_j + k_j s.

    What pymatgen's `DLSVolumePredictor` computes, without its bounds on the change of volume;
    s is the standard deviation of the electronegativity. None where a radius is unknown.
    """
    spread = float(np.std([ions[i][0].X for i in prototype.sites]))
    radii = []
    for element, _ in ions:
        bond = bond_params.get(element.symbol)
        radii.append(bond["r"] + bond["k"] * spread if bond else element.atomic_radius)
    return _touching_volume(prototype, radii, np.ones(len(ions)))


def _ionic_volume(prototype: Prototype, ions: Sequence[Ion]) -> float | None:
    """Volume at which the tightest contact of a cation and an anion is that of Shannon's radii.

    None where a radius is unknown.
    """
    return _touching_volume(prototype, [ionic_radius(*x) for x in ions], [q for _, q in ions])


def _touching_volume(
    prototype: Prototype, radii: Sequence[float | None], charges: Sequence[float]
) -> float | None:
    """Volume at which the tightest pair touches; if charges differ, of unlike ones only."""
    if any(r is None for r in radii):
        return None
    first, second, distance = prototype.pairs
    radius = np.array(radii, float)[prototype.sites]
    charge = np.asarray(charges)[prototype.sites]
    ratio = distance / (radius[first] + radius[second])
    if charge.min() < 0:
        ratio = ratio[charge[first] * charge[second] < 0]
    return float(prototype.structure.volume / ratio.min() ** 3)


def predict_volume(prototype: Prototype, ions: Sequence[Ion]) -> float | None:
    """Volume in Å³ of the prototype's cell with other ions.

    The geometric mean of one or, for ions whose radii are known, two estimates: that of
    data-mined lattice scaling (DLS; Chu et al., doi:10.1016/j.commatsci.2018.01.040) and that
    of touching ions. Each is drawn towards agreement with the prototype itself,

        ln V = ln V_est(new) + clip(w ln(V_prototype / V_est(prototype)), ±b),

    w = 0.6, b = 0.25. The prototype with its own elements has w = 1, b = 0.65 and so, as a
    rule, keeps its volume; the bound is there because the library has cells of impossible size.

    Chosen by a check against the 2,304 crystals of a Materials Project sample that have one of
    these prototypes and other elements. Median |ln(V / V_true)|, each crystal counted alike,
    and each prototype:

        DLS alone (pymatgen's DLSVolumePredictor)          0.071   0.108
        reference lattice scaling (RLS), atomic radii      0.107   0.125
        reference lattice scaling (RLS), ionic or atomic   0.102   0.124
        this                                               0.063   0.084

    RLS suffers from the library's impossible cells; DLS alone from bonds that are long in all
    crystals of a prototype, and it makes halides too small.
    """
    weight, bound = (1.0, 0.65) if ions == prototype.ions else (0.6, 0.25)
    logs = []
    for estimate in (dls_volume, _ionic_volume):
        new, own = estimate(prototype, ions), estimate(prototype, prototype.ions)
        if new and own:
            correction = weight * math.log(prototype.structure.volume / own)
            logs.append(math.log(new) + min(max(correction, -bound), bound))
    return math.exp(sum(logs) / len(logs)) if logs else None
