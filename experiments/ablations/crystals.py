"""What crystals are like, of MiAD and its baseline: sizes, space groups, how atoms come and go."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.claims.claim import Claim, markdown
from experiments.claims.numbers import MISSING, NO, YES, Number
from miad_jax.data.formats import npz_bytes
from miad_jax.evaluation.statistics import wilson
from miad_jax.storage.files import write_atomically

COUNTS = "counts.npz"
SHOWN = "shown"
BOTH = ("miad", "diffcsp")
QUARTERS = 4


def rows_of(folders: list[Path]) -> pd.DataFrame | None:
    """The judged samples of several reports; None where there is none."""
    tables = [pd.read_csv(x / "crystals.csv") for x in folders if (x / "crystals.csv").exists()]
    return pd.concat(tables) if tables else None


def sun_of(rows: pd.DataFrame | None) -> pd.DataFrame | None:
    """Those that are stable, unique and novel; None where no energy is known."""
    if rows is None or "sun" not in rows or rows["sun"].isna().all():
        return None
    return rows[rows["sun"].eq(True)]  # and not where it is unknown


def sizes(judged: dict[str, pd.DataFrame | None], data: np.ndarray | None) -> str:
    """Shares of crystals by number of atoms (Figure 4).

    Args:
        judged: Samples by training.
        data: Numbers of atoms of the training crystals; None where they were not read.
    """
    columns = {} if data is None else {"training crystals": data}
    for name, rows in judged.items():
        if rows is not None:
            columns[name] = rows["num_atoms"].dropna().to_numpy()
            if (sun := sun_of(rows)) is not None and len(sun):
                columns[f"S.U.N. of {name}"] = sun["num_atoms"].to_numpy()
    if not columns:
        return MISSING
    head = ["atoms", *(f"{name} ({len(x)})" for name, x in columns.items())]
    largest = int(max(x.max() for x in columns.values()))
    table: list[list[object]] = [[*head]]
    for size in range(1, largest + 1):
        table.append([size, *(f"{100 * (x == size).mean():.1f} %" for x in columns.values())])
    return markdown(table)


def space_groups(judged: dict[str, pd.DataFrame | None]) -> str:
    """The most frequent space groups of S.U.N. crystals (Figure 5); of all, where none is known."""
    table: list[list[object]] = [["", "crystals", "above P1", "different", "most frequent"]]
    for name, rows in judged.items():
        sun = sun_of(rows)
        for what, those in ((name, rows), (f"S.U.N. of {name}", sun)):
            if those is None:
                continue
            groups = those["spacegroup_number_0.1"].dropna().astype(int)
            if not len(groups):
                continue
            common = Counter(groups).most_common(6)
            above = share(int((groups > 1).sum()), len(groups))
            said = ", ".join(f"{group} ({count})" for group, count in common)
            table.append([what, len(groups), above, groups.nunique(), said])
    return markdown(table) if len(table) > 1 else MISSING


def share(count: int, total: int) -> Number:
    """A share with Wilson's interval."""
    return Number(count / total, *wilson(count, total), is_share=True)


def counts_of(folders: list[Path]) -> np.ndarray | None:
    """Real atoms after each step, of the trainings of several folders; [samples, steps]."""
    files = [folder / COUNTS for folder in folders if (folder / COUNTS).exists()]
    counts = [np.load(file)["num_real_atoms"].astype(int) for file in files]  # kept unsigned
    return np.concatenate(counts) if counts else None


def keep_counts(samples: Path, folder: Path) -> None:
    """Keep of samples what `counts_of` reads, which is a small part of them."""
    with np.load(samples / "samples.npz") as file:
        arrays = {"num_real_atoms": file["num_real_atoms"].astype(np.uint8)}
    write_atomically(folder / COUNTS, npz_bytes(arrays))


def on_the_way(counts: np.ndarray | None) -> str:
    """How the number of real atoms goes during generation (Appendix F)."""
    if counts is None:
        return MISSING
    steps = counts.shape[1]
    table: list[list[object]] = [["share of the steps", "mean real atoms", "deviation", "settled"]]
    for quarter in range(1, QUARTERS + 1):
        step = quarter * steps // QUARTERS - 1
        settled = (counts[:, step:] == counts[:, -1:]).all(1).mean()
        now = counts[:, step]
        done = f"{100 * quarter // QUARTERS} %"
        table.append([done, f"{now.mean():.2f}", f"{now.std():.2f}", f"{100 * settled:.1f} %"])
    return markdown(table)


def changing(counts: np.ndarray | None, command: str) -> Claim:
    """Whether atoms both appear and vanish while a crystal is generated."""
    claim = "The number of atoms changes in both directions during generation"
    if counts is None:
        return Claim("Appendix F", claim, MISSING, MISSING, command)
    change = np.diff(counts, axis=1)
    both = int(((change > 0).any(1) & (change < 0).any(1)).sum())
    late = int((change[:, change.shape[1] // 2 :] != 0).any(1).sum())
    found = share(both, len(counts))
    measured = (
        f"of {len(counts)} samples {found} gain and lose atoms; in "
        f"{share(late, len(counts))} the number changes in the second half of the steps"
    )
    return Claim("Appendix F", claim, measured, YES if found.low > 0.5 else NO, command)


def sizes_claim(judged: dict[str, pd.DataFrame | None], command: str) -> Claim:
    """How large S.U.N. crystals are."""
    said = {
        name: f"{name} {sun['num_atoms'].mean():.2f} ({len(sun)})"
        for name, rows in judged.items()
        if (sun := sun_of(rows)) is not None and len(sun)
    }
    what = "Numbers of atoms of S.U.N. crystals"
    return _shown("Figure 4", what, "mean atoms (crystals)", said, command)


def space_groups_claim(judged: dict[str, pd.DataFrame | None], command: str) -> Claim:
    """How many of the S.U.N. crystals are symmetric."""
    said = {
        name: f"{name} {share(int((sun['spacegroup_number_0.1'] > 1).sum()), len(sun))}"
        for name, rows in judged.items()
        if (sun := sun_of(rows)) is not None and len(sun)
    }
    return _shown("Figure 5", "Space groups of S.U.N. crystals", "above P1", said, command)


def _shown(source: str, what: str, of: str, said: dict[str, str], command: str) -> Claim:
    """What the paper shows and claims nothing of."""
    if not said:
        return Claim(source, what, MISSING, MISSING, command)
    return Claim(source, what, f"{of}: {', '.join(said.values())}", SHOWN, command)
