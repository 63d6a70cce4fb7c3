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
from pymatgen.core import Composition, Element, Lattice, Species, Structure
from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability
from pymatgen.core.structure_prediction.volume_predictor import bond_params

from miad_jax.crystal import Crystal
from miad_jax.data.packed import Records, pad, save_packed

OUT = Path(__file__).parents[2] / "miad_jax" / "data" / "prototypes.npz"
MAX_ATOMS = 20
MAX_CRYSTALS = {1: 14, 2: 26, 3: 34, 4: 40}
"""Most crystals of one prototype, by its number of elements."""
MAX_CANDIDATES = {1: 90, 2: 60, 3: 40, 4: 24}
"""Most replacements tried for each element, by the number of elements."""
MIN_LOG_SCORE = -14.0
MIN_DISTANCE, MAX_DISTANCE = 0.7, 1.5
"""Bounds on an atom's nearest distance, in sums of covalent radii."""
PETTIFOR_SCALE = 5.0
"""Steps on Pettifor's scale over which similarity falls by e."""
RADIUS_RATIO_SIGMA = 0.15

EXCLUDED = frozenset("He Ne Ar Kr Xe Rn Po At Fr Ra Ac Pm Pa".split())
"""Never put in (a prototype made of them stays): noble gases, the intensely radioactive."""
ELEMENTS = tuple(e for e in map(Element.from_Z, range(1, 93)) if e.symbol not in EXCLUDED)
NONMETALS = frozenset("H B C N O F Si P S Cl Ge As Se Br Te I".split())
ANIONS = frozenset("C N O F P S Cl As Se Br Te I".split())
"""Elements whose presence as an anion makes neutrality a condition."""

Ion = tuple[Element, float]


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
    def ions(self) -> tuple[Ion, ...] | None:
        """Element and mean oxidation state, or None where no neutral ionic formula is known."""
        guesses = self.structure.composition.oxi_state_guesses()
        if not guesses or len(self.elements) == 1:
            return None
        states = tuple((e, round(guesses[0].get(e.symbol, 0.0), 6)) for e in self.elements)
        return states if any(e.symbol in ANIONS and q < 0 for e, q in states) else None


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
def allowed_ions(sign: int) -> tuple[Ion, ...]:
    """Elements with each oxidation state of that sign found in the ICSD or called common."""
    return tuple(
        (element, float(state))
        for element in ELEMENTS
        for state in sorted({*element.common_oxidation_states, *element.icsd_oxidation_states})
        if state * sign > 0 and (state > 0 or element.symbol in NONMETALS)
    )


def log_similarity(old: Ion, new: Ion) -> float:
    """Logarithm of how readily the ion `new` takes the place of `old`; -inf for never.

    The model of Hautier et al. where it knows both ions, else Pettifor's scale, on which only
    ions of equal charge are exchanged, and metals only for metals or within a group.
    """
    (old_element, old_state), (new_element, new_state) = old, new
    if old == new:
        return math.log(0.3)
    if old_state and old_state == round(old_state):
        old_species, new_species = (Species(e.symbol, q) for e, q in (old, new))
        model = SubstitutionProbability()
        if old_species in model.species and new_species in model.species:
            return math.log(model.cond_prob(new_species, old_species))
    metals = {e.symbol in NONMETALS for e in (old_element, new_element)}
    if old_state != new_state or (len(metals) > 1 and old_element.group != new_element.group):
        return -math.inf
    distance = abs(old_element.mendeleev_no - new_element.mendeleev_no)
    return math.log(0.1) - distance / PETTIFOR_SCALE - _log_radius(old, new) ** 2 / 0.18


def _log_radius(old: Ion, new: Ion) -> float:
    """ln(r_new / r_old) of the ionic radii, or of the covalent ones where one is unknown."""
    radii = [Species(e.symbol, q).ionic_radius if q and q == round(q) else None for e, q in (old, new)]
    if not all(radii):
        radii = [covalent_radii[e.Z] for e, _ in (old, new)]
    return math.log(float(radii[1]) / float(radii[0]))


@functools.cache
def candidates(prototype: Prototype) -> dict[str, tuple[float, tuple[Element, ...]]]:
    """Score every substitution.

    Returns:
        For each reduced formula the best score and the new elements in the order of
        `prototype.elements`; the best first.
    """
    old_ions = prototype.ions or tuple((e, 0.0) for e in prototype.elements)
    mixed_valence = any(q != round(q) for _, q in old_ions)
    if mixed_valence:
        old_ions = tuple((e, 0.0) for e in prototype.elements)
    options = []
    for old in old_ions:
        sign = int(np.sign(old[1]))
        pool = {(e, 0.0) for e in ELEMENTS} if sign == 0 else set(allowed_ions(sign))
        if sign == 0 or old[0].Z <= 94:
            pool.add(old)
        scored = [(round(log_similarity(old, x), 6), x[0].Z, x[1], x) for x in pool]
        scored = sorted((-s, z, q, x) for s, z, q, x in scored if s > -math.inf)
        options.append(scored[: MAX_CANDIDATES[len(old_ions)]])

    counts = [int((prototype.sites == i).sum()) for i in range(len(old_ions))]
    score = functools.reduce(np.add.outer, [np.array([-o[0] for o in x]) for x in options])
    charge = functools.reduce(
        np.add.outer, [n * np.array([o[2] for o in x]) for n, x in zip(counts, options, strict=True)]
    )
    stretch = [
        np.array([_log_radius(old, o[3]) for o in x])
        for old, x in zip(old_ions, options, strict=True)
    ]
    mean = functools.reduce(np.add.outer, stretch) / len(stretch)
    square = functools.reduce(np.add.outer, [s**2 for s in stretch])
    score = score - (square - len(stretch) * mean**2) / (2 * RADIUS_RATIO_SIGMA**2)
    keep = (score > MIN_LOG_SCORE) & (charge == 0)
    indices = np.argwhere(keep)
    order = np.argsort(-np.round(score[keep], 6), kind="stable")

    best: dict[str, tuple[float, tuple[Element, ...]]] = {}
    for index in indices[order]:
        new = tuple(x[i][3][0] for x, i in zip(options, index, strict=True))
        if len(set(new)) < len(new) or (mixed_valence and not _can_be_neutral(prototype, new)):
            continue
        formula = _formula(prototype, new)
        best.setdefault(formula, (round(float(score[tuple(index)]), 6), new))
    return best


def _can_be_neutral(prototype: Prototype, new: Sequence[Element]) -> bool:
    """Whether the charges can cancel when an element may hold several oxidation states."""
    low = high = 0.0
    for (old, state), element, count in zip(
        prototype.ions or (), new, np.bincount(prototype.sites), strict=True
    ):
        states = [q for e, q in allowed_ions(1 if state > 0 else -1) if e == element]
        states += [state] if element == old else []
        if not states:
            return False
        low, high = low + count * min(states), high + count * max(states)
    return low <= 0 <= high


def _formula(prototype: Prototype, new: Sequence[Element]) -> str:
    """Reduced formula, electropositive elements first."""
    counts = np.bincount(prototype.sites)
    return Composition({e: int(n) for e, n in zip(new, counts, strict=True)}).reduced_formula


def _dls_volume(prototype: Prototype, elements: Sequence[Element]) -> float | None:
    """Volume at which the tightest bond has its data-mined length, r_i + k_i s + r_j + k_j s.

    What pymatgen's `DLSVolumePredictor` computes, without its bounds on the change of volume;
    s is the standard deviation of the electronegativity. None where a radius is unknown.
    """
    first, second, distance = prototype.pairs
    spread = float(np.std([elements[i].X for i in prototype.sites]))
    radii = []
    for element in elements:
        bond = bond_params.get(element.symbol)
        radius = bond["r"] + bond["k"] * spread if bond else element.atomic_radius
        if radius is None:
            return None
        radii.append(float(radius))
    radius = np.array(radii)[prototype.sites]
    ratio = (distance / (radius[first] + radius[second])).min()
    return float(prototype.structure.volume / ratio**3)


def predict_volume(prototype: Prototype, elements: Sequence[Element]) -> float | None:
    """Volume in Å³ of the prototype's cell with other elements.

    ln V = ln V_DLS(new) + clip(½ ln(V_prototype / V_DLS(prototype)), ±0.15)

    Chosen by a check against 2,324 crystals of the Materials Project that have one of these
    prototypes. Median |ln(V / V_true)|, each crystal counted once, or each prototype:

        DLS                                     0.071   0.116
        reference lattice scaling, atomic radii 0.106
        reference lattice scaling, ionic radii  0.101
        this                                    0.063   0.089

    Reference lattice scaling suffers from prototypes whose own cell is far from any real one
    (the library has some), DLS alone from bonds that are long in all crystals of a prototype;
    hence half of the latter's correction, bounded.
    """
    volume = _dls_volume(prototype, elements)
    own = _dls_volume(prototype, prototype.elements)
    if volume is None or own is None:
        return volume
    correction = 0.5 * math.log(prototype.structure.volume / own)
    return volume * math.exp(min(max(correction, -0.15), 0.15))


def substitute(prototype: Prototype, elements: Sequence[Element]) -> Structure | None:
    """The prototype with other elements at their predicted volume, or None if unphysical."""
    volume = predict_volume(prototype, elements)
    if volume is None:
        return None
    scale = (volume / prototype.structure.volume) ** (1 / 3)
    first, second, distance = prototype.pairs
    radius = np.array([covalent_radii[e.Z] for e in elements])[prototype.sites]
    relative = scale * distance / (radius[first] + radius[second])
    nearest = np.full(len(radius), np.inf)
    np.minimum.at(nearest, first, relative)
    if nearest.min() < MIN_DISTANCE + 1e-3 or nearest.max() > MAX_DISTANCE:
        return None
    lattice = np.round(prototype.structure.lattice.matrix * scale, 4) + 0.0
    coords = np.round(prototype.structure.frac_coords, 5) % 1.0
    return Structure(lattice, [elements[i] for i in prototype.sites], coords)


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
    earlier = True
    rivals = []
    for other in prototypes():
        if other is prototype:
            earlier = False
        elif _alike(*sorted((prototype, other), key=lambda p: p.name)):
            rivals.append((earlier, candidates(other)))
    made = 0
    for formula, (score, elements) in candidates(prototype).items():
        theirs = [(first, best[formula][0]) for first, best in rivals if formula in best]
        if any(s > score or (s == score and first) for first, s in theirs):
            continue
        structure = substitute(prototype, elements)
        if structure is not None:
            yield formula, structure
            made += 1
        if made == MAX_CRYSTALS[len(elements)]:
            return


def split_of(crystal_id: str) -> int:
    """0 (train, 90 %), 1 (validation, 5 %) or 2 (test, 5 %), by a hash of the id."""
    percent = int.from_bytes(hashlib.sha256(crystal_id.encode()).digest()[:8], "big") % 100
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
        f"atoms: {({n: int(c) for n, c in enumerate(sizes) if c})}\n"
        f"train, val, test: {np.bincount(records.columns['split'].astype(int)).tolist()}"
    )


if __name__ == "__main__":
    main()
