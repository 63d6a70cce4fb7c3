"""What is listed is what is there: folders and archives."""

import gzip
import os
import re
import stat
import zipfile

import pytest

from miad_jax.commands.asking import _structure
from miad_jax.data import load_dataset, read_rows
from miad_jax.data import text as text_module
from miad_jax.data.archive import check_unpacked
from miad_jax.evaluation.samples import load_samples

CSCL = """data_x
_cell_length_a 4.12
_cell_length_b 4.12
_cell_length_c 4.12
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs1 0 0 0
Cl1 .5 .5 .5
"""
POSCAR = "CsCl\n1\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"


def ids(path):
    return [row.id for row in read_rows(path)]


def formulas(path):
    """Formula or reason of every sample by its id."""
    return {row["id"]: row["formula"] or row["reason"] for row in load_samples(path).rows}


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


HIDDEN = ("._a.cif", "~$a.cif", ".ipynb_checkpoints/a-checkpoint.cif", "__MACOSX/a.cif", "b/.a.cif")


def test_what_is_hidden_is_no_sample(tmp_path):
    members = [(name, CSCL) for name in ("a.cif", "b/c.CIF", *HIDDEN)]
    assert ids(zipped(tmp_path / "set.zip", members)) == ["a", "b/c"]
    assert ids(zipped(tmp_path / "up.zip", [("../a.cif", CSCL)])) == ["../a"]
    folder = tmp_path / ".cache" / "set"
    for name, content in members:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    assert ids(folder) == ["a", "b/c"]


def test_gzipped_and_magnetic_cifs_are_read(tmp_path):
    content = CSCL.encode()
    packed = gzip.compress(content)
    named = {"a.cif": content, "b.cif.gz": packed, "c.mcif": content, "d.MCIF.GZ": packed,
             "POSCAR_e.gz": gzip.compress(POSCAR.encode()), "f.vasp": POSCAR.encode()}  # fmt: skip
    expected = dict.fromkeys(("a", "b", "c", "d", "POSCAR_e", "f"), "Cs1 Cl1")
    (tmp_path / "set").mkdir()
    for name, x in named.items():
        (tmp_path / "set" / name).write_bytes(x)
    assert formulas(tmp_path / "set") == expected
    assert formulas(zipped(tmp_path / "set.zip", named.items())) == expected
    assert formulas(tmp_path / "set" / "b.cif.gz") == {"b": "Cs1 Cl1"}
    assert len(load_dataset(tmp_path / "set", cache_dir=tmp_path)[0]) == 6


def test_a_damaged_gzip_is_one_row(tmp_path):
    cut = gzip.compress(CSCL.encode())[:-12]
    named = {"a.cif": CSCL.encode(), "b.cif.gz": cut, "c.cif.gz": b"no gzip"}
    for name, x in named.items():
        (tmp_path / name).write_bytes(x)
    found = list(formulas(tmp_path).values())
    assert found[0] == "Cs1 Cl1"
    assert all("cannot be unpacked" in reason for reason in found[1:])
    found = list(formulas(zipped(tmp_path / "set.zip", named.items())).values())
    assert all("cannot be unpacked" in reason for reason in found[1:])


def test_links_are_followed_or_named(tmp_path):
    for name in ("set", "elsewhere/more"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("set/a.cif", "elsewhere/c.cif", "elsewhere/more/b.cif"):
        (tmp_path / name).write_text(CSCL)
    (tmp_path / "set" / "c.cif").symlink_to(tmp_path / "elsewhere" / "c.cif")
    (tmp_path / "set" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "set" / "around").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere" / "more" / "back").symlink_to(tmp_path / "set")
    for name in ("gone.cif", "lost"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "nowhere")
    found = formulas(tmp_path / "set")
    assert [x for x, formula in found.items() if formula == "Cs1 Cl1"] == ["a", "c", "more/b"]
    assert "which is not there" in found["gone.cif"]
    assert "which is not there" in found["lost"]
    _, records = load_dataset(tmp_path / "set", cache_dir=tmp_path / "cache")
    assert [name for name, _ in records.rejected] == ["gone.cif", "lost"]


def test_what_is_packed_within_is_named(tmp_path):
    inner = zipped(tmp_path / "more.zip", [("b.cif", CSCL)]).read_bytes()
    path = zipped(tmp_path / "set.zip", [("a.cif", CSCL), ("deep/more.zip", inner)])
    with pytest.warns(UserWarning, match=r"or a table in it \(found deep/more\.zip\)"):
        assert ids(path) == ["a"]
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a.cif", "more.tar.gz", "b.cif.bz2", "c.extxyz", "notes.txt"):
        (folder / name).write_text(CSCL)
    with pytest.warns(UserWarning, match=r"b\.cif\.bz2, c\.extxyz, more\.tar\.gz"):
        assert ids(folder) == ["a"]
    with pytest.raises(ValueError, match=r"more\.zip"):
        ids(zipped(tmp_path / "only.zip", [("more.zip", inner)]))


@pytest.mark.parametrize("name", [
    "b.cif.Z", "b.cif.lzma", "b.txz", "b.tbz2", "b.zipx", "b.lz4", "b.cif.txt", "b.contcar",
    "b.poscar.1", "XDATCAR", "b.xsf", "b.mmcif", "b.csv", "b.xyz",
])  # fmt: skip
def test_a_file_of_crystals_that_is_not_read_is_named(tmp_path, name):
    (tmp_path / "set").mkdir()
    members = [("a.cif", CSCL), (name, "id;CIF\na;x\n"), ("notes.txt", "cif")]
    for x, content in members:
        (tmp_path / "set" / x).write_text(content)
    for path in (tmp_path / "set", zipped(tmp_path / "set.zip", members)):
        with pytest.warns(UserWarning, match=rf"\(found {re.escape(name)}\)"):
            assert ids(path) == ["a"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_no_zip(tmp_path, method):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.cif", CSCL)
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(x ^ 0xFF for x in content[60:70])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.zip cannot be read as a zip"):
        ids(path)


def test_a_table_of_cifs_within_is_named_and_one_of_properties_is_not(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.cif").write_text(CSCL)
    (folder / "id_prop.csv").write_text("id,gap\na,1.5\n")
    (folder / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.csv").write_text("")
    assert ids(folder) == ["a"]  # a warning is an error here
    (folder / "more.CSV").write_text("id,cif\nb,x\n")
    with pytest.warns(UserWarning, match=r"without .* a table in it \(found more\.CSV\)"):
        assert ids(folder) == ["a"]


def test_two_members_of_one_name_are_two_crystals(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "set.zip", [("a.cif", CSCL), ("a.cif", CSCL.replace("Cs", "Na"))])
    assert formulas(path) == {"a": "Cs1 Cl1", "a (2)": "Na1 Cl1"}


@pytest.mark.parametrize(
    ("offset", "value", "said"), [(8, 9, "the method Deflate64"), (8, 98, "the method PPMd"),
                                  (6, 1, "locked by a password")],
)  # fmt: skip
def test_a_member_that_cannot_be_unpacked_is_named(tmp_path, offset, value, said):
    path = zipped(tmp_path / "set.zip", [("a.cif", CSCL)])
    content = bytearray(path.read_bytes())
    for mark, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        content[content.index(mark) + offset + more] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"set\.zip has a\.cif .*{said}.*unpack it"):
        ids(path)


def test_a_link_in_an_archive_is_a_row(tmp_path):
    link = zipfile.ZipInfo("b.cif")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = zipped(tmp_path / "set.zip", [("a.cif", CSCL), (link, "/etc/passwd")])
    assert formulas(path)["b.cif"].startswith("is a link")


def test_blocks_of_a_file_are_crystals(tmp_path):
    two = "data_global\n_publ_contact_author A\n" + CSCL + CSCL.replace("Cs", "Rb")
    for name in ("a", "b"):
        (tmp_path / f"{name}.cif").write_text(two)
    assert formulas(tmp_path) == {
        "a": "Cs1 Cl1", "a (2)": "Rb1 Cl1", "b": "Cs1 Cl1", "b (2)": "Rb1 Cl1"
    }  # fmt: skip
    with pytest.raises(ValueError, match="holds 2 crystals"):
        _structure(tmp_path / "a.cif")
    (tmp_path / "set.csv").write_text(f'id,cif\na,"{two}"\n')
    assert "holds 2 crystals" in formulas(tmp_path / "set.csv")["a"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le with mark"])
def test_byte_order_marks_are_understood(tmp_path, encoding):
    def encoded(text):
        if encoding.endswith("mark"):
            return b"\xff\xfe" + text.encode("utf-16-le")
        return text.encode(encoding)

    frame = '1\nLattice="4 0 0 0 4 0 0 0 4"\nCs 0 0 0\n'
    texts = {"a.cif": CSCL.replace("\n", "\r\n"), "a.csv": f'id,cif\na,"{CSCL}"\n',
             "POSCAR": POSCAR, "a.extxyz": frame}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_bytes(encoded(text))
        assert next(iter(formulas(tmp_path / name).values())).startswith("Cs1")


def test_what_unpacks_beyond_measure_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "MAX_CRYSTAL_BYTES", 2**16)
    monkeypatch.setattr(text_module, "_ALWAYS_ALLOWED", 2**18)
    bomb = b"#" * 2**20
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.cif.gz").write_bytes(gzip.compress(bomb))
    assert "is larger than" in formulas(tmp_path / "set")["a"]
    with pytest.raises(ValueError, match=r"set\.zip unpacks to 1 MiB, and at most 0 MiB"):
        ids(zipped(tmp_path / "set.zip", [("a.cif", bomb)]))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,cif\n" + b"a,b\n" * 2**18))
    with pytest.raises(ValueError, match="unpacks to more than 100 times"):
        ids(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(ValueError, match="has a line longer than"):
        ids(tmp_path / "b.csv.gz")
    check_unpacked([], "nothing", 1)


def test_names_are_harmless_to_a_terminal(tmp_path):
    (tmp_path / "a\x1b[31m.cif").write_text(CSCL)
    (tmp_path / os.fsdecode(b"b\xff.cif")).write_text(CSCL)
    assert ids(tmp_path) == ["a\\x1b[31m", "b\\udcff"]
