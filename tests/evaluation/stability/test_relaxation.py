"""Workers load their potentials from `fakes.py`, which each test finds in its own folder."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from miad_jax.evaluation.stability import potential
from miad_jax.evaluation.stability.relax import Relaxation, relax
from miad_jax.parallel.executor import Serial
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Bar, Progress

FAKES = '''
import os, signal, sys, time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

energies_are_corrected = True
__version__ = "3"
HERE = Path(__file__).parent
(HERE / "process").write_text(
    f"threads {os.environ.get('OMP_NUM_THREADS')}, jax {'jax' in sys.modules}"
)


class Troubled(EMT):
    """EMT for which some elements are trouble; it writes down the crystals that it has seen."""

    last = None

    def calculate(self, atoms=None, *rest):
        symbols = atoms.get_chemical_symbols()
        if symbols != self.last:
            with (HERE / "seen").open("a") as file:
                file.write("-".join(symbols) + "\\n")
            self.last = symbols
        if "Ni" in symbols and not (HERE / "released").exists():
            (HERE / "pid").write_text(str(os.getpid()))
            time.sleep(1000)
        if "Pd" in symbols:
            os._exit(3)
        if "Ag" in symbols:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "N" in symbols:
            sys.exit("enough")
        super().calculate(atoms, *rest)
        if "Pt" in symbols:
            self.results["forces"] = self.results["forces"] * np.nan


class Pushing(Calculator):
    """Nothing but a stress."""

    implemented_properties = ["energy", "forces", "stress"]
    push = -1.0

    def calculate(self, atoms=None, *rest):
        super().calculate(atoms, *rest)
        stress = np.array([1, 1, 1, 0, 0, 0]) * self.push
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": stress}


class Pulling(Pushing):
    push = 1.0


class Attracting(Pushing):
    """Atoms attract each other whatever their distance."""

    def calculate(self, atoms=None, *rest):
        super().calculate(atoms, *rest)
        vector = atoms.get_distance(0, 1, mic=True, vector=True)
        self.results["forces"] = np.array([vector, -vector])
        self.results["stress"] = np.zeros(6)


def plain():
    return EMT()


plain.energies_are_corrected = False


def broken():
    raise OSError("no weights")


def nothing():
    return None
'''


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """The folder of a module `fakes` that workers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fakes.py").write_text(FAKES)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "fakes", raising=False)
    potential._potential.cache_clear()
    yield folder
    sys.modules.pop("fakes", None)


def fcc(*symbols, length=3.65):
    """A cubic cell of four atoms, off their places."""
    coords = [[0, 0, 0.02], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0.01]]
    return Structure(Lattice.cubic(length), [*symbols] * (4 // len(symbols)), coords)


COPPER, GOLD, ALUMINIUM = fcc("Cu"), fcc("Au", length=4.1), fcc("Al", length=4.05)


def run(structures, folder, **settings):
    """Relax in this process, where nothing has to be started."""
    settings = {"calculator": "fakes:Troubled", "executor": Serial()} | settings
    ids = [f"id-{i}" for i in range(len(structures))]
    return relax(structures, folder, ids=ids, **settings)


def seen(fakes):
    """The crystals that were relaxed; those by which potentials are told apart are others."""
    path = fakes / "seen"
    names = path.read_text().split() if path.exists() else []
    return [name for name in names if name not in ("Na-Cl", "Mg-O", "Cu")]


def emt(structure):
    """Energy in eV/atom, forces in eV/Å, and stress as eV/atom, of EMT."""
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False) * atoms.get_volume() / len(atoms)
    return atoms.get_potential_energy() / len(atoms), atoms.get_forces(), stress


def test_cell_and_positions_relax_to_the_minimum(tmp_path, fakes):
    crystals = [fcc("Cu", length=3.8), fcc("Au", length=4.2)]
    results = run(crystals, tmp_path / "out", calculator="fakes:plain")
    # Lattice constants of EMT's minima.
    for structure, result, length in zip(crystals, results, (3.59, 4.06), strict=True):
        before, _, _ = emt(structure)
        energy, forces, stress = emt(result.structure)
        assert (result.status, result.reason) == ("converged", "")
        assert result.energy_is_corrected is False
        assert result.steps > 3
        assert result.energy_ev_per_atom == pytest.approx(energy)
        assert energy < before - 1e-3
        assert np.linalg.norm(forces, axis=1).max() <= 0.1
        assert np.abs(stress).max() <= 0.1
        assert result.structure.volume ** (1 / 3) == pytest.approx(length, abs=0.04)
        assert result.structure.species == structure.species


def test_every_crystal_has_an_outcome(tmp_path, fakes):
    bad_coords = [[0, 0, 0], [0.5, 0.5, 0.5], [np.nan, 0, 0], [0, 0.5, 0.5]]
    expected = {
        "there is no crystal": None,
        "coordinates that are not finite": Structure(Lattice.cubic(4), ["Cu"] * 4, bad_coords),
        "lattice that is not finite": Structure(np.full((3, 3), np.nan), ["Cu"], [[0, 0, 0]]),
        "the cell is flat": Structure([[4, 0, 0], [0, 4, 0], [2, 2, 1e-6]], ["Cu"], [[0, 0, 0]]),
        "two atoms overlap: they are 0.04": Structure(
            Lattice.cubic(4), ["Cu", "Cu"], [[0, 0, 0.005], [0, 0, 0.995]]
        ),
        "is disordered": Structure(Lattice.cubic(4), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]]),
        "the potential failed: NotImplementedError": fcc("Fe"),
        "the potential's answer is not finite (forces": fcc("Pt"),
        "took longer than 15 s": fcc("Ni"),
        "exit code 3": fcc("Pd"),
        "exit code -11": fcc("Ag"),
        "exit code 1": fcc("N"),
        "1.19e+03 Å³ an atom": Structure(Lattice.cubic(10.6), ["Cu"], [[0, 0, 0]]),
        "0.729 Å³ an atom": Structure(Lattice.cubic(0.9), ["Cu"], [[0, 0, 0]]),
    }
    bad = list(expected.values())
    structures = [COPPER, *bad, GOLD]
    results = run(structures, tmp_path / "out", seconds_per_crystal=15, executor=Pool(2))
    assert [result.status for result in results] == [
        "converged",
        *["failed"] * len(bad),
        "converged",
    ]
    for reason, result in zip(expected, results[1:-1], strict=True):
        assert reason in result.reason
        lost = "exit code" in reason
        assert result == Relaxation("failed", reason=result.reason, lost=lost)
    assert "enough" in (tmp_path / "out" / "workers.log").read_text()
    assert (fakes / "process").read_text() == "threads 1, jax False"


@pytest.mark.parametrize(
    ("calculator", "reason"),
    [
        ("fakes:Pushing", r"diverges: at step \d+ the cell has 1.*e\+03 Å³ an atom"),
        ("fakes:Pulling", r"diverges: at step \d+ the cell has 0\.\d+ Å³ an atom"),
        ("fakes:Attracting", r"the relaxed crystal is none: two atoms are 0\.\d+ Å apart"),
    ],
)
def test_a_divergence_is_a_failure(tmp_path, fakes, calculator, reason):
    structure = Structure(Lattice.cubic(4), ["Cu", "Cu"], [[0, 0, 0], [0.5, 0.1, 0]])
    (result,) = run([structure], tmp_path / "out", calculator=calculator)
    assert result.status == "failed"
    assert re.search(reason, result.reason)


def test_steps_are_limited_and_none_gives_the_energy_as_it_is(tmp_path, fakes):
    (short,) = run([COPPER], tmp_path / "short", max_steps=2)
    assert (short.status, short.steps) == ("not converged", 2)
    assert short.energy_is_corrected is True
    (single,) = run([COPPER], tmp_path / "single", max_steps=0)
    assert (single.status, single.steps) == ("not converged", 0)
    assert single.energy_ev_per_atom == pytest.approx(emt(COPPER)[0])
    np.testing.assert_allclose(single.structure.cart_coords, COPPER.cart_coords, atol=1e-9)


def test_what_is_done_is_kept(tmp_path, fakes):
    folder = tmp_path / "out"
    results = run([COPPER, GOLD, COPPER.copy(), None], folder, executor=Pool(1))
    assert sorted(seen(fakes)) == ["Au-Au-Au-Au", "Cu-Cu-Cu-Cu"]
    assert results[0] == results[2]
    (fakes / "seen").unlink()

    again = run([ALUMINIUM, COPPER, GOLD], folder)
    assert seen(fakes) == ["Al-Al-Al-Al"]
    assert again[1:] == results[:2]
    records = [json.loads(path.read_text()) for path in (folder / "crystals").iterdir()]
    assert {record["id"] for record in records} == {"id-0", "id-1"}
    (fakes / "seen").unlink()

    run([ALUMINIUM, COPPER, GOLD], folder)
    moved = COPPER.copy().translate_sites([0], [0, 0, 0.001])
    run([moved], folder)
    assert seen(fakes) == ["Cu-Cu-Cu-Cu"]


def test_a_crystal_that_took_its_worker_down_is_tried_again(tmp_path, fakes):
    folder = tmp_path / "out"
    for _ in range(2):
        (result,) = run([fcc("Pd")], folder, executor=Pool(1))
        assert "exit code 3" in result.reason
        assert seen(fakes) == ["Pd-Pd-Pd-Pd"]
        (fakes / "seen").unlink()
    assert not list((folder / "crystals").iterdir())


def test_a_progress_bar_tells_the_time_left(tmp_path, fakes, capfd):
    run([COPPER], tmp_path / "out", progress=True)
    assert re.search(r"relaxing: +100%.*1/1 \[\d+:\d+<\d+:\d+", capfd.readouterr().err)
    run([COPPER, GOLD], tmp_path / "out")
    assert capfd.readouterr().err == ""
    run([COPPER, GOLD, ALUMINIUM], tmp_path / "out", progress=True)
    assert re.search(r"relaxing: +67%.*2/3", capfd.readouterr().err)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, fakes):
    crystals = [COPPER, GOLD, fcc("Ni")]
    folder = tmp_path / "out"
    (tmp_path / "crystals.json").write_text(json.dumps([x.as_dict() for x in crystals]))
    code = f"""
import json, sys
sys.path.insert(0, {str(fakes)!r})
from pymatgen.core import Structure
from miad_jax.evaluation.stability.relax import relax
crystals = [Structure.from_dict(x) for x in json.load(open({str(tmp_path / "crystals.json")!r}))]
from miad_jax.parallel.pool import Pool
relax(crystals, {str(folder)!r}, ids="abc", calculator="fakes:Troubled", executor=Pool(1))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(lambda: len(list(folder.glob("crystals/*.json"))) == 2)
        wait_for(lambda: (fakes / "pid").exists())
    finally:
        parent.kill()
        parent.wait()
    worker = int((fakes / "pid").read_text())
    wait_for(lambda: not is_alive(worker))
    kept = {p: p.read_bytes() for p in (folder / "crystals").iterdir()}
    assert len(kept) == 2
    half = folder / "crystals" / ".x.json.123.partial"
    half.write_text("half a file")
    os.utime(half, (0, 0))

    (fakes / "released").touch()
    (fakes / "seen").unlink()
    results = run(crystals, folder)
    assert [result.status for result in results] == ["converged"] * 3
    assert seen(fakes) == ["Ni-Ni-Ni-Ni"]
    assert {p: p.read_bytes() for p in kept} == kept
    assert len(list((folder / "crystals").iterdir())) == 3


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # a zombie is not alive
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_an_error_in_the_parent_ends_the_workers(tmp_path, fakes):
    class Stop(Progress, Bar):
        def bar(self, *arguments, **settings):
            return self

        def advance(self, amount=1):
            wait_for(lambda: (fakes / "pid").exists())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:  # its frames live, and all that they hold
        run([COPPER, fcc("Ni"), GOLD], tmp_path / "out", progress=Stop(), executor=Pool(1))
    assert kept
    assert not is_alive(int((fakes / "pid").read_text()))
    assert len(list((tmp_path / "out" / "crystals").iterdir())) == 1


def test_what_outlasted_a_limit_is_tried_again_when_it_is_longer(tmp_path, fakes):
    (result,) = run([fcc("Ni")], tmp_path / "out", seconds_per_crystal=2, executor=Pool(1))
    assert result.reason == "the relaxation was lost: took longer than 2 s"
    (fakes / "seen").unlink(missing_ok=True)
    assert run([fcc("Ni")], tmp_path / "out", seconds_per_crystal=2) == [result]
    assert seen(fakes) == []
    (fakes / "released").touch()
    (result,) = run([fcc("Ni")], tmp_path / "out", seconds_per_crystal=60)
    assert result.status == "converged"


def test_folders_of_others_are_refused(tmp_path, fakes, monkeypatch):
    folder = tmp_path / "out"
    run([COPPER], folder)
    with pytest.raises(ValueError, match=r"fmax_ev_per_angstrom is 0\.1 there and 0\.2 now\. Name"):
        run([COPPER], folder, fmax_ev_per_angstrom=0.2)
    with pytest.raises(ValueError, match="calculator is fakes:Troubled there and fakes:plain now"):
        run([COPPER], folder, calculator="fakes:plain")
    monkeypatch.setattr(sys.modules["fakes"], "__version__", "new weights")
    potential._potential.cache_clear()
    with pytest.raises(ValueError, match="version is 3 there and new weights now"):
        run([COPPER], folder)
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds notes\.txt"):
        run([COPPER], folder)
    (folder / "settings.json").write_text("[")
    with pytest.raises(ValueError, match=r"settings\.json is no record of relaxations"):
        run([COPPER], folder)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        run([COPPER], folder / "notes.txt")


def test_a_damaged_record_is_named(tmp_path, fakes):
    run([COPPER], tmp_path / "out")
    (path,) = (tmp_path / "out" / "crystals").iterdir()
    for content in ("", "[]", '{"status": "failed"}', '{"status": "converged", "steps": 3}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"{path.name} cannot be read.*delete it"):
            run([COPPER], tmp_path / "out")


@pytest.mark.parametrize(
    ("calculator", "message"),
    [
        ("emt", r"the calculator is 'emt'; allowed: 'chgnet', .*, or 'module:factory'"),
        ("fakes:", r"the calculator is 'fakes:'; allowed"),
        ("no_such_module:make", r"'no_such_module' .*cannot be imported.*PYTHONPATH"),
        ("fakes:Trobled", r"no function 'Trobled' \(did you mean 'Troubled'\?\)"),
        ("ase.calculators.emt:EMT", r"add the line `energies_are_corrected = True`"),
        ("fakes:broken", r"cannot be made \(OSError: no weights\)"),
        ("fakes:nothing", r"'fakes:nothing' returned None"),
    ],
)
def test_a_calculator_that_cannot_be_used_says_why(tmp_path, fakes, calculator, message):
    with pytest.raises(ValueError, match=message):
        run([COPPER], tmp_path / "out", calculator=calculator)


def test_without_chgnet_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "chgnet").mkdir()
    (tmp_path / "chgnet" / "__init__.py").write_text("raise ImportError('no torch')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r'no torch.*pip install "miad_jax\[eval\]"'):
        run([COPPER], tmp_path / "out", calculator="chgnet", executor=Pool(1))


def test_a_calculator_that_ends_its_process_is_an_error(tmp_path, fakes):
    (fakes / "deadly.py").write_text("import os; os._exit(7)")
    with pytest.raises(ValueError, match=r"'deadly:x' could not be loaded.*exit code 7.*log"):
        run([COPPER], tmp_path / "out", calculator="deadly:x", executor=Pool(1))
    # The folder can still be used with another.
    assert run([COPPER], tmp_path / "out")[0].status == "converged"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": -1}, "max_steps is -1; allowed: 0 or more"),
        ({"fmax_ev_per_angstrom": 0.0}, "fmax_ev_per_angstrom is 0; allowed: a positive"),
        ({"seconds_per_crystal": float("nan")}, "seconds_per_crystal is nan"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run([COPPER], tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_wrong_ids_and_no_crystal(tmp_path):
    with pytest.raises(ValueError, match="1 structures but 2 ids"):
        relax([COPPER], tmp_path / "out", ids="ab")
    assert run([], tmp_path / "out") == []
    assert run([None], tmp_path / "out")[0].reason == "there is no crystal"
    assert not (tmp_path / "out").exists()


def test_chgnet(tmp_path):
    """CHGNet's stress has the wrong sign in a left-handed cell, which relaxes as its twin does."""
    pytest.importorskip("chgnet")
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()
    americium = Structure(Lattice.cubic(3.5), ["Am"], [[0, 0, 0]])
    right = Structure(Lattice.cubic(4.4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    swapped = Lattice(right.lattice.matrix[[1, 0, 2]])
    left = Structure(swapped, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert np.linalg.det(left.lattice.matrix) < 0
    result, failed, one, two = run(
        [salt, americium, right, left], tmp_path / "out", calculator="chgnet", executor=Pool(1)
    )
    assert result.status == "converged"
    assert result.energy_is_corrected is True
    assert result.potential["weights"] == "0.3.0"
    assert len(result.potential["weights_sha256"]) == 64
    # The Materials Project's NaCl: -3.7 eV/atom with corrections, cell of 5.69 Å.
    assert result.energy_ev_per_atom == pytest.approx(-3.7, abs=0.1)
    assert (4 * result.structure.volume) ** (1 / 3) == pytest.approx(5.65, abs=0.1)
    assert failed.reason == "CHGNet does not know Am: its elements end with Pu"
    assert one.status == two.status == "converged"
    assert two.energy_ev_per_atom == pytest.approx(one.energy_ev_per_atom, abs=1e-4)
    assert two.structure.volume < 1.05 * 4.2**3
