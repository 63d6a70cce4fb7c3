"""From the text of a CIF to its crystal, with nothing guessed in silence.

pymatgen reads a CIF and repairs what it can: a site whose symbol it does not know gets the
element of its first letter, a missing number is 0. Here such a site is refused with the reason.
`cif_contents` and `cif_symmetry` hold the crystal against what else the file says of it.

This module imports nothing of miad_jax: it lies beside `standard`, which worker processes run.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.core.operations import SymmOp

MAX_ATOMS = 2000
"""A larger cell is refused: pymatgen reads and describes one of this size in some ten seconds."""

_MAX_IMAGES = 50_000
"""Sites times operations at most, which pymatgen compares with each other."""

OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
SYMBOLS = (
    *("_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt"),
    *("_space_group_name_H-M_full", "_space_group_name_H-M_ref", "_space_group_name_H-M"),
    *("_symmetry_space_group_name_H-M_alt", "_symmetry_space_group_name_HM"),
    "_space_group_name_Schoenflies",
)
HALL_SYMBOLS = ("_symmetry_space_group_name_Hall", "_space_group_name_Hall")
NUMBERS = (
    *("_symmetry_Int_Tables_number", "_space_group_IT_number"),
    *("_space_group_number", "_symmetry_space_group_number"),
)
SYSTEMS = ("_symmetry_cell_setting", "_space_group_crystal_system")
MULTIPLICITIES = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
_CELL = (
    *(f"_cell_length_{x}" for x in "abc"),
    *(f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")),
)
_COORDS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_TAGS = (
    *_COORDS,
    *("_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy"),
    "_atom_site_attached_hydrogens",
    *_CELL,
    *("_chemical_formula_sum", "_cell_formula_units_Z"),
    *OPERATIONS,
    *SYMBOLS,
    *HALL_SYMBOLS,
    *NUMBERS,
    *SYSTEMS,
    *MULTIPLICITIES,
)
_SPELLING = {tag.lower(): tag for tag in _TAGS}
_NOT_GIVEN = ("", ".", "?")
_AS_ASCII = {
    **dict.fromkeys((0x2212, 0x2010, 0x2011, 0x2013), "-"),
    0x2044: "/",
    **dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)),  # nothing is to be seen
}
_TWO_READINGS = {
    "CO": "cobalt or C and O",
    "CF": "californium or C and F",
    "HO": "holmium or H and O",
    "NO": "nobelium or N and O",
    "PO": "polonium or P and O",
    "RE": "rhenium or a rare earth",
}
_OPERATION = re.compile(r"[xyz\d+\-/.,\s]*[xyz\d.\s]", re.IGNORECASE)
_HYDROUS = re.compile(r"(O[WH]|WAT|H2O|HOH|O\d+W)", re.IGNORECASE)


@dataclass(frozen=True)
class Cif:
    """A crystal and the block that it was read from.

    Attributes:
        tags: The block's values by tag; a list of texts where they are in a loop.
        structure: The crystal.
        operations: The symmetry operations that made it.
        magnetic: Whether they are those of a magnetic group.
        warnings: What the parser says of the block.
    """

    tags: Mapping[str, Any]
    structure: Structure
    operations: Sequence[SymmOp]
    magnetic: bool
    warnings: Sequence[str]

    @property
    def num_listed(self) -> int:
        """How many symmetry operations the file lists."""
        return next((len(x) for tag in OPERATIONS if (x := _values(self.tags, tag))), 0)

    @property
    def implies_symmetry(self) -> bool:
        """Whether the file says, if only of a site or the cell, that there is symmetry."""
        if self.text(*SYSTEMS).lower() not in ("", "triclinic", "anorthic"):
            return True
        if any(len(_values(self.tags, x)) > 1 for x in self.tags if re.search("sym.*xyz$", x)):
            return True  # operations by another name
        return any(_number(x) > 1 for tag in MULTIPLICITIES for x in _values(self.tags, tag))

    def text(self, *tags: str) -> str:
        """The first of some tags' values that is given, else an empty text."""
        values = (x for tag in tags for x in _values(self.tags, tag)[:1])
        return next((x for x in values if x.strip() not in _NOT_GIVEN), "")


def crystal_blocks(text: str) -> list[str]:
    """The blocks of a CIF that place atoms, each as the text of a CIF of its own.

    A line of a text field is no header of a block, whatever it begins with.
    """
    blocks: list[list[str]] = [[]]
    in_field = False
    for line in _ascii(text.rstrip("\0\x1a")).splitlines():
        in_field ^= line.startswith(";")
        if in_field:
            line = re.sub(r"^(;?\s*)data_", r"\1data ", line, flags=re.IGNORECASE)
        elif header := re.match(r"\s*data_", line, re.IGNORECASE):
            blocks.append([])
            line = "data_" + line[header.end() :]
        else:
            line = re.sub(r"^\s*loop_(?=\s|$)", "loop_", line, flags=re.IGNORECASE)
            line = re.sub(r"(^\s*|^loop_\s+)(_[\w.\-/\[\]]+)", _spelled, line)
        blocks[-1].append(line)
    texts = ["\n".join(lines) + "\n" for lines in blocks[1:]]
    return [text for text in texts if re.search(r"^\s*_atom_site_(fract|Cartn)_x\b", text, re.M)]


def read_cif_text(text: str) -> Cif:
    """Read the one crystal of a CIF.

    Raises:
        ValueError: If it holds none or several, or a site or number that is not understood.
    """
    from pymatgen.io.cif import CifParser

    blocks = crystal_blocks(text)
    if len(blocks) != 1:
        raise ValueError(
            f"holds {len(blocks)} crystals: give each a row of its own"
            if blocks
            else "is no CIF with atoms: it has no block with _atom_site_fract_x"
        )
    _check_tags(blocks[0])
    with warnings.catch_warnings(record=True) as said:  # they are checked for here
        warnings.simplefilter("always")
        try:
            parser: Any = CifParser.from_str(blocks[0], check_cif=False)
        except (ZeroDivisionError, IndexError, ValueError) as error:
            raise ValueError(
                "is no CIF: a loop_ is cut or empty, or atom sites stand outside a loop_"
            ) from error
        except KeyError as error:
            raise ValueError(f"lacks {_named(error)}") from error
        _check_left_over([str(x.message) for x in said])
        ((_, tags),) = parser.as_dict().items()
        _check_sites(tags)
        try:
            (structure,) = parser.parse_structures(primitive=False, on_error="raise")
        except (ValueError, IndexError, OverflowError) as error:
            raise ValueError(_why_not_parsed(error, parser.warnings)) from error
    if len(structure) > MAX_ATOMS:
        raise ValueError(too_large(len(structure)))
    magnetic = bool(parser.feature_flags["magcif"]) and any("magn_operation" in x for x in tags)
    return Cif(tags, structure, parser.symmetry_operations, magnetic, parser.warnings)


def too_large(num_atoms: int) -> str:
    """Why a cell of so many atoms is not read."""
    return f"has {num_atoms} atoms; cells of up to {MAX_ATOMS} are read: give a smaller cell"


def unclear_sites(cif: Cif) -> str:
    """What is unclear about the elements of sites, in words; empty if nothing is.

    A formula that the crystal agrees with makes it clear.
    """
    has_types = "_atom_site_type_symbol" in cif.tags
    for symbol in _symbols(cif.tags):
        letters = re.match(r"[A-Za-z~]*", symbol)[0]  # type: ignore[index]
        if _HYDROUS.match(symbol):
            return f"the hydrogen of the site {symbol!r} is not placed"
        if letters in _TWO_READINGS:
            return f"the site {symbol!r} may be {_TWO_READINGS[letters]}"
        # A label may go on with letters of its own, as O1A does.
        more = has_types and re.search("[A-Z]", symbol[len(letters) :])
        if more or not _is_element(letters):
            return f"the site {symbol!r} names no element (a dummy, a vacancy or a molecule?)"
    if any(_number(x) for x in cif.tags.get("_atom_site_attached_hydrogens", ())):
        return "a site has attached hydrogens that are not placed"
    has_hydrogen = any(site.specie.Z == 1 for site in cif.structure)
    named = [label for label in cif.tags["_atom_site_label"] if _HYDROUS.match(label)]
    if named and not has_hydrogen:
        return f"the hydrogen of the site {named[0]!r} is not placed"
    return ""


def _check_sites(tags: Mapping[str, Any]) -> None:
    """Refuse sites with numbers that pymatgen would replace; an occupancy `.` becomes 1.

    Raises:
        ValueError: If there are any.
    """
    needed = ("_cell_length_a", "_atom_site_label", *_COORDS)
    missing = [tag for tag in needed if tag not in tags]
    if missing:
        raise ValueError(f"lacks {missing[0]}")
    if modulated := [x for x in tags if "_ssg_" in x or x == "_cell_modulation_dimension"]:
        raise ValueError(f"is modulated ({modulated[0]}), so that no cell repeats")
    if not isinstance(tags["_atom_site_label"], list):
        raise ValueError("has its atom sites outside a loop_: write them as a table")
    num_sites = len(tags["_atom_site_label"])
    if num_sites > MAX_ATOMS:
        raise ValueError(too_large(num_sites))
    operations = [_values(tags, tag) for tag in OPERATIONS]
    for operation in (x for listed in operations for x in listed):
        if operation not in _NOT_GIVEN and not _OPERATION.fullmatch(operation):
            raise ValueError(f"has the symmetry operation {operation!r}, which is not understood")
    images = num_sites * max(1, *map(len, operations))
    if images > _MAX_IMAGES:
        raise ValueError(
            f"has {images} images of its sites; up to {_MAX_IMAGES} are read: give a smaller cell"
        )
    if looped := [x for x in (*SYMBOLS, *HALL_SYMBOLS, *NUMBERS) if isinstance(tags.get(x), list)]:
        raise ValueError(f"has {looped[0]} in a loop_: write the one that it is")
    for label, *coords in zip(*(tags[tag] for tag in ("_atom_site_label", *_COORDS)), strict=True):
        if any(x in _NOT_GIVEN for x in coords):
            raise ValueError(f"does not place the site {label!r}: a coordinate is not given")
    for tag in (*_CELL, *_COORDS):
        for value in _values(tags, tag):
            if "_" in value:  # Python reads 0_5 as 5
                raise ValueError(f"has {tag} {value!r}, which is no number")
    occupancies = tags.get("_atom_site_occupancy", [])
    for i, value in enumerate(occupancies):
        if value in _NOT_GIVEN:
            occupancies[i] = "1"
        elif not 0 <= _number(value) < math.inf:
            label = tags["_atom_site_label"][i]
            raise ValueError(f"has an occupancy of {value!r} at the site {label!r}")
        elif _number(value) > 1:
            label = tags["_atom_site_label"][i]
            raise ValueError(f"has an occupancy of {value} at the site {label!r}, which is above 1")


def _check_left_over(said: Sequence[str]) -> None:
    """Refuse values behind no tag, as rows of atoms are that a line cuts from their table.

    Raises:
        ValueError: If there are three numbers or more.
    """
    found = [x[1] for text in said if (x := re.match(r"Possible issue in CIF file.*: (.*)", text))]
    numbers = [x for x in found if not math.isnan(_number(x)) and x not in _NOT_GIVEN]
    if len(numbers) >= 3:
        raise ValueError(f"is no CIF: values belong to no tag: {' '.join(found[:8])}")


def _check_tags(block: str) -> None:
    """Refuse a tag that stands twice, of which pymatgen takes the last.

    Raises:
        ValueError: If there is one.
    """
    seen: set[str] = set()
    in_field = False
    for line in block.splitlines():
        in_field ^= line.startswith(";")
        found = re.match(r"\s*(?:loop_\s+)?(_\S+)", line)
        if in_field or not found or found[1] not in _TAGS:
            continue
        if found[1] in seen:
            raise ValueError(f"has {found[1]} twice: give each crystal a data_ block of its own")
        seen.add(found[1])


def _why_not_parsed(error: Exception, said: Sequence[str]) -> str:
    """Why pymatgen found no crystal, in words."""
    for text in (str(error), *said):
        if found := re.search(r"Some occupancies \(\[([^\]]*)\]\)", text):
            sums = ", ".join(f"{float(x):g}" for x in found[1].split(","))
            return f"has atoms that share a site: occupancies sum to {sums}"
    if isinstance(error.__cause__, KeyError):
        return f"lacks {_named(error.__cause__)}"
    return f"cannot be read: {error.__cause__ or error}"


def _symbols(tags: Mapping[str, Any]) -> list[str]:
    """What names the element of each site."""
    return list(tags.get("_atom_site_type_symbol", tags["_atom_site_label"]))


def _values(tags: Mapping[str, Any], tag: str) -> list[str]:
    """The values of a tag, whether it is in a loop or not; none if it is not there."""
    found = tags.get(tag, [])
    return [found] if isinstance(found, str) else list(found)


def _is_element(letters: str) -> bool:
    from pymatgen.core import Element

    return Element.is_valid_symbol(letters.title())


def _number(text: str) -> float:
    """A number without its uncertainty; NaN where there is none, as in `?`."""
    try:
        return float(re.sub(r"\(\d*\)?$", "", text))
    except ValueError:
        return math.nan if text not in _NOT_GIVEN else 0.0


def _named(error: KeyError) -> str:
    return str(error.args[0]) if error.args else "a value"


def _spelled(found: re.Match[str]) -> str:
    """A tag as pymatgen spells it.

    CIF does not tell capitals from small letters, and newer dictionaries have a dot behind the
    category, as in `_atom_site.label`.
    """
    before, tag = found.groups()
    return before.lstrip() + _SPELLING.get(tag.lower().replace(".", "_"), tag)


def _ascii(text: str) -> str:
    """Text in ASCII, which is all that pymatgen reads: it would drop other characters in silence.

    The minus signs and spaces of word processors become those of ASCII, all else a `~`.
    """
    if text.isascii():
        return text
    text = re.sub(r"[^\S\n\r\x0b\x0c\t ]", " ", text.translate(_AS_ASCII))
    return re.sub(r"[^\x00-\x7f]", "~", text)
