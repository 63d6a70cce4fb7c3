"""Frames of an extended XYZ: a bad one costs itself alone."""

import gzip

import pytest

from miad_jax.data import read_rows
from miad_jax.evaluation.samples import load_samples

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'


def frame(*atoms, comment=LATTICE):
    return "\n".join([str(len(atoms)), comment, *atoms]) + "\n"


GOOD = frame("Cs 0 0 0", "Cl 2 2 2")


@pytest.fixture
def rows(tmp_path):
    """Reads a text as extended XYZ."""

    def read(text):
        (tmp_path / "set.extxyz").write_text(text, newline="")
        return list(read_rows(tmp_path / "set.extxyz"))

    return read


@pytest.mark.parametrize("between", ["", "\n", "\n \n\t\n"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_blank_lines_between_frames_do_not_count(rows, between, ending):
    found = rows((GOOD + between + GOOD + between).replace("\n", ending))
    assert [row.source.get_chemical_formula() for row in found] == ["ClCs", "ClCs"]


def test_an_empty_comment_is_one(rows):
    assert len(rows("1\n\nCs 0 0 0\n" + GOOD)) == 2


@pytest.mark.parametrize("isotope", ["D", "d", "T"])
def test_isotopes_of_hydrogen_are_hydrogen(rows, isotope):
    moved = frame(f"0 0 0 {isotope}", comment=LATTICE + " Properties=pos:R:3:species:S:1")
    for text in (frame(f"{isotope} 0 0 0"), moved):
        assert rows(text)[0].source.get_chemical_formula() == "H"


@pytest.mark.parametrize(
    ("bad", "said"),
    [(frame("Cs+ 0 0 0"), "'Cs+' is no element"), (frame("Qq 0 0 0"), "'Qq' is no element"),
     (frame("Cs 0 0"), "tuple of length 3"), (frame("Cs 0 0 zero"), "'zero'"),
     (frame("Cs 0 0 0", comment='Lattice="4 0 0"'), "Lattice"),
     (frame("Cs 0 0 0", comment=LATTICE + ' pbc="F F F"'), "periodic in 0 of 3 directions"),
     (frame("Cs 0 0 0", comment=LATTICE + ' pbc="T T F"'), "periodic in 2 of 3 directions"),
     (frame("Cs .5 .5 .5", comment=LATTICE + " Properties=species:S:1:frac:R:3"), "no positions")],
)  # fmt: skip
def test_a_bad_frame_is_one_row(rows, tmp_path, bad, said):
    assert [bool(row.reason) for row in rows(GOOD + bad + GOOD)] == [False, True, False]
    reasons = [row["reason"] for row in load_samples(tmp_path / "set.extxyz").rows]
    assert said in reasons[1]
    assert reasons[::2] == ["", ""]


@pytest.mark.parametrize(
    ("pbc", "said"),
    [('pbc="[T,T,F]"', "periodic in 2"), ("pbc=TTF", "periodic in 2"), ('PBC="T T F"', "in 2"),
     ('pbc="t t f"', "periodic in 2"), ('pbc="no no no"', "in 0"), ("pbc = (1, 1, 0)", "in 2"),
     ("pbc='.true. .true. .false.'", "in 2"), ('pbc="T T"', "allowed"), ("pbc=xyz", "allowed"),
     ('pbc=""', "allowed"), ("pbc=[true,true,true]", ""), ("Pbc=1", ""), ("pbc={T T T}", "")],
)  # fmt: skip
def test_periods_are_read_in_any_spelling(rows, tmp_path, pbc, said):
    rows(frame("Cs 0 0 0", comment=f"{pbc} {LATTICE}"))
    (row,) = load_samples(tmp_path / "set.extxyz").rows
    assert said in row["reason"]
    assert bool(row["reason"]) == bool(said)


@pytest.mark.parametrize(
    "content", [gzip.compress(GOOD.encode())[:-9], GOOD.encode()], ids=["cut", "plain"]
)
def test_a_damaged_gzip_is_named(tmp_path, content):
    (tmp_path / "set.xyz.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.xyz\.gz cannot be read"):
        list(read_rows(tmp_path / "set.xyz.gz"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("x\n", "line 1 is 'x'"), (GOOD + "garbage\n", "line 5 is 'garbage'"),
     ("-1\nx\n", "line 1 is '-1'"), (GOOD + "3\nx\nCs 0 0 0\n", "within a frame of 3 atoms"),
     ("99999999999\nx\n", "within a frame of 99999999999 atoms")],
)  # fmt: skip
def test_a_file_without_frames_says_where(rows, text, said):
    with pytest.raises(ValueError, match=rf"set\.extxyz cannot be read.*{said}"):
        rows(text)


@pytest.mark.parametrize("value", [
    '"_JSON [[1,2],[3]]"', '"_JSON {\\"a\\": [1,[2]]}"', "[[1,2],[3]]", '"[[1,2],[3,4]]"',
    '"1 2 3"', "{1 2 3}",
])  # fmt: skip
def test_lists_are_no_columns(rows, value):
    (row,) = rows(frame("Cs 0 0 0", comment=f"{LATTICE} spin={value} energy=-1.5 id=a"))
    assert (row.id, row.columns) == ("a", {"energy": "-1.5"})


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "set.xyz").write_bytes(GOOD.replace("Lat", "n=\xe9 Lat").encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        list(read_rows(tmp_path / "set.xyz"))
