"""Build the embedded dataset `prototypes`: AFLOW prototypes with similar elements put in.

    python -m experiments.prototypes.build [--out FILE] [--only NAME ...]

Every prototype that pymatgen ships with at most 20 atoms in its primitive cell gives up to a
few dozen crystals:

1. *Cell.* Primitive, then Niggli-reduced, then rebuilt from its lengths and angles.
2. *Elements.* Each element of the prototype is replaced by similar ones. Where the prototype's
   oxidation states can be guessed, the ions are drawn from the data-mined substitution
   probabilities of Hautier et al. (doi:10.1021/ic102031h) and the formula stays neutral;
   elsewhere (metals, ions unknown to that model) similar means near on Pettifor's chemical
   scale. A penalty on a change of the radius ratios completes the score, by which the
   candidates are ranked.
3. *Volume.* Data-mined lattice scaling (DLS, Chu et al., doi:10.1016/j.commatsci.2018.01.040),
   drawn half-way to what it says of the prototype itself; see `predict_volume`.
4. *Distances.* A crystal with atoms closer than 0.7 of the sum of their covalent radii is
   rejected, and so is one in which some atom has no neighbour within 1.5 of that sum.

Prototypes that differ by a distortion only (pymatgen's StructureMatcher holds them equal when
the elements are ignored) share their formulas out: each goes to where it scores best. Nothing
is drawn at random; scores and coordinates are rounded before they are compared or written.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import covalent_radii
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.core.structure_prediction.volume_predictor import bond_params

from experiments.prototypes.substitution import (
    ANIONS,
    GASES,
    NONMETALS,
    Ion,
    allowed_ions,
    ionic_radius,
    log_radius,
    replacements,
)
from miad_jax.crystal import Crystal
from miad_jax.data.packed import Records, pad, save_packed

OUT = Path(__file__).parents[2] / "miad_jax" / "data" / "prototypes.npz"
MAX_ATOMS = 20
MAX_CRYSTALS = {1: 12, 2: 26, 3: 36, 4: 44}
"""Most crystals of one prototype, by its number of elements."""
MAX_CANDIDATES = {1: 90, 2: 60, 3: 40, 4: 24}
"""Most replacements tried for each element, by the number of elements."""
MAX_RANKED = 400
"""Formulas ranked for a prototype, before those are taken out that make no sound crystal."""
MIN_LOG_SCORE = -10.0
MIN_DISTANCE, MAX_DISTANCE = 0.7, 1.5
"""Bounds on an atom's nearest distance, in sums of covalent radii."""
MAX_VOLUME = 10.0
"""Bound on the volume, in volumes of spheres of the covalent radii (metals have 1 to 2)."""
MIN_OWN_VOLUME = math.exp(-0.85)
"""A prototype whose cell is smaller than this share of its DLS volume has atoms that overlap."""
RADIUS_RATIO_SIGMA = 0.15
"""Width of the penalty on the spread of ln(r_new / r_old) over the ions of a crystal."""


@dataclass(frozen=True, eq=False)
class Prototype:
    """A crystal whose elements are to be replaced.

    Attributes:
        name: AFLOW label, numbered where the library has several of that label.
        label: AFLOW label.
        mineral: Name of the mineral or of the structure, or "".
        strukturbericht: Strukturbericht designation, or "".
        structure: Primitive Niggli-reduced cell.
    """

    name: str
    label: str
    mineral: str
    strukturbericht: str
    structure: Structure

    @functools.cached_property
    def elements(self) -> tuple[Element, ...]:
        """Its elements, in the order of the alphabet."""
        return tuple(sorted(self.structure.composition, key=lambda e: e.symbol))

    @functools.cached_property
    def sites(self) -> np.ndarray:
        """For each atom the index of its element in `elements`."""
        return np.array([self.elements.index(site.specie) for site in self.structure])

    @functools.cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Atom, atom and distance in Å of all near pairs, periodic images included."""
        atomic_length = (self.structure.volume / len(self.structure)) ** (1 / 3)
        first, second, _, distance = self.structure.get_neighbor_list(3 * atomic_length)
        return first, second, distance

    @functools.cached_property
    def mean_states(self) -> tuple[float, ...] | None:
        """Mean oxidation state of each element; None where no ionic formula is neutral."""
        guesses = self.structure.composition.oxi_state_guesses()
        if not guesses or len(self.elements) == 1:
            return None
        states = tuple(round(float(guesses[0].get(e.symbol, 0)), 6) for e in self.elements)
        ionic = any(
            e.symbol in ANIONS and q < 0 for e, q in zip(self.elements, states, strict=True)
        )
        return states if ionic else None

    @functools.cached_property
    def ions(self) -> tuple[Ion, ...]:
        """Its elements with their charges, all 0 where these are unknown or mixed valences."""
        states = self.mean_states
        if states is None or any(q != round(q) for q in states):
            states = (0.0,) * len(self.elements)
        return tuple(zip(self.elements, states, strict=True))


@functools.cache
def prototypes() -> tuple[Prototype, ...]:
    """The prototypes of at most `MAX_ATOMS` atoms, ordered by number of atoms and name."""
    found = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        primitive = entry["snl"].structure.get_primitive_structure()
        if len(primitive) <= MAX_ATOMS:
            reduced = primitive.get_reduced_structure(reduction_algo="niggli")
            lattice = Lattice.from_parameters(*reduced.lattice.parameters)
            structure = Structure(lattice, reduced.species, reduced.frac_coords)
            found.append((entry["tags"], structure))
    found.sort(key=lambda x: (len(x[1]), x[0]["aflow"], x[1].reduced_formula, str(x[0])))
    named = []
    for label, group in itertools.groupby(found, key=lambda x: (len(x[1]), x[0]["aflow"])):
        for number, (tags, structure) in enumerate(group, start=1):
            name = label[1] if number == 1 else f"{label[1]}-{number}"
            mineral, symbol = (str(tags[x] or "") for x in ("mineral", "strukturbericht"))
            symbol = "" if symbol == "None" else symbol
            named.append(Prototype(name, label[1], mineral, symbol, structure))
    return tuple(named)


@functools.cache
def candidates(prototype: Prototype) -> dict[str, tuple[float, tuple[Ion, ...]]]:
    """Score every substitution.

    Returns:
        For each reduced formula the best score and the new ions in the order of
        `prototype.elements`, uncharged where charges are unknown; the best first.
    """
    old_ions = prototype.ions
    options = [replacements(old)[: MAX_CANDIDATES[len(old_ions)]] for old in old_ions]
    counts = np.bincount(prototype.sites)
    stretch = [
        np.array([log_radius(old, new) for _, new in x])
        for old, x in zip(old_ions, options, strict=True)
    ]
    score = _outer_sum([np.array([s for s, _ in x]) for x in options])
    charge = _outer_sum(
        [n * np.array([q for _, (_, q) in x]) for n, x in zip(counts, options, strict=True)]
    )
    spread = _outer_sum([s**2 for s in stretch]) - _outer_sum(stretch) ** 2 / len(stretch)
    score = score - spread / (2 * RADIUS_RATIO_SIGMA**2)
    keep = (score > MIN_LOG_SCORE) & (charge == 0)
    indices = np.argwhere(keep)
    order = np.argsort(-np.round(score[keep], 6), kind="stable")

    best: dict[str, tuple[float, tuple[Ion, ...]]] = {}
    for index in indices[order]:
        new_ions = tuple(x[i][1] for x, i in zip(options, index, strict=True))
        if _plausible(old_ions, new_ions) and _can_be_neutral(prototype, new_ions):
            counted = {e: int(n) for (e, _), n in zip(new_ions, counts, strict=True)}
            formula = Composition(counted).reduced_formula
            best.setdefault(formula, (round(float(score[tuple(index)]), 6), new_ions))
        if len(best) == MAX_RANKED:
            break
    return best


def _outer_sum(terms: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of one value of each term, for all combinations."""
    return functools.reduce(np.add.outer, terms)


def _plausible(old: Sequence[Ion], new: Sequence[Ion]) -> bool:
    """Rule out what no score sees: an element twice, a solid gas, a nonmetal as a metal's ion."""
    symbols = [e.symbol for e, _ in new]
    if len(set(symbols)) < len(symbols) or (len(symbols) == 1 and symbols[0] in GASES):
        return [e for e, _ in old] == [e for e, _ in new]
    weakest_anion = min((e.X for e, q in new if q < 0), default=math.inf)
    return all(
        weakest_anion - element.X > 0.35 and (element.X < 2.25 or replaced.symbol in NONMETALS)
        for (replaced, _), (element, state) in zip(old, new, strict=True)
        if state > 0 and element.symbol in NONMETALS and element.group != replaced.group
    )


def _can_be_neutral(prototype: Prototype, new: Sequence[Ion]) -> bool:
    """Whether charges can cancel in place of mixed valences, which `ions` leaves uncharged."""
    if not prototype.mean_states or any(state for _, state in new):
        return True
    low = high = 0.0
    for old, state, (element, _), count in zip(
        prototype.elements, prototype.mean_states, new, np.bincount(prototype.sites), strict=True
    ):
        states = [q for e, q in allowed_ions(1 if state > 0 else -1) if e == element]
        states += [state] if element.group == old.group and state < 0 else []
        if not states:
            return False
        low, high = low + count * min(states), high + count * max(states)
    return low <= 0 <= high


def _dls_volume(prototype: Prototype, ions: Sequence[Ion]) -> float | None:
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
    data-mined lattice scaling (DLS) and that of touching ions. Each is drawn towards agreement
    with the prototype itself,

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
    crystals of a prototype, and, by a fifth of the volume, from halides.
    """
    weight, bound = (1.0, 0.65) if ions == prototype.ions else (0.6, 0.25)
    logs = []
    for estimate in (_dls_volume, _ionic_volume):
        new, own = estimate(prototype, ions), estimate(prototype, prototype.ions)
        if new and own:
            correction = weight * math.log(prototype.structure.volume / own)
            logs.append(math.log(new) + min(max(correction, -bound), bound))
    return math.exp(sum(logs) / len(logs)) if logs else None


def substitute(prototype: Prototype, ions: Sequence[Ion]) -> Structure | None:
    """The prototype with other elements at their predicted volume, or None if unphysical."""
    volume = predict_volume(prototype, ions)
    if volume is None:
        return None
    scale = (volume / prototype.structure.volume) ** (1 / 3)
    first, second, distance = prototype.pairs
    radius = np.array([covalent_radii[e.Z] for e, _ in ions])[prototype.sites]
    relative = scale * distance / (radius[first] + radius[second])
    nearest = np.full(len(radius), np.inf)
    np.minimum.at(nearest, first, relative)
    if nearest.min() < MIN_DISTANCE + 1e-3 or nearest.max() > MAX_DISTANCE:
        return None
    if volume > MAX_VOLUME * (4 / 3 * np.pi * radius**3).sum() and ions != prototype.ions:
        return None
    lattice = np.round(prototype.structure.lattice.matrix * scale, 4) + 0.0
    coords = np.round(prototype.structure.frac_coords, 5) % 1.0
    return Structure(lattice, [ions[i][0] for i in prototype.sites], coords)


@functools.cache
def _alike(first: Prototype, second: Prototype) -> bool:
    """Whether two prototypes are one structure but for a distortion and the elements."""
    a, b = first.structure, second.structure
    if len(a) != len(b) or a.composition.anonymized_formula != b.composition.anonymized_formula:
        return False
    matcher = StructureMatcher(primitive_cell=False, attempt_supercell=False)
    return matcher.fit_anonymous(a, b)


def crystals_of(prototype: Prototype) -> Iterable[tuple[str, Structure]]:
    """Formula and structure of the crystals of one prototype, the likeliest first."""
    family = [
        other
        for other in prototypes()
        if other is prototype or _alike(*sorted((prototype, other), key=lambda p: p.name))
    ]
    own_volume = _dls_volume(prototype, prototype.ions) or 0.0
    if prototype.structure.volume < MIN_OWN_VOLUME * own_volume:
        return
    made = 0
    for formula, (_, ions) in candidates(prototype).items():
        scores = {p: candidates(p)[formula][0] for p in family if formula in candidates(p)}
        best = [p for p in family if scores.get(p) == max(scores.values())]
        owner = best[_hash(formula) % len(best)]
        if owner is not prototype and ions != prototype.ions:
            continue
        structure = substitute(prototype, ions)
        if structure is not None:
            yield formula, structure
            made += 1
        if made == MAX_CRYSTALS[len(ions)]:
            return


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(crystal_id: str) -> int:
    """0 (train, 90 %), 1 (validation, 5 %) or 2 (test, 5 %), by a hash of the id."""
    percent = _hash(crystal_id) % 100
    return int(percent >= 90) + int(percent >= 95)


def build(names: Iterable[str] | None = None) -> tuple[Crystal, Records]:
    """Build the dataset, or the part of it that some prototypes give.

    Args:
        names: Prototypes by name, as `prototypes()` has them; all when None.

    Returns:
        The crystals and their records, with the columns `prototype`, `mineral`,
        `strukturbericht` and `split`.

    Raises:
        ValueError: If there is no prototype of such a name.
    """
    known = {p.name: p for p in prototypes()}
    wanted = set(known if names is None else names)
    if wanted - set(known):
        raise ValueError(
            f"no prototype of at most {MAX_ATOMS} atoms is called {sorted(wanted - set(known))}; "
            f"the names are AFLOW labels such as AB_cF8_225_a_b"
        )
    rows = [
        (f"{name}:{formula}", prototype, structure)
        for name, prototype in known.items()
        if name in wanted
        for formula, structure in crystals_of(prototype)
    ]
    ids = [row[0] for row in rows]
    columns = {
        "prototype": np.array([row[1].label for row in rows]),
        "mineral": np.array([row[1].mineral for row in rows]),
        "strukturbericht": np.array([row[1].strukturbericht for row in rows]),
        "split": np.array([split_of(x) for x in ids], np.float64),
    }
    structures = [row[2] for row in rows]
    crystal = pad(
        np.array([s.lattice.matrix for s in structures]),
        np.concatenate([s.frac_coords for s in structures]),
        np.concatenate([s.atomic_numbers for s in structures]),
        np.array([len(s) for s in structures]),
    )
    return crystal, Records(ids=ids, columns=columns)


def main() -> None:
    """Build the file and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the packed file to write")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="build these prototypes only")
    args = parser.parse_args()
    if args.only and args.out == OUT:
        parser.error("--only builds a part: name another file with --out")
    crystal, records = build(args.only)
    save_packed(args.out, crystal, records)
    sizes = np.bincount(crystal.num_atoms)
    print(
        f"{args.out}: {len(crystal)} crystals of {len(set(records.columns['prototype']))} labels, "
        f"{len(np.unique(crystal.atom_types[crystal.mask]))} elements, "
        f"{args.out.stat().st_size / 1e6:.2f} MB\n"
        f"atoms: { ({n: int(c) for n, c in enumerate(sizes) if c}) }\n"
        f"train, val, test: {np.bincount(records.columns['split'].astype(int)).tolist()}"
    )


if __name__ == "__main__":
    main()
