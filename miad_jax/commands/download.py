"""Fetch a published data set, or a hull: `python -m miad_jax.download mp_20`.

NAME is mp_20, perov_5, carbon_24, mpts_52 (from the repository of FlowMM) or alex_mp_20 (from that
of MatterGen); the files must have the published SHA-256. The splits go to data/NAME, where the
configurations look for them. Files that are there already are left as they are, so the same command
continues what was interrupted.

With the NAME mp_hull it fetches the Materials Project's entries of chemical systems, which
`python -m miad_jax.evaluate --hull` reads: `download mp_hull --elements=Li,Fe,P,O`, or
`download mp_hull --samples=FOLDER`. It needs `pip install "miad_jax[mp]"` and a key of the
Materials Project.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.commands import output
from miad_jax.data.download import download_dataset
from miad_jax.data.mp_hull import download_hull
from miad_jax.data.published import PUBLISHED
from miad_jax.evaluation import load_samples
from miad_jax.spelling import did_you_mean

MP_HULL = "mp_hull"

FLAGS = flags.FlagValues()
output.define(FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "Folder for the splits, default: data/NAME; of mp_hull the file, default: mp_hull.json.gz",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "address",
    None,
    "Another place that has the set: the address of a folder with train.csv, val.csv and test.csv, "
    "or of a zip of them; only their content is checked, not a hash. Of mp_hull: that of the API",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "elements", None, "mp_hull: all chemical systems within these elements", flag_values=FLAGS
)
flags.DEFINE_string(
    "samples",
    None,
    "mp_hull: the chemical systems of these samples, as `python -m miad_jax.evaluate` takes them",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "api_key",
    None,
    "mp_hull: key of the Materials Project; default: the environment variable MP_API_KEY",
    flag_values=FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Fetch as the command line says."""
    given = copy.deepcopy(FLAGS)  # a second call in one process begins with the defaults
    name = command.parse(given, argv, str(__doc__), positional="NAME")
    if name == MP_HULL:
        _fetch_hull(given)
        return 0
    if others := [x for x in ("elements", "samples", "api_key") if given[x].value is not None]:
        raise ValueError(f"--{others[0]} belongs to {MP_HULL}, and the name is {name!r}")
    if name not in PUBLISHED:
        allowed = [*PUBLISHED, MP_HULL]
        hint = did_you_mean(name, allowed)
        raise ValueError(f"nothing is called {name!r}{hint}; allowed: {', '.join(allowed)}")
    folder = Path(given.out or f"data/{name}")
    out = output.Output.of(given)
    counts = download_dataset(name, folder, address=given.address, progress=out.progress)
    for file_name, count in counts.items():
        out.say(f"{folder / file_name}: {count} crystals")
    if not counts:
        out.say(f"{folder} holds the set already: nothing was fetched")
    files = [folder / file_name for file_name in counts]
    out.finish({"command": "download", "folder": folder, "files": files, "num_crystals": counts})
    return 0


def _fetch_hull(given: flags.FlagValues) -> None:
    """Fetch the entries of some elements, or of the samples' chemical systems."""
    out = output.Output.of(given)
    file = Path(given.out or f"{MP_HULL}.json.gz")
    if (given.elements is None) == (given.samples is None):
        raise ValueError(
            f"{MP_HULL} takes either --elements=Li,Fe,P,O or --samples=FOLDER: give one of them"
        )
    if given.elements is not None:
        systems = [[symbol.strip() for symbol in given.elements]]
    else:
        rows = load_samples(given.samples, progress=out.progress).rows
        found = {row["chemical_system"] for row in rows if not row["reason"]}
        systems = [system.split("-") for system in sorted(found)]
    head = download_hull(
        systems, file, api_key=given.api_key, address=given.address, progress=out.progress
    )
    out.say(
        f"{file}: {head['num_entries']} entries of {len(head['chemical_systems'])} chemical "
        f"systems, database {head['database_version']}"
    )
    if head["without_entry"]:
        out.say(f"there is no entry of {', '.join(head['without_entry'])}")
    out.finish({"command": "download", "files": [file], **head})
