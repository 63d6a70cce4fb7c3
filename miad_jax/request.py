"""What is asked for in the words of chemistry: elements, a formula, a number of atoms, properties.

A `Request` is checked when it is made, before anything is sampled. It becomes a `Condition` of
samples, and says of each crystal what it misses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from miad_jax.condition import Condition, Known
from miad_jax.crystal import MIRAGE, NUM_TYPES, Crystal
from miad_jax.diffusion.keys import NUM_ATOMS, streams
from miad_jax.padding import resize
from miad_jax.spelling import did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

Range = tuple[int, int]
"""The least and the greatest number, both allowed."""

GROUPS = {
    "radioactive": "is_radioactive",
    "noble": "is_noble_gas",
    "lanthanides": "is_lanthanoid",
    "actinides": "is_actinoid",
}
"""Words for sets of elements, and what pymatgen calls them."""

LIMITS = {
    "density": (1e-3, math.inf),
    "num_elements": (1, math.inf),
    "spacegroup_number": (1, 230),
}
"""Values that crystals have: in g/cm³, and counts."""

WHOLE = ("num_elements", "spacegroup_number")
"""Properties that are whole numbers."""


@dataclass(frozen=True)
class Request:
    """What every sample is to be. What is None or empty is not asked.

    Attributes:
        elements: Atomic numbers that may occur.
        contain: Atomic numbers that must occur.
        neutral: Whether compositions are led to where oxidation states can add up to 0.
        num_atoms: Number of atoms.
        formulas: Atoms of one formula unit by atomic number; sample i gets the i-th of them, and
            after the last the first again.
        formula_units: Formula units in a cell; None for every number that fits.
        given: A crystal whose atoms are kept, and to which `added` are added.
        added: How many atoms are added to it; None for every number that fits.
        keep_cell: Whether its cell is kept too.
        like: A crystal of which samples are variations.
        strength: How much of the way to pure noise it goes before it comes back, above 0, up to 1.
        properties: Values by name.

    Example:
        >>> request = miad_jax.Request.of(chemical_system="Li-O", num_atoms="4..8")
        >>> request.missed_by([3, 3, 8])
        ['has 3 atoms']
    """

    elements: frozenset[int] | None = None
    contain: frozenset[int] = frozenset()
    neutral: bool = False
    num_atoms: Range | None = None
    formulas: Sequence[Mapping[int, int]] = ()
    formula_units: Range | None = None
    given: Crystal | None = None
    added: Range | None = None
    keep_cell: bool = False
    like: Crystal | None = None
    strength: float = 0.3
    properties: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        elements: str | Sequence[str] | None = None,
        without: str | Sequence[str] = (),
        contain: str | Sequence[str] = (),
        chemical_system: str | None = None,
        neutral: bool = False,
        num_atoms: str | int | Range | None = None,
        formula: str | Sequence[str] = (),
        formula_units: str | int | Range | None = None,
        complete: Structure | None = None,
        add: str | int | Range | None = None,
        keep_cell: bool = False,
        like: Structure | None = None,
        strength: float = 0.3,
        properties: Mapping[str, float] | None = None,
    ) -> Request:
        """What is asked, as people write it.

        Args:
            elements: Symbols, in a list or separated by commas: nothing else.
            without: Symbols or groups ("radioactive", "noble", "lanthanides", "actinides") that may
                not occur.
            contain: Symbols, each of which must occur.
            chemical_system: Symbols separated by "-": exactly these.
            neutral: Whether compositions are led to where common oxidation states can add up to 0.
            num_atoms: 12, or "8..12".
            formula: One formula such as "LiFePO4", or a list of them, in turn.
            formula_units: 2, or "1..4": how many units of the formula a cell holds.
            complete: A crystal that is part of what is asked.
            add: How many atoms it lacks: 2, or "0..6".
            keep_cell: Whether the crystal's cell is kept.
            like: A crystal of which samples are variations.
            strength: How much of the way to pure noise it goes before it comes back.
            properties: Values by name.

        Raises:
            ValueError: If something is not understood, or cannot be met together with the rest.
            TypeError: If a crystal is no pymatgen Structure.
        """
        formulas = tuple(map(_formula, [formula] if isinstance(formula, str) else formula))
        allowed = None if elements is None else _numbers("elements", elements)
        required = _numbers("contain", contain)
        if chemical_system is not None:
            if allowed is not None:
                raise ValueError("chemical_system and elements both say what may occur: give one")
            allowed = _numbers("chemical_system", chemical_system.split("-"))
            required |= allowed
        if left_out := _numbers("without", without, groups=True):
            allowed = (frozenset(range(1, NUM_TYPES)) if allowed is None else allowed) - left_out
        request = cls(
            elements=allowed,
            contain=required,
            neutral=neutral,
            num_atoms=_range("num_atoms", num_atoms, 1),
            formulas=formulas,
            formula_units=_range("formula_units", formula_units, 1),
            given=None if complete is None else _crystal("complete", complete),
            added=_range("add", add, 0),
            keep_cell=keep_cell,
            like=None if like is None else _crystal("like", like),
            strength=strength,
            properties=dict(properties or {}),
        )
        request._check()
        return request

    def _check(self) -> None:
        """Refuse wishes that contradict each other."""
        if self.elements is not None and not self.elements:
            raise ValueError("no element is left that may occur: leave fewer out")
        if self.elements is not None and not self.contain <= self.elements:
            names = ", ".join(_symbols(self.contain - self.elements))
            raise ValueError(f"{names} must occur and may not: allow it, or do not ask for it")
        if self.formulas and (self.elements or self.contain or self.num_atoms or self.neutral):
            raise ValueError(
                "a formula says which atoms there are: leave out elements, contain, without, "
                "chemical_system, neutral and num_atoms"
            )
        if self.neutral and self.elements is not None:
            least, greatest = _oxidation_states()[sorted(self.elements)].T
            if least.min() > 0 or greatest.max() < 0:
                names = ", ".join(_symbols(self.elements))
                sign = "positive" if least.min() > 0 else "negative"
                raise ValueError(
                    f"the common oxidation states of {names} are all {sign}, so that they cannot "
                    "add up to 0: leave out neutral, or allow other elements"
                )
        if self.formula_units and not self.formulas:
            raise ValueError("formula_units are given without a formula: add formula")
        if self.given is None and (self.added or self.keep_cell):
            raise ValueError("add and keep_cell belong to a crystal: give complete")
        if self.given is not None:
            if self.formulas or self.num_atoms:
                raise ValueError(
                    "complete says how many atoms there are by add: leave out formula and num_atoms"
                )
            there = set(np.asarray(self.given.atom_types).tolist())
            if self.elements is not None and not there <= self.elements:
                names = ", ".join(_symbols(there - self.elements))
                raise ValueError(f"the crystal to complete holds {names}, which may not occur")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength:g}; allowed: above 0, up to 1")
        if self.like is not None and (self.formulas or self.given is not None):
            raise ValueError("like starts from all atoms: leave out formula and complete")
        if self.num_atoms and self.num_atoms[1] < len(self.contain):
            raise ValueError(
                f"{len(self.contain)} elements must occur among at most {self.num_atoms[1]} atoms: "
                "ask for more atoms, or for fewer elements"
            )

        self._check_properties()

    def _check_properties(self) -> None:
        """Refuse values that no crystal has."""
        for name, value in self.properties.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value:g}; allowed: a finite number")
            is_whole, (low, high) = name in WHOLE, LIMITS.get(name, (-math.inf, math.inf))
            if not low <= value <= high or (is_whole and value != int(value)):
                ends = f"from {low:g} on" if high == math.inf else f"from {low:g} to {high:g}"
                kind = "a whole number" if is_whole else "a number"
                raise ValueError(f"{name} is {value:g}; allowed: {kind} {ends}")
        num = self.properties.get("num_elements", math.nan)
        if num < len(self.contain):
            raise ValueError(
                f"{len(self.contain)} elements must occur, but num_elements is {num:g}"
            )
        if self.elements is not None and num > len(self.elements):
            raise ValueError(
                f"{len(self.elements)} elements may occur, but num_elements is {num:g}"
            )

    @property
    def asks_nothing(self) -> bool:
        """Whether any crystal will do."""
        return self == Request()

    def condition(
        self,
        keys: PRNGKeyArray,
        index: Int[np.ndarray, " samples"],
        size: int,
        *,
        infused: bool,
        takes_times: bool,
        histogram: Float[np.ndarray, " counts"],
        holds_number: bool = True,
    ) -> tuple[Int[np.ndarray, " samples"], Condition | None]:
        """What a sampler takes for some samples.

        Args:
            keys: Their keys, from which numbers of atoms are drawn where they are not the model's.
            index: Their places in the run.
            size: Slots of a sample.
            infused: Whether slots may turn out to be mirage.
            takes_times: Whether the network can be shown known parts as they are.
            histogram: How frequent each number of atoms is in the training data.
            holds_number: Whether a number of atoms is held to the end, or the sample led to it.

        Returns:
            Slots of each sample that are no padding, and the condition; None where nothing is
            asked.

        Raises:
            ValueError: If the model has too few slots.
        """
        num = len(index)
        weights = np.zeros(size + 1)
        weights[: len(histogram)] = np.asarray(histogram, float)[: size + 1]
        free = np.full(num, size)
        known = None
        asked = self.num_atoms
        if asked and asked[1] > size:
            raise ValueError(
                f"{asked[1]} atoms are asked, and the model has {size} slots: ask for at most "
                f"{size} atoms, or choose a checkpoint with more"
            )
        if self.formulas:
            free, types = self._of_formulas(keys, index, weights)
            known = Known.formula(jnp.asarray(types))
            if infused and not takes_times:  # mirage is what is left of all slots
                free = np.full(num, size)
        elif self.given is not None:
            there = self.given.size
            least, most = (there + n for n in self.added or (0, size - there))
            if most > size or there > size:
                raise ValueError(
                    f"the crystal has {there} atoms and at most {most} are asked, but the model "
                    f"has {size} slots: give a smaller crystal or add, or choose a checkpoint with "
                    "more"
                )
            asked = least, most
            padded = resize(self.given, size)
            known = Known.atoms(_repeated(padded, num), keep_cell=self.keep_cell)
        if not infused and self.like is not None:
            free = np.full(num, self.like.size)
        elif not infused and not self.formulas:
            low, high = asked or (1, size)
            inside = (np.arange(size + 1) >= low) & (np.arange(size + 1) <= high)
            free = _drawn(keys, np.where(inside, np.maximum(weights, 1e-9 if asked else 0), 0))
            asked = None
        condition = Condition(
            allowed_types=_mask(self.elements, num) if self.elements is not None else None,
            required_types=_mask(self.contain, num) if self.contain else None,
            num_atoms=None if asked is None else jnp.tile(jnp.array(asked), (num, 1)),
            num_is_led=None if asked is None else jnp.full(num, not holds_number),
            known=known,
            oxidation_states=jnp.tile(_oxidation_states(), (num, 1, 1)) if self.neutral else None,
            properties={n: jnp.full(num, value) for n, value in self.properties.items()},
        )
        return free, None if self.asks_nothing else condition

    def variations_of(self, num: int, size: int) -> Crystal:
        """The crystal that samples are like, once for each of them, padded to `size` slots.

        Raises:
            ValueError: If it has more atoms than the model has slots.
        """
        assert self.like is not None
        if self.like.size > size:
            raise ValueError(
                f"the crystal has {self.like.size} atoms, and the model {size} slots: give a "
                "smaller one, or choose a checkpoint with more"
            )
        return _repeated(resize(self.like, size), num)

    def _of_formulas(
        self, keys: PRNGKeyArray, index: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of atoms and the types of all slots, for the formula of each sample.

        The number of formula units is drawn by how frequent its number of atoms is.
        """
        size = len(weights) - 1
        places = index % len(self.formulas)
        chances = []
        for formula in self.formulas:
            unit = sum(formula.values())
            low, high = self.formula_units or (1, max(size // unit, 1))
            if high * unit > size:
                raise ValueError(
                    f"{high} formula units of {_written(formula)} are {high * unit} atoms, and the "
                    f"model has {size} slots: ask for fewer units, or choose a checkpoint with more"
                )
            counts = unit * np.arange(low, high + 1)
            chance = np.zeros(size + 1)
            chance[counts] = np.maximum(weights[counts], 1e-9 * max(weights.max(), 1))
            chances.append(chance)
        num_atoms = _drawn(keys, np.stack(chances)[places])
        types = np.full((len(index), size), MIRAGE)
        for i, place in enumerate(places):
            formula = self.formulas[place]
            units = num_atoms[i] // sum(formula.values())
            atoms = [z for z, n in sorted(formula.items()) for _ in range(n * units)]
            types[i, : len(atoms)] = atoms
        return num_atoms, types

    def missed_by(self, atomic_numbers: Sequence[int], index: int = 0) -> list[str]:
        """What a crystal of these atoms is not that it was to be; properties are not looked at.

        Args:
            atomic_numbers: Of its atoms.
            index: Its place in the run, which says whose formula it is.
        """
        numbers = np.asarray(atomic_numbers, int)
        there, missed = set(numbers.tolist()), []
        if self.elements is not None and (more := there - self.elements):
            missed.append(f"holds {', '.join(_symbols(more))}")
        if lacking := self.contain - there:
            missed.append(f"lacks {', '.join(_symbols(lacking))}")
        asked = self.num_atoms
        if self.given is not None and self.added is not None:
            asked = self.given.size + self.added[0], self.given.size + self.added[1]
        if asked is not None and not asked[0] <= len(numbers) <= asked[1]:
            missed.append(f"has {len(numbers)} atoms")
        if self.formulas:
            formula = self.formulas[index % len(self.formulas)]
            counts = {z: int((numbers == z).sum()) for z in there}
            units = len(numbers) / sum(formula.values())
            if counts != {z: n * units for z, n in formula.items()}:
                missed.append(f"is not {_written(formula)}")
        return missed


def _numbers(name: str, symbols: str | Sequence[str], *, groups: bool = False) -> frozenset[int]:
    """Atomic numbers of symbols, and of groups where they are allowed."""
    from pymatgen.core import Element

    if isinstance(symbols, str):
        symbols = symbols.split(",")
    known = {e.symbol: e.Z for e in map(Element.from_Z, range(1, NUM_TYPES))}
    found: set[int] = set()
    for symbol in (s.strip() for s in symbols):
        if groups and symbol in GROUPS:
            found |= {z for z in known.values() if getattr(Element.from_Z(z), GROUPS[symbol])}
        elif symbol in known:
            found.add(known[symbol])
        else:
            words = [*known, *(GROUPS if groups else ())]
            more = f", or {', '.join(GROUPS)}" if groups else ""
            hint = did_you_mean(symbol, words) or did_you_mean(symbol.capitalize(), words)
            raise ValueError(
                f"{name} holds {symbol!r}{hint}; allowed: symbols of the "
                f"elements up to Es, such as Li,Fe,O{more}"
            )
    return frozenset(found)


def _range(name: str, value: str | int | Range | None, smallest: int) -> Range | None:
    """12, "12", "8..12" or a pair as a range."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            ends = [int(x) for x in value.split("..")]
        else:
            ends = [value] if isinstance(value, int) else [int(x) for x in value]
        low, high = ends if len(ends) == 2 else ends * 2
    except ValueError:
        low, high = 1, 0
    if not smallest <= low <= high:
        raise ValueError(
            f"{name} is {value}; allowed: a whole number from {smallest} on, or a range such as "
            f"{max(smallest, 4)}..8, the smaller number first"
        )
    return low, high


def _formula(text: str) -> dict[int, int]:
    """The atoms of a formula unit, as it is written."""
    from pymatgen.core import Composition

    try:
        composition = Composition(text.strip())
        counts = {element.Z: float(n) for element, n in composition.items()}
    except Exception as error:  # pymatgen raises several kinds
        raise ValueError(f"formula {text!r} is not understood ({error}): write LiFePO4") from error
    whole = {z: round(n) for z, n in counts.items()}
    in_parts = any(abs(whole[z] - n) > 1e-6 for z, n in counts.items())
    if not counts or in_parts or not all(1 <= z < NUM_TYPES for z in counts):
        raise ValueError(
            f"formula {text!r} has no atoms, a part of one, or an element beyond Es: write whole "
            "numbers, such as LiFePO4"
        )
    return whole


def _crystal(name: str, structure: Structure) -> Crystal:
    """A crystal in its Niggli cell, the cell that networks know crystals in."""
    from pymatgen.core import Structure

    from miad_jax.data.niggli import niggli_reduce
    from miad_jax.data.standard import right_handed, structure_arrays

    if not isinstance(structure, Structure):
        raise TypeError(f"{name} is {structure!r}; allowed: a pymatgen Structure")
    try:
        lattice, frac_coords, types = structure_arrays(structure)
    except ValueError as error:
        raise ValueError(f"the crystal of {name} {error}") from error
    lattice, frac_coords = right_handed(
        np.asarray(lattice, np.float64), np.asarray(frac_coords, np.float64)
    )
    lattice, frac_coords = niggli_reduce(lattice, frac_coords)
    arrays: tuple[Any, ...] = (
        lattice.astype(np.float32),
        (frac_coords % 1).astype(np.float32) % 1,
        types,
        np.ones(len(types), bool),
    )
    return Crystal(*arrays)


def _repeated(crystal: Crystal, num: int) -> Crystal:
    """A batch of the same crystal."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], num, 0), crystal)


def _drawn(keys: PRNGKeyArray, weights: np.ndarray) -> np.ndarray:
    """A number for each key, by weights [numbers] or [samples, numbers]."""
    logits = jnp.log(jnp.asarray(weights, jnp.float32))
    logits = jnp.broadcast_to(logits, (keys.shape[0], logits.shape[-1]))
    return np.asarray(jax.vmap(jax.random.categorical)(streams(keys, NUM_ATOMS), logits))


def _mask(numbers: frozenset[int], num: int) -> jax.Array:
    """[num, types], True for these atomic numbers."""
    mask = np.zeros((num, NUM_TYPES), bool)
    mask[:, sorted(numbers)] = True
    return jnp.asarray(mask)


def _oxidation_states() -> np.ndarray:
    """The least and the greatest common oxidation state of each type, 0 where there is none."""
    from pymatgen.core import Element

    states = [Element.from_Z(z).common_oxidation_states or (0,) for z in range(1, NUM_TYPES)]
    return np.array([(0, 0), *((min(x), max(x)) for x in states)], np.float32)


def _symbols(numbers: set[int] | frozenset[int]) -> list[str]:
    from pymatgen.core import Element

    return [Element.from_Z(z).symbol for z in sorted(numbers)]


def _written(formula: Mapping[int, int]) -> str:
    from pymatgen.core import Composition, Element

    return Composition({Element.from_Z(z): n for z, n in formula.items()}).formula.replace(" ", "")
