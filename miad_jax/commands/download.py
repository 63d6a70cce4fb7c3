"""Fetch a published data set: `python -m miad_jax.download mp_20`.

NAME is mp_20, perov_5, carbon_24, mpts_52 (from the repository of FlowMM) or alex_mp_20 (from that
of MatterGen); the files must have the published SHA-256. The splits go to data/NAME, where the
configurations look for them. Files that are there already are left as they are, so the same command
continues what was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.data.download import download_dataset

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "Folder for the splits; default: data/NAME", flag_values=FLAGS)
flags.DEFINE_string(
    "address",
    None,
    "Another place that has the set: the address of a folder with train.csv, val.csv and test.csv, "
    "or of a zip of them; only their content is checked, not a hash",
    flag_values=FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Fetch as the command line says."""
    name = command.parse(FLAGS, argv, str(__doc__), positional="NAME")
    folder = Path(FLAGS.out or f"data/{name}")
    counts = download_dataset(name, folder, address=FLAGS.address, progress=True)
    for file_name, count in counts.items():
        print(f"{folder / file_name}: {count} crystals")
    if not counts:
        print(f"{folder} holds the set already: nothing was fetched")
    return 0
