import csv
import gzip
import tracemalloc
import zipfile

import ase.io
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from miad_jax.data import read_rows
from miad_jax.data.standard import standardize

SETTINGS = {"primitive": False, "niggli": False}


def write_csv(path, header, *rows):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz", "SET.CSV"])
def test_csv_keeps_ids_and_columns(tmp_path, name):
    header = ["", "material_id", "e_above_hull", "cif", "cif.conv"]
    path = write_csv(
        tmp_path / name, header, ["0", "mp-1", "0.5", "A", "X"], ["1", "mp-2", "", "B", "Y"]
    )

    first, second = read_rows(path)

    assert (first.id, first.source, first.columns) == ("mp-1", "A", {"e_above_hull": "0.5"})
    assert (second.id, second.source, second.columns) == ("mp-2", "B", {"e_above_hull": ""})


@pytest.mark.parametrize(
    ("header", "ids"),
    [(["cif", "id"], ["a", "b"]), (["cif", "name"], ["0", "1"])],
)
def test_csv_ids_without_material_id(tmp_path, header, ids):
    path = write_csv(tmp_path / "set.csv", header, ["A", "a"], ["B", "b"])

    assert [row.id for row in read_rows(path)] == ids


def test_csv_fields_may_be_long_and_the_limit_is_put_back(tmp_path):
    before = csv.field_size_limit()
    path = write_csv(tmp_path / "set.csv", ["cif"], ["x" * 300_000])

    (row,) = read_rows(path)

    assert len(row.source) == 300_000
    assert csv.field_size_limit() == before


def test_a_table_is_read_row_by_row(tmp_path):
    path = write_csv(tmp_path / "set.csv", ["cif"], *([f"{i:9}" * 200] for i in range(3000)))
    assert path.stat().st_size > 5_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == 3000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "said"),
    [("id,cif,cif\na,A,B\n", "two columns 'cif'"), ("id,gap,cif,gap\na,1,A,2\n", "columns 'gap'"),
     ("id,cif\na,data_x\n_cell_length_a 4\n_cell_length_b 4\n", "row 2 that begins with '_cell"),
     ("id,cif\na,'data_x\n_cell_length_a 4'\n", "double quotes"),
     ("cif\ndata_x\nloop_\n_atom_site_label\n", "row 3 that begins with '_atom")],
)  # fmt: skip
def test_a_table_that_is_written_wrongly_is_refused(tmp_path, content, said):
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(ValueError, match=said):
        list(read_rows(tmp_path / "set.csv"))


@pytest.mark.parametrize("content", ["\n \nid,cif\na,A\n", "id,cif,,\na,A,,\n", "id,cif\na,A\n\x1a",
                                     "id,cif\na,A\n\0\0\0"])  # fmt: skip
def test_blank_lines_columns_without_name_and_marks_of_the_end_do_not_count(tmp_path, content):
    (tmp_path / "set.csv").write_text(content)
    assert [(row.id, row.source, row.columns) for row in read_rows(tmp_path / "set.csv")] == [
        ("a", "A", {})
    ]


def test_a_short_line_is_a_row_without_cif(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("id,cif\na\n")

    assert [(row.id, row.source) for row in read_rows(path)] == [("a", "")]


def test_csv_without_a_cif_column_names_its_columns(tmp_path):
    path = write_csv(tmp_path / "set.csv", ["id", "structure"], ["a", "b"])

    with pytest.raises(ValueError, match="no column 'cif'; its columns are 'id', 'structure'"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty: it needs a header"), ("id,cif\n", "holds no crystal")]
)
def test_an_empty_csv_is_refused(tmp_path, content, message):
    path = tmp_path / "set.csv"
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        list(read_rows(path))


def test_a_cut_gzip_is_refused(tmp_path):
    path = write_csv(tmp_path / "set.csv.gz", ["cif"], ["A" * 9999])
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(ValueError, match=r"set\.csv\.gz cannot be read as a table"):
        list(read_rows(path))


def test_a_folder_of_cifs_is_read_by_name(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "b.cif").write_text("B")
    (tmp_path / "a.CIF").write_text("A")
    (tmp_path / "more" / "c.cif").write_bytes(b"\xff")
    (tmp_path / "notes.txt").write_text("no crystal")

    rows = list(read_rows(tmp_path))

    assert [row.id for row in rows] == ["a", "b", "more/c"]
    assert [row.source for row in rows[:2]] == ["A", "B"]


POSCAR = """cesium chloride
1.0
4.12 0 0
0 4.12 0
0 0 4.12
Cs Cl
1 1
direct
0 0 0
0.5 0.5 0.5
"""


def test_a_folder_of_poscars_is_read_by_name(tmp_path):
    (tmp_path / "mp-1").mkdir()
    names = ["CONTCAR.b", "POSCAR", "a.vasp", "b.POSCAR", "mp-1/POSCAR", "poscar_7"]
    for name in names:
        (tmp_path / name).write_text(POSCAR)
    (tmp_path / "POSCAR.cif").write_text("A")
    (tmp_path / "INCAR").touch()

    rows = list(read_rows(tmp_path))

    ids = ["CONTCAR.b", "POSCAR", "POSCAR", "a", "b", "mp-1/POSCAR", "poscar_7"]
    assert sorted(row.id for row in rows) == ids
    assert [row.source for row in rows if row.source != (POSCAR, "poscar")] == ["A"]
    for name in names[:4]:
        (row,) = read_rows(tmp_path / name)
        assert row.source == (POSCAR, "poscar")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("1 1\n", "1\n", "names 2 elements, but has 1 numbers"),
     ("Cs Cl\n", "Cs Cl O\n", "names 3 elements, but has 2"),
     ("Cs Cl\n", "Cs Cl # sites\n", ""), ("\n", "\r", ""),
     ("0.5 0.5 0.5\n", "0.5 0.5 0.5\n\n.1 .1 .1\n.1 .1 .1\n\n1\n", ""),
     ("0.5 0.5 0.5\n", f"0.5 0.5 0.5\n\n{POSCAR}", "several crystals"),
     ("0.5\n", "0.5\nDirect configuration= 2\n0 0 0\n.5 .5 .5\n", "several crystals")],
)  # fmt: skip
def test_a_poscar_holds_the_atoms_that_it_counts(old, new, said):
    (found,) = standardize(([(POSCAR.replace(old, new), "poscar")], SETTINGS))
    assert said in found if said else sorted(found[2]) == [17, 55]


def test_a_zip_of_cifs_is_read_by_name(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/b.cif", "B")
        archive.writestr("set/a.cif", "A")
        archive.writestr("__MACOSX/set/._a.cif", "junk")
        archive.writestr("readme.txt", "no crystal")

    assert [(row.id, row.source) for row in read_rows(path)] == [("set/a", "A"), ("set/b", "B")]


def test_what_holds_no_cif_says_what_it_holds(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("train.csv", "cif")

    with pytest.raises(ValueError, match=r"no \.cif file and no POSCAR: found notes\.txt"):
        list(read_rows(tmp_path / "folder"))
    with pytest.raises(ValueError, match=r"no \.cif file and no POSCAR: found train"):
        list(read_rows(tmp_path / "set.zip"))


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "set.zip"
    path.write_text("not a zip")

    with pytest.raises(ValueError, match=r"set\.zip cannot be read as a zip"):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["set.extxyz", "set.xyz"])
def test_extxyz_keeps_ids_and_single_values(tmp_path, name):
    copper, salt = bulk("Cu"), bulk("NaCl", "rocksalt", a=5.69)
    copper.info = {"id": "first", "e_above_hull": 0.25, "vector": [1, 2, 3]}
    copper.calc = SinglePointCalculator(copper, energy=-3.5)
    ase.io.write(tmp_path / name, [copper, salt], format="extxyz")

    first, second = read_rows(tmp_path / name)

    assert (first.id, second.id) == ("first", "1")
    assert first.columns == {"e_above_hull": "0.25", "energy": "-3.5"}
    assert second.source.get_chemical_formula() == "ClNa"


@pytest.mark.parametrize("content", ["no number of atoms\n", "2\nfirst\nH 0 0 0\n"])
def test_what_is_no_extxyz_is_refused(tmp_path, content):
    path = tmp_path / "set.extxyz"
    path.write_text(content)

    with pytest.raises(ValueError, match=r"set\.extxyz cannot be read as extended XYZ"):
        list(read_rows(path))


def test_an_empty_extxyz_is_refused(tmp_path):
    path = tmp_path / "set.extxyz"
    path.touch()

    with pytest.raises(ValueError, match=r"set\.extxyz"):
        list(read_rows(path))


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    path = tmp_path / "set.parquet"
    path.touch()

    with pytest.raises(ValueError, match=r"ends in '\.parquet'; allowed are .*\.csv\.gz, \.zip"):
        list(read_rows(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list(read_rows(tmp_path / "gone.csv"))


@pytest.mark.parametrize(
    "content",
    [
        'id,cif\na,"data_a\nb,"data_b\n"\nc,"data_c\n"\n',
        'cif\n"data_a\n"data_b\n"\n',
        'id,cif\na,"data_a\n"\nb,"data_b\n',
        'id,cif\na,"data_a "x" y"\n',
    ],
)
def test_a_quote_that_is_not_closed_is_named(tmp_path, content):
    path = tmp_path / "set.csv"
    path.write_text(content)

    with pytest.raises(ValueError, match=r"set\.csv .*(row \d).* a quote may not be closed"):
        list(read_rows(path))


def test_more_fields_than_the_header_are_refused(tmp_path):
    path = write_csv(tmp_path / "set.csv", ["id", "cif"], ["a", "A"], ["b", "B", "C"])

    with pytest.raises(ValueError, match=r"row 2, up to line 3, with more fields than the header"):
        list(read_rows(path))


def test_a_table_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes("id,cif\né,A\n".encode("latin-1"))

    with pytest.raises(ValueError, match=r"is not utf-8 text \(byte 0xe9\): save it as UTF-8"):
        list(read_rows(path))


def test_a_message_is_no_longer_than_a_screen(tmp_path):
    path = write_csv(tmp_path / "set.csv", ["x" * 10_000] * 1000)

    with pytest.raises(ValueError, match="no column 'cif'") as error:
        list(read_rows(path))

    assert len(str(error.value)) < 3000
