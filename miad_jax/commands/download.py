"""Fetch a published data set: `python -m miad_jax.download mp_20`.

NAME is mp_20, perov_5, carbon_24 (from the repository of CDVAE) or alex_mp_20 (from that of
MatterGen). The splits go to data/NAME, where the configurations look for them. Files that are there
already are left as they are, so the same command continues what was interrupted.
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
    "or of a zip of them",
    flag_values=FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Fetch as the command line says."""
    name = command.parse(FLAGS, argv, str(__doc__), positional="NAME")
    folder = Path(FLAGS.out or f"data/{name}")
    bars: dict[str, command.Bar] = {}

    def report(file_name: str, done: int, total: int) -> None:
        if file_name not in bars:
            for bar in bars.values():
                bar.close()
            bars[file_name] = command.Bar(file_name, " MB")
        bars[file_name](round(done / 1e6, 1), round(max(done, total) / 1e6, 1), {})

    counts = download_dataset(name, folder, address=FLAGS.address, report=report)
    for bar in bars.values():
        bar.close()
    for file_name, count in counts.items():
        print(f"{folder / file_name}: {count} crystals")
    if not counts:
        print(f"{folder} holds the set already: nothing was fetched")
    return 0
