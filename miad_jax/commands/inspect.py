"""Look into a data set before training on it: `python -m miad_jax.inspect DATA --out=DIR`.

DATA is what `--config.data.path` of train takes: a folder or a zip of CIFs or POSCARs, a CSV with a
column `cif`, an extxyz, a folder with train and val files, or the name of a set. The command says
what was read, what was refused and why, sizes, elements, edges, duplicates, and the numeric columns
that a model can be told. With --out it also writes inspection.json and inspection.png. What was
read is kept in the cache, so that a training begins at once.
"""

from __future__ import annotations

import copy
import math
import shlex
import warnings
from collections.abc import Sequence

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.commands import output
from miad_jax.evaluation.inspection import Inspection, inspect_data
from miad_jax.parallel.pool import Pool

SLOTS_AN_ATOM = 1.25
"""N_m by the largest number of atoms, as the paper takes it."""

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "Folder for the figure and the JSON", flag_values=FLAGS)
flags.DEFINE_integer(
    "slots", 25, "N_m of the model to be trained; larger crystals are counted", flag_values=FLAGS
)
flags.DEFINE_float(
    "max_edge", 30.0, "Crystals with an edge beyond so many Å are named", flag_values=FLAGS
)
flags.DEFINE_bool("duplicates", True, "Compare the crystals with each other", flag_values=FLAGS)
flags.DEFINE_integer("num_workers", None, "Worker processes; default: cores", flag_values=FLAGS)
output.define(FLAGS)


def main(argv: Sequence[str]) -> int:
    """Inspect as the command line says."""
    # pymatgen warns of every noble gas, which says nothing of the data.
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")
    given = copy.deepcopy(FLAGS)  # a second call in one process begins with the defaults
    data = command.parse(given, argv, str(__doc__), positional="DATA")
    if given.slots < 1:
        raise ValueError(f"--slots is {given.slots}; allowed: a whole number from 1 on")
    if not 0 < given.max_edge < math.inf:
        raise ValueError(f"--max_edge is {given.max_edge:g}; allowed: a number of Å above 0")
    out = output.Output.of(given)
    found = inspect_data(
        data,
        slots=given.slots,
        max_edge_angstrom=given.max_edge,
        duplicates=given.duplicates,
        executor=None if given.num_workers is None else Pool(given.num_workers),
        progress=out.progress,
    )
    for line in found.lines():
        out.say(line)
    out.say(f"to train on it: {_train_command(found)}")
    files = [] if given.out is None else found.write(given.out)
    if files:
        out.say(f"inspection.json and inspection.png in {given.out}")
    out.finish({"command": "inspect", "files": files, **found.facts})
    return 0


def _train_command(found: Inspection) -> str:
    """The line that trains on the data, without what does not fit."""
    facts = found.facts
    atoms, edges = facts["atoms"], facts["edges_angstrom"]
    slots = min(atoms["slots"], math.ceil(SLOTS_AN_ATOM * atoms["largest"]))
    words = [
        f"miad-jax train --config=mp20:small --config.data.path={shlex.quote(facts['data'])}",
        f"--workdir=runs/mine --config.infusion.num_atoms={slots}",
        f"--config.data.max_num_atoms={min(slots, atoms['largest'])}",
    ]
    if edges["num_too_long"]:
        words.append(f"--config.data.max_edge_angstrom={edges['limit']:g}")
    return " ".join(words)
