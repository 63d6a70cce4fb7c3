"""A CIF is read as it says, or refused with the reason."""

import csv
import gzip
import io
import re
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from miad_jax.data import load_dataset, to_structures
from miad_jax.data.cif import MAX_ATOMS, crystal_blocks
from miad_jax.data.cif_symmetry import settings_of
from miad_jax.data.standard import standardize, structure_of

SITE = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
NACL = ("Na1 Na 0 0 0 1", "Cl1 Cl .5 .5 .5 1")
WHOLE = (*NACL, "Na2 Na .5 .5 0 1", "Na3 Na .5 0 .5 1", "Na4 Na 0 .5 .5 1",
         "Cl2 Cl 0 0 .5 1", "Cl3 Cl 0 .5 0 1", "Cl4 Cl .5 0 0 1")  # fmt: skip
IDENTITY = ("x,y,z",)
CENTRED = ("x,y,z", "x+1/2,y+1/2,z", "x+1/2,y,z+1/2", "x,y+1/2,z+1/2")
WURTZITE = ("x,y,z", "-y,x-y,z", "-x+y,-x,z", "-x,-y,z+1/2", "y,-x+y,z+1/2", "x-y,x,z+1/2")


def cif(*atoms, cell=(5.64, 5.64, 5.64, 90, 90, 90), operations=(), columns=SITE, name="x", **tags):
    """A CIF; a tag's name is given without its first underscore."""
    edges = zip(("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
                cell, strict=True)  # fmt: skip
    lines = [f"data_{name}", *(f"_cell_{tag} {x}" for tag, x in edges)]
    lines += [f"_{tag} '{value}'" for tag, value in tags.items()]
    if operations:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{x}'" for x in operations)]
    lines += ["loop_", *(f"_atom_site_{x}" for x in columns), *atoms]
    return "\n".join(lines) + "\n"


def symmetry(symbol=None, number=None, hall=None, formula=None, z=None):
    found = {
        "symmetry_space_group_name_H-M": symbol,
        "symmetry_Int_Tables_number": number,
        "space_group_name_Hall": hall,
        "chemical_formula_sum": formula,
        "cell_formula_units_Z": z,
    }
    return {name: value for name, value in found.items() if value is not None}


def read(text):
    """The formula of the crystal, or why there is none."""
    (found,) = standardize(([text], {"primitive": False, "niggli": False}))
    return found if isinstance(found, str) else structure_of(text).composition.formula


@pytest.mark.parametrize("said", [
    symmetry("F m -3 m"), symmetry("F_m_-3_m"), symmetry("F m \u22123 m"), symmetry(number=225),
    symmetry("Fm3m", 225), symmetry("F m -3 m", formula="Na4 Cl4", z=4),
])  # fmt: skip
def test_a_group_that_is_understood_fills_the_cell(said):
    assert read(cif(*NACL, **said)) == "Na4 Cl4"


@pytest.mark.parametrize("said", [
    symmetry("Fm3m"), symmetry("FM-3M"), symmetry("F m -3 m (225)"), symmetry(hall="-F 4 2 3"),
    symmetry("Fm3m", formula="Na4 Cl4", z=4),
])  # fmt: skip
def test_a_group_that_is_not_understood_is_no_p1(said):
    reason = read(cif(*NACL, **said))
    assert "is not understood" in reason or "symmetry operations are missing" in reason
    assert "Defaulting to P1" in reason


@pytest.mark.parametrize("said", [
    symmetry("F m -3 m"), symmetry(number=225), symmetry("P 1", 225), symmetry(hall="-F 4 2 3"),
])  # fmt: skip
def test_a_group_that_x_y_z_contradicts_is_refused_unless_all_atoms_are_there(said):
    assert "but only the operation x,y,z" in read(cif(*NACL, operations=IDENTITY, **said))
    assert read(cif(*WHOLE, operations=IDENTITY, **said)) == "Na4 Cl4"


def test_an_element_in_half_of_its_cell_is_refused():
    arsenic = {"cell": (4.13, 4.13, 4.13, 54.1, 54.1, 54.1), "operations": IDENTITY}
    said = symmetry("R -3 m :R", 166)
    one, both = ("As1 As .23 .23 .23 1",), ("As1 As .23 .23 .23 1", "As2 As .77 .77 .77 1")
    assert "but only the operation x,y,z" in read(cif(*one, **arsenic, **said))
    assert read(cif(*both, **arsenic, **said)) == "As2"


@pytest.mark.parametrize(
    ("symbol", "number", "found"),
    [("P 21/c", 14, "Zr4"), ("P 1 21/c 1", None, "Zr4"), ("P 1 21/n 1", None, "Zr4"),
     ("P 21/n", 14, "setting that is not understood"), ("P 21/c", None, "is not understood")],
)  # fmt: skip
def test_a_setting_is_the_one_that_is_meant(symbol, number, found):
    text = cif("Zr1 Zr .27 .04 .2 1", cell=(5, 6, 7, 90, 99, 90), **symmetry(symbol, number))
    assert found in read(text)


def test_one_of_two_origins_is_not_guessed():
    diamond = ("C1 C .125 .125 .125 1",), (3.567, 3.567, 3.567, 90, 90, 90)
    for said in (symmetry("F d -3 m"), symmetry(number=227)):
        assert "2 settings" in read(cif(*diamond[0], cell=diamond[1], **said))
    counted = symmetry("F d -3 m", formula="C", z=8)
    assert "holds 8 units" in read(cif(*diamond[0], cell=diamond[1], **counted))
    assert read(cif("C1 C 0 0 0 1", cell=diamond[1], **counted)) == "C8"


def test_operations_fit_the_cell_and_are_all_understood():
    bismuth = "Bi1 Bi .23 .23 .23 1"
    rhombohedral = cif(bismuth, cell=(4.7, 4.7, 4.7, 57, 57, 57), **symmetry("R -3 m"))
    assert "lacks the symmetry of its operation" in read(rhombohedral)
    for wrong in ("-y,x,z", "-x,-y;z", "nonsense"):
        assert not read(cif(*NACL, operations=("x,y,z", wrong))).startswith("Na")
    assert "no group" in read(cif(*NACL, operations=("x,y,z", "-y,x,z")))


@pytest.mark.parametrize("wrong", [
    CENTRED[:3], CENTRED[1:], ("x,y,z", "-x,y+1/4,-z"), ("x,y,z", "-x,-y,-z", "-x,-y,-z+1/2"),
])  # fmt: skip
def test_operations_without_one_of_their_products_are_no_group(wrong):
    assert "no group" in read(cif("Na1 Na .1 .2 .3 1", operations=wrong))


def test_translations_may_be_in_decimals_and_of_any_denominator():
    fifths = [f"x+{i}/5,y,z" for i in range(5)]
    assert read(cif("Na1 Na .1 .2 .3 1", operations=fifths)) == "Na5"
    screw = ("x,y,z", "-y,x-y,z+0.33", "-x+y,-x,z+0.67")
    cell = (5, 5, 9, 90, 90, 120)
    assert read(cif("Na1 Na .1 .2 .3 1", operations=screw, cell=cell)) == "Na3"


@pytest.mark.parametrize("wrong", ["x+\u00bd,y,z", "a+1/2,b,c", "-1*x,-y,-z", "x+y*,y,z", "x,y,z-"])
def test_an_operation_is_understood_or_named(wrong):
    assert "which is not understood" in read(cif(*NACL, operations=("x,y,z", wrong)))


def test_tags_are_read_in_any_case_and_with_dots():
    text = cif(*NACL, operations=CENTRED).replace("_equiv_pos", "_Equiv_Pos")
    assert read(text.replace("data_", "DATA_").replace("loop_", "Loop_")) == "Na4 Cl4"
    dotted = re.sub("_(cell|atom_site)_", r"_\1.", text)
    modern = dotted.replace("_symmetry_Equiv_Pos_as", "_space_group_symop.operation")
    assert read(modern) == "Na4 Cl4"
    assert "implies symmetry" in read(text.replace("_symmetry_Equiv_Pos", "_symmetry_operation"))
    two = dotted + cif("Cs1 Cs 0 0 0 1").replace("_atom_site_", "_atom_site.")
    assert [read(x) for x in crystal_blocks(two)] == ["Na4 Cl4", "Cs1"]


@pytest.mark.parametrize("tag", [
    "space_group_name_H-M_full", "space_group_name_H-M", "symmetry_space_group_name_H-M_alt",
    "space_group.name_H-M_alt", "space_group_name_Schoenflies", "space_group_crystal_system",
    "symmetry_cell_setting", "space_group_number", "space_group.IT_number",
])  # fmt: skip
def test_symmetry_in_any_tag_is_no_p1(tag):
    said = "225" if "umber" in tag else "cubic" if tag[-3:] in ("tem", "ing") else "F m -3 m"
    assert read(cif(*NACL, **{tag: said})) != "Na1 Cl1"
    assert read(cif(*NACL, operations=CENTRED, **{tag: said})) == "Na4 Cl4"


def test_a_symbol_in_a_loop_is_refused():
    loop = "loop_\n_symmetry_space_group_name_H-M\n'F m -3 m'\nloop_"
    assert "has _symmetry_space_group_name_H-M in a loop_" in read(
        cif(*NACL).replace("loop_", loop, 1)
    )


def test_sites_of_several_atoms_are_no_p1():
    columns = (*SITE, "symmetry_multiplicity")
    several = [f"{x} 4" for x in NACL]
    assert "implies symmetry" in read(cif(*several, columns=columns))
    assert read(cif(*several, columns=columns, operations=CENTRED)) == "Na4 Cl4"


def test_a_symbol_of_other_axes_is_not_replaced_by_the_number():
    for symbol in ("B 21/c", "B 1 21/d 1"):
        text = cif("Zr1 Zr .27 .04 .2 1", cell=(5, 6, 7, 90, 99, 90), **symmetry(symbol, 14))
        assert "is not understood" in read(text)
    rhombohedral = cif("Bi1 Bi .2 .2 .2 1", cell=(5, 5, 5, 57, 57, 57), **symmetry("R -3 m :H"))
    assert "is not understood" in read(rhombohedral)


@pytest.mark.parametrize(
    ("formula", "z", "agrees"),
    [("Na4 Cl4", 4, True), ("Na4 Cl4", 1, True), ("Na Cl", 4, True), ("Na Cl", "4.0", True),
     ("Na Cl", "?", True), ("Cl4Na4", None, True), ("Na1+ Cl1-", 4, True), ("NA CL", 4, True),
     ("Na0.5 Cl0.5", 8, True), ("no formula!", 4, True), ("Na Cl", 1, False), ("Na Cl", 2, False),
     ("Na8 Cl8", "?", False), ("Na2 Cl3", None, False), ("K Cl", None, False),
     ("Na Cl H", 4, False), ("Na Cl (H2 O)", 4, False), ("Na Cl, 2(H2 O)", 4, False),
     ("NaCl.H2O", None, False), ("Na +, Cl -", 4, True), ("Na1e400 Cl", 4, True),
     ("Na" + "9" * 400 + " Cl", None, True), ("rock salt", 4, True)],
)  # fmt: skip
def test_contents_are_held_against_formula_and_z(formula, z, agrees):
    found = read(cif(*NACL, operations=CENTRED, **symmetry(formula=formula, z=z)))
    assert (found == "Na4 Cl4") == agrees
    if not agrees:
        assert "Na4 Cl4" in found
        assert repr(formula) in found


def test_a_cell_without_symmetry_must_hold_all_units():
    assert "holds 4 units of 'Na Cl', but it holds Na1 Cl1" in read(
        cif(*NACL, **symmetry(formula="Na Cl", z=4))
    )
    assert "holds 4 formula units, but it holds Na1 Cl1" in read(cif(*NACL, **symmetry(z=4)))
    for z in (4, "nan", "1e400"):
        assert read(cif(*NACL, operations=CENTRED, **symmetry(z=z))) == "Na4 Cl4"


@pytest.mark.parametrize(
    ("occupancy", "found"),
    [(".", "Cs1 Cl1"), ("?", "Cs1 Cl1"), ("1.0(2)", "Cs1 Cl1"), ("0", "Cs1"),
     ("-0.5", "occupancy of '-0.5'"), ("0,5", "occupancy of '0,5'"), ("nan", "occupancy of 'nan'"),
     ("1.5", "above 1"), ("0.5", "is disordered")],
)  # fmt: skip
def test_an_occupancy_is_what_it_says(occupancy, found):
    assert found in read(cif("Cs1 Cs 0 0 0 1", f"Cl1 Cl .5 .5 .5 {occupancy}", operations=IDENTITY))


@pytest.mark.parametrize("symbol", ["Vac", "Va", "VAC", "X", "Xx", "Q1", "Du", "Bq", "E", "?", ".",
                                    "Fe/Co", "Fe,Co", "O(H)", "O2H", "C\u043e"])  # fmt: skip
def test_dummies_and_vacancies_are_refused(symbol):
    assert "names no element" in read(cif("Cs1 Cs 0 0 0 1", f"X1 {symbol} .5 .5 .5 1"))


@pytest.mark.parametrize(
    ("label", "symbol"),
    [("O1", "H2O"), ("O1", "OH"), ("O1", "OH-"), ("O1", "Wat"), ("O1", "Ow"), ("O1", "OH2"),
     ("OW1", "O"), ("O1W", "O"), ("Wat1", "O"), ("OH1", "O"), ("N1", "NH4"), ("N1", "NO3")],
)  # fmt: skip
def test_molecules_without_their_hydrogens_are_refused(label, symbol):
    assert not read(cif("Cs1 Cs 0 0 0 1", f"{label} {symbol} .5 .5 .5 1")).startswith("Cs")


def test_water_whose_hydrogens_are_there_is_read():
    atoms = "Ow1 O 0 0 0 1", "Hw1 H .1 0 0 1", "Hw2 D 0 .1 0 1"
    assert read(cif(*atoms)) == "H2 O1"
    assert read(cif(*atoms, **symmetry(formula="D2 O", z=1))) == "H2 O1"


@pytest.mark.parametrize(
    ("label", "formula", "found"),
    [("Cl1", None, "Cs1 Cl1"), ("CL1", None, "Cs1 Cl1"), ("Si2_3", None, "Cs1 Si1"),
     ("Fe3+", None, "Cs1 Fe1"), ("D1", None, "Cs1 H1"), ("CO1", None, "may be cobalt"),
     ("CO1", "Cs Co", "Cs1 Co1"), ("OA1", None, "names no element"), ("OA1", "Cs O", "Cs1 O1"),
     ("OH1", "Cs O H", "O is not placed"), ("Vac", "Cs Cl", "Cl is not placed")],
)  # fmt: skip
def test_labels_without_type_symbols_name_an_element_or_the_formula_does(label, formula, found):
    columns = ("label", "fract_x", "fract_y", "fract_z")
    text = cif("Cs1 0 0 0", f"{label} .5 .5 .5", columns=columns, **symmetry(formula=formula))
    assert found in read(text)


def test_hydrogens_that_are_only_counted_are_missing():
    columns = (*SITE, "attached_hydrogens")
    text = cif("Na1 Na 0 0 0 1 0", "O1 O .5 .5 .5 1 1", columns=columns)
    assert "attached hydrogens that are not placed (pymatgen: Structure has" in read(text)


def test_shared_sites_say_their_occupancy():
    for second in ("Na2 Na 0 0 0 1", "K1 K 1 0 0 1"):
        assert "occupancies sum to 2" in read(cif("Na1 Na 0 0 0 1", second))
    assert "place of an oxygen" in read(cif("O1 O 0 0 0 1", "H1 H 0 0 0 1"))


@pytest.mark.parametrize("symbol", ["CO", "HO", "NO", "PO4", "CF3", "RE"])
def test_symbols_in_capitals_may_be_molecules(symbol):
    assert "may be" in read(cif("Cs1 Cs 0 0 0 1", f"X1 {symbol} .5 .5 .5 1"))


@pytest.mark.parametrize("value", [
    ".", "?", "0,25", "\ufffd0.25", "0.2\u00bd", "\uff15", "0_25", "\u0661",
])  # fmt: skip
def test_a_coordinate_that_is_no_number_is_not_zero(value):
    assert not read(cif(f"Cs1 Cs {value} 0 0 1")).startswith("Cs")
    assert not read(cif(*NACL, cell=(5.64, 5.64, value, 90, 90, 90))).startswith("Na")


def test_a_minus_sign_of_a_word_processor_is_one():
    assert structure_of(cif("Cs1 Cs \u22120.25\u00a00 0 1"))[0].frac_coords[0] == -0.25 % 1


def test_coordinates_too_coarse_for_their_symmetry_are_refused():
    atoms, cell = ("Zn1 Zn .333 .667 0 1", "O1 O .333 .667 .382 1"), (3.25, 3.25, 5.2, 90, 90, 120)
    assert "copies of one atom" in read(cif(*atoms, cell=cell, operations=WURTZITE))
    fine = [x.replace(".333", ".3333").replace(".667", ".6667") for x in atoms]
    assert read(cif(*fine, cell=cell, operations=WURTZITE)) == "Zn2 O2"


def test_every_block_with_atoms_is_a_crystal():
    first, second = cif(*NACL), cif("Cs1 Cs 0 0 0 1")
    header = "data_global\n_publ_contact_author 'A. Author'\n"
    assert [read(x) for x in crystal_blocks(header + first + second)] == ["Na1 Cl1", "Cs1"]
    assert "holds 2 crystals" in read(first + second)


def test_text_fields_begin_no_block():
    field = "_publ_section_title\n;\ndata_in a text\nloop_\n;\n"
    text = cif(*NACL, operations=CENTRED)
    assert read(text.replace("loop_", field + "loop_", 1)) == "Na4 Cl4"


@pytest.mark.parametrize("text", [
    "prose", "data_x\n", cif(*NACL).replace("_cell_length_a", "_lost"), cif("Na1 Na 0 0 1"),
    cif(*NACL).replace("loop_", "loop_\n_a\n_b\nloop_"),
    re.sub("loop_|Cl1.*", "", cif(*NACL)),
])  # fmt: skip
def test_what_is_no_cif_has_a_reason_in_words(text):
    assert re.match(r"(is no CIF|lacks _)", read(text))


def test_a_table_that_is_cut_or_replaced_is_refused():
    assert "belong to no tag: Na3 Na" in read(cif(*WHOLE[:3], "_remark x", *WHOLE[3:]))
    second = "loop_\n_atom_site_label\n_atom_site_fract_x\nK1 0\n"
    assert "has _atom_site_label twice" in read(cif(*NACL) + second)
    assert read(cif(*NACL, operations=CENTRED) + "\x1a\0\0") == "Na4 Cl4"


@pytest.mark.parametrize("tag", [
    "_cell_modulation_dimension 1", "loop_\n_space_group_symop_ssg_operation_algebraic\nx1,x2",
])  # fmt: skip
def test_a_modulated_crystal_is_refused(tag):
    assert "is modulated" in read(cif(*NACL).replace("loop_", f"{tag}\nloop_", 1))


def test_a_giant_cell_is_refused_before_it_is_read():
    atoms = [f"Na{i} Na {i / 1e4} 0 0 1" for i in range(MAX_ATOMS + 1)]
    assert f"has {MAX_ATOMS + 1} atoms; cells of up to {MAX_ATOMS}" in read(cif(*atoms))
    assert "images" in read(cif(*atoms[:300], operations=["x,y,z"] * 192))


def test_symbols_lead_to_their_settings():
    assert settings_of("P 1 21/c 1") == [81]
    assert set(settings_of("P 21/c")) > {81}
    assert settings_of("F d -3 m") == [525, 526]
    assert settings_of("Fd-3m:2") == settings_of("F d -3 m Z") == [526]
    assert settings_of("Fd3m") == settings_of("F d -3 m")
    assert settings_of("R -3 m :H") == settings_of("x", hall='-R 3 2"') == [458]
    assert settings_of("nonsense") == []


def as_before(text):
    """What pymatgen reads on its own; None where that is no ordered crystal."""
    try:
        found = Structure.from_str(text, fmt="cif")
    except ValueError:
        return None
    return found if found.is_ordered else None


def assert_read_as_before(texts):
    """Every ordered crystal of pymatgen is read, bit for bit; their number is returned."""
    known = [(text, found) for text in texts if (found := as_before(text)) is not None]
    for text, before in known:
        found = structure_of(text)
        assert found.species == before.species
        np.testing.assert_array_equal(found.frac_coords, before.frac_coords)
        np.testing.assert_array_equal(found.lattice.matrix, before.lattice.matrix)
    return len(known)


@pytest.mark.filterwarnings("ignore")
def test_the_minerals_that_come_with_ase_are_read_as_before():
    (folder,) = find_spec("ase").submodule_search_locations
    files = sorted(Path(folder).glob("test/testdata/**/*.cif"))
    if not files:
        pytest.skip("this ASE comes without its test data")
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    assert assert_read_as_before(texts) == len(files) >= 8


@pytest.mark.filterwarnings("ignore")
def test_cifs_that_this_package_pymatgen_and_ase_write_are_read_as_before():
    structures = to_structures(load_dataset("prototypes", "val")[0][::40])
    written = [x.to(fmt="cif") for x in structures]
    written += [str(CifWriter(x, symprec=0.01)) for x in structures]
    for structure in structures:
        ase.io.write(file := io.BytesIO(), structure.to_ase_atoms(), format="cif")
        written.append(file.getvalue().decode())
    assert assert_read_as_before(written) == 3 * len(structures) > 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mp_20", "carbon_24_slice", "perov_5_slice", "mpts_52_large"])
def test_real_data_sets_are_read_as_before(real_data, name):
    path = real_data / name / "val.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", newline="") as file:
        texts = [row["cif"] for row in csv.DictReader(file)]
    texts = texts[:: max(1, len(texts) // 50)]
    assert assert_read_as_before(texts) == len(texts)
