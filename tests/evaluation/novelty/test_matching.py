"""Which crystals match, in this process and in workers, and that matches are kept."""

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data import from_structures
from miad_jax.evaluation.novelty import comparison, kept, matching
from miad_jax.evaluation.novelty.matching import match
from miad_jax.parallel.executor import Serial, WorkerFailure
from miad_jax.parallel.pool import Pool


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


NACL = rocksalt("Na", "Cl", 5.64)
KCL = rocksalt("K", "Cl", 6.29)
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
IRON = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL_AS_NACL = rocksalt("Cs", "Cl", 7.0)


def moved(structure):
    """The same crystal, told otherwise: a supercell, shifted and a little strained."""
    other = structure.copy() * (2, 1, 1)
    other.translate_sites(range(len(other)), [0.13, 0.2, 0.31])
    return other.apply_strain(0.01, inplace=False)


@pytest.fixture(scope="module")
def reference():
    return from_structures([s.get_primitive_structure() for s in (KCL, IRON)])


def test_matching_compares_with_every_earlier_sample():
    """Matching is not transitive: the last matches the middle one, not the first."""
    first, middle, last = (CSCL.apply_strain([0, 0, x], inplace=False) for x in (0, 0.25, 0.5))
    pairs = match([first, middle]).duplicate_of, match([middle, last]).duplicate_of
    assert pairs == ([None, 0], [None, 0])
    assert match([first, last]).duplicate_of == [None, None]
    assert match([first, middle, last]).duplicate_of == [None, 0, 1]


def test_a_crystal_matches_its_own_primitive_cell_whatever_cell_it_came_in():
    crystal = Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystal *= [[2, 0, 0], [1, 1, 0], [1, 2, 1]]
    crystal.translate_sites([0], [0.2, 0, 0], frac_coords=False)
    primitive = crystal.get_primitive_structure()
    assert (len(crystal), len(primitive)) == (4, 2)
    (found,) = comparison.compare(([crystal], [0], [primitive.get_reduced_structure()]))
    assert found == (None, 0)


def test_workers_match_as_this_process_does(reference, monkeypatch):
    samples = [rocksalt("Na", x, 5) for x in ("Cl", "Br")] + [KCL, CSCL, IRON]
    samples = [x.get_primitive_structure() for x in samples] * 2
    alone = match(samples, reference)
    monkeypatch.setattr(matching, "FEW_TASKS", 0)
    assert match(samples, reference, executor=Pool(2)) == alone
    assert alone.duplicate_of == [None] * 5 + list(range(5))
    assert alone.known_as == [None, None, 0, None, 1] * 2


def test_large_groups_in_pieces_give_the_same(monkeypatch):
    samples = [NACL, moved(NACL), NACL * (1, 1, 2), CSCL_AS_NACL, KCL]
    whole = match(samples, from_structures([NACL, KCL]))
    monkeypatch.setattr("miad_jax.evaluation.novelty.matching.PAIRS_PER_TASK", 1)
    assert match(samples, from_structures([NACL, KCL])) == whole


@pytest.fixture
def compared(monkeypatch):
    """How many samples are compared: a list that grows with every request."""
    asked = []
    real = comparison.compare

    def compare(request):
        asked.append(len(request[1]))
        return real(request)

    monkeypatch.setattr(comparison, "compare", compare)
    return asked


SAMPLES = [NACL, moved(NACL), None, KCL, CSCL_AS_NACL, CSCL]


def test_kept_matches_are_not_compared_again(reference, tmp_path, compared):
    file = tmp_path / "matches.json"
    first = match(SAMPLES, reference, kept=file)
    assert first == match(SAMPLES, reference)
    compared.clear()
    assert match(SAMPLES, reference, kept=file) == first
    assert compared == []
    more = match([*SAMPLES, moved(KCL), NACL], reference, kept=file)
    assert sum(compared) == 2
    assert more.duplicate_of == [*first.duplicate_of, 3, 0]
    assert more.known_as == [*first.known_as, 0, None]


def test_what_changes_a_match_is_compared_again(reference, tmp_path, compared, monkeypatch):
    file = tmp_path / "matches.json"
    match(SAMPLES, reference, kept=file)
    compared.clear()

    def compared_in(samples, known=reference):
        compared.clear()
        match(samples, known, kept=file)
        return sum(compared)

    assert compared_in(SAMPLES[::-1]) == 4  # the order of NaCl and of CsCl
    assert compared_in([NACL, moved(KCL), KCL]) == 2  # KCl has an earlier sample
    strained = NACL.apply_strain(1e-6, inplace=False)
    assert compared_in([strained, moved(NACL)]) == 2
    assert compared_in([KCL], from_structures([KCL])) == 1
    monkeypatch.setattr(comparison, "version", lambda name: "another")
    assert compared_in(SAMPLES) == 5


def test_an_interrupt_keeps_what_was_compared(reference, tmp_path, compared, monkeypatch):
    class Interrupted(Serial):
        def map(self, function, requests, *, seconds=None):
            yield from Serial().map(function, requests[:1])
            raise KeyboardInterrupt

    monkeypatch.setattr(matching, "Serial", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        match(SAMPLES, reference, kept=tmp_path / "matches.json")
    done = sum(compared)
    assert done > 0
    monkeypatch.undo()
    assert len(json.loads((tmp_path / "matches.json").read_text())["matches"]) == done


def test_matches_are_written_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SECONDS_BETWEEN_WRITES", -1.0)
    matches = kept.KeptMatches(tmp_path / "matches.json")
    matches.add("a", (None, 3))
    assert kept.KeptMatches(tmp_path / "matches.json").get("a") == (None, 3)


def test_what_a_worker_did_not_compare_is_lost_and_tried_again(reference, tmp_path, monkeypatch):
    class Failing:
        num_workers = 1

        def map(self, function, requests, *, seconds=None):
            for i in range(len(requests)):
                yield i, WorkerFailure("took longer than 900 s", timed_out=True)

    monkeypatch.setattr(matching, "FEW_TASKS", 0)
    file = tmp_path / "matches.json"
    found = match([KCL, None], reference, executor=Failing(), kept=file)
    assert found.lost == [True, False]
    assert found.compared == [False, False]
    assert found.reasons == ["the comparison was lost: took longer than 900 s", ""]
    monkeypatch.undo()
    assert match([KCL, None], reference, kept=file).known_as == [0, None]


def test_a_damaged_file_of_matches_is_named(tmp_path):
    for content in ("", "[]", '{"format": "another"}', '{"format": "miad_jax matches 1"}'):
        (tmp_path / "matches.json").write_text(content)
        with pytest.raises(ValueError, match=r"matches\.json cannot be read.*delete it"):
            match([NACL], kept=tmp_path / "matches.json")


L1_0 = Structure(Lattice.tetragonal(2.8, 3.7), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_orderings_of_one_alloy_are_the_same_where_that_is_asked():
    """CuAu in layers along [001], as it is known, and along [111] of the same fcc lattice."""
    layers = np.array([[0.5, 0.5, 1], [0.5, 1, 0.5], [1, 0.5, 0.5]])
    l1_1 = Structure(3.85 * layers, ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert match([L1_0, l1_1]).duplicate_of == [None, None]
    assert match([L1_0, l1_1], as_disordered=True).duplicate_of == [None, 0]
    other = Structure(L1_0.lattice, ["Cu"] * 2, L1_0.frac_coords)
    assert match([L1_0, other], as_disordered=True).duplicate_of == [None, None]  # another formula
    assert match([NACL, rocksalt("Na", "Cl", 5.7)], as_disordered=True).duplicate_of == [None, 0]


def test_elements_that_substitute_each_other_are_taken_for_one():
    def kinds(*symbols):
        crystal = Structure(Lattice.cubic(9), symbols, [[i / 9, 0, 0] for i in range(len(symbols))])
        return [x.symbol for x in comparison.disordered(crystal).species]

    assert kinds("Na", "Cl") == ["Na", "Cl"]  # radii 1.8 and 1.0 Å
    assert kinds("Ni", "Fe", "O") == ["Fe", "Fe", "O"]
    assert kinds("K", "He", "Xe") == ["K", "He", "Xe"]  # of which no radius or no X is known
    # The radii of Li (1.45 Å) and Sr (2.0 Å) differ by 32 %; Y (1.8 Å) is near to both.
    assert kinds("Li", "Sr") == ["Li", "Sr"]
    assert kinds("Li", "Sr", "Y") == ["Li", "Li", "Li"]


def test_both_kinds_of_match_are_kept_in_one_file(tmp_path):
    file = tmp_path / "matches.json"
    pair = [L1_0, moved(L1_0)]
    for as_disordered in (False, True):
        match(pair, as_disordered=as_disordered, kept=file)
    assert len(json.loads(file.read_text())["matches"]) == 4
