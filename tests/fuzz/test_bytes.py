"""Files of crystals of which bytes were changed: each crystal is the same, or has a reason."""

import csv
import gzip
import io
import re
import zipfile
from collections import Counter

import ase.io
import numpy as np
import pytest
from hypothesis import given
from pymatgen.core import Composition, Element, Lattice, Structure

from miad_jax.data.packing import standardize_rows
from miad_jax.data.reading import read_rows
from tests.fuzz.strategies import damaged, fuzzed

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
CAESIUM = Structure(4.12 * np.eye(3), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CRYSTALS = {"caesium": CAESIUM, "rutile": RUTILE, "salt": SALT}
FORMULAS = {name: x.composition.formula for name, x in CRYSTALS.items()}


def cif(name, symprec=None):
    return CRYSTALS[name].to(fmt="cif", symprec=symprec).encode()


def table():
    file = io.StringIO()
    rows = [[name, 1.5, cif(name).decode()] for name in CRYSTALS]
    csv.writer(file).writerows([["id", "gap", "cif"], *rows])
    return file.getvalue().encode()


def frames():
    file = io.StringIO()
    ase.io.write(file, [x.to_ase_atoms() for x in CRYSTALS.values()], format="extxyz")
    return file.getvalue().encode()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in CRYSTALS:
            opened.writestr(f"{name}.cif", cif(name))
    return file.getvalue()


def read(path, content):
    """Formula or reason of every crystal of a file; None where the file is refused in words."""
    path.write_bytes(content)
    try:
        rows = list(read_rows(path))
    except ValueError as error:
        return None if path.name in str(error) else [f"{error}"]
    results = standardize_rows(rows, primitive=False, niggli=False, num_workers=0)
    return [x if isinstance(x, str) else formula(x[2]) for x in results]


def formula(numbers):
    return Composition(Counter(Element.from_Z(int(z)).symbol for z in numbers)).formula


# Where a file says its formula, or has a hash, whatever is read of it is what was written.
FILES = {
    "plain.cif": (cif("salt"), [FORMULAS["salt"]]),
    "symmetric.cif": (cif("rutile", symprec=0.01), [FORMULAS["rutile"]]),
    "packed.cif.gz": (gzip.compress(cif("salt"), mtime=0), [FORMULAS["salt"]]),
    "table.csv": (table(), [*FORMULAS.values()]),
    "archive.zip": (archive(), [*FORMULAS.values()]),
    "frames.extxyz": (frames(), None),
    "vasp.poscar": (RUTILE.to(fmt="poscar").encode(), None),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_as_it_was_or_refused(name, tmp_path):
    content, expected = FILES[name]
    as_written = read(tmp_path / name, content)
    assert as_written == (expected or as_written)

    @fuzzed(80)
    @given(damaged(content))
    def check(changed):
        found = read(tmp_path / name, changed)
        if found is None:
            return
        reasons = [said for said in found if not said[:1].isupper()]
        assert len(found) >= len(as_written) or reasons  # of rows that are glued together
        for said in found:
            assert said.isprintable()
            assert not re.match(r"\w*(Error|Exception|Warning): ", said)
            assert said in reasons or expected is None or said in expected

    check()
