"""What is in a data set, before anyone trains on it for a day."""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import Records, available_splits, load_dataset, to_structures
from miad_jax.data.properties import computed_property
from miad_jax.evaluation.novelty import match
from miad_jax.padding import resize
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.plots.data_set import data_set_figure
from miad_jax.storage.files import write_atomically
from miad_jax.storage.run_record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_EXAMPLES = 3
_RECORD = RunRecord("run.json", format="miad_jax inspection 1", kind="an inspection")
_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.]*(?:[eE][-+]?\d+)?")
"""What two reasons of one kind differ in: names in quotes, and numbers."""


@dataclass(frozen=True)
class Inspection:
    """What is in a data set.

    Attributes:
        facts: All of it, in values that JSON knows; what files and programs get.
        columns: What the figure draws of each crystal.
    """

    facts: Mapping[str, Any]
    columns: Mapping[str, Any]

    def lines(self) -> list[str]:
        """What people are told."""
        facts = self.facts
        found = [
            f"{facts['data']}: {facts['num_crystals']} crystals, {facts['num_refused']} refused"
        ]
        told = {
            "parts": _parts(facts["parts"]),
            "atoms": "{smallest} to {largest} in a cell, median {median:g}; "
            "{num_too_large} crystals have more than {slots} (--slots)".format(**facts["atoms"]),
            "elements": f"{len(facts['elements'])}: {_first(facts['elements'])}",
            "edges": "longest of a cell {smallest:.3g} to {largest:.3g} Å, median {median:.3g}; "
            "{num_too_long} crystals beyond {limit:g} Å".format(**facts["edges_angstrom"])
            + _named(facts["edges_angstrom"]["too_long"], " Å"),
            "density": "{smallest:.3g} to {largest:.3g} g/cm³, median {median:.3g}".format(
                **facts["density_g_per_cm3"]
            ),
        }
        if facts["duplicates"] is not None:
            pairs = facts["duplicates"]
            some = "; ".join(f"{x['id']} is {x['duplicate_of']}" for x in pairs[:NUM_EXAMPLES])
            told["duplicates"] = f"{len(pairs)} crystals are an earlier one"
            told["duplicates"] += f": {some}{'; …' * (len(pairs) > NUM_EXAMPLES)}" * bool(pairs)
        for name, x in facts["properties"].items():
            told[name] = (
                f"property, {x['smallest']:.4g} to {x['largest']:.4g}, known of {x['num_known']}"
            )
        if facts["text_columns"]:
            told["text"] = f"columns that are no numbers: {', '.join(facts['text_columns'])}"
        width = max(map(len, told))
        found += [f"  {name:{width}}  {line}" for name, line in told.items()]
        for group in facts["refused"]:
            some = ", ".join(group["examples"])
            more = ", …" * (group["num"] > len(group["examples"]))
            found.append(f"  {group['num']} refused: {group['reason']} ({some}{more})")
        return found

    def figure(self) -> Figure:
        """Sizes, elements, densities, longest edges and properties."""
        facts = self.facts
        title = f"{Path(facts['data']).name}: {facts['num_crystals']} crystals"
        return data_set_figure(
            title, max_edge_angstrom=facts["edges_angstrom"]["limit"], **self.columns
        )

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write inspection.json and inspection.png; those of an earlier call are replaced.

        Raises:
            ValueError: If the folder holds anything but an inspection of the same data.
        """
        folder = Path(folder)
        _RECORD.open(folder, {"data": self.facts["data"]})
        image = io.BytesIO()
        self.figure().savefig(image, format="png")
        text = json.dumps(self.facts, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / "inspection.json", text + "\n")
        write_atomically(folder / "inspection.png", image.getvalue())
        return [folder / "inspection.json", folder / "inspection.png"]


def inspect_data(
    data: str | os.PathLike[str],
    *,
    slots: int = 25,
    max_edge_angstrom: float = 30.0,
    duplicates: bool = True,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> Inspection:
    """Read a data set, all parts of it, and say what is in it.

    Args:
        data: As `load_dataset` takes it.
        slots: N_m of the model that is to be trained; larger crystals are counted.
        max_edge_angstrom: Crystals with a longer edge are counted and named.
        duplicates: Whether crystals are compared with each other, by pymatgen's StructureMatcher.
        executor: Where crystals are read and compared.
        progress: Where to show how far it has come.

    Raises:
        ValueError: If the data set is unknown, cannot be read, or has no crystal.
    """
    progress = as_progress(progress)
    parts: dict[str, tuple[Crystal, Records]] = {
        split: load_dataset(data, split, executor=executor, progress=progress)
        for split in available_splits(data)
    }
    size = max(crystals.size for crystals, _ in parts.values())
    crystals: Crystal = jax.tree.map(
        lambda *x: np.concatenate(x), *(resize(x, size) for x, _ in parts.values())
    )
    several = len(parts) > 1
    ids = [f"{split}/{x}" if several else x for split, (_, r) in parts.items() for x in r.ids]
    refused = [
        (f"{split}/{name}" if several else name, reason)
        for split, (_, records) in parts.items()
        for name, reason in records.rejected
    ]
    mask, types = np.asarray(crystals.mask), np.asarray(crystals.atom_types)
    num_atoms = mask.sum(-1)
    edges = np.linalg.norm(np.asarray(crystals.lattice, np.float64), axis=-1).max(-1)
    densities = computed_property("density", crystals)
    systems = _chemical_systems(types, mask)
    numbers, texts = _columns([(len(x), records) for x, records in parts.values()])
    elements = Counter(x for system in systems for x in system.split("-"))
    too_long = [(ids[i], round(float(edges[i]), 2)) for i in np.argsort(-edges, kind="stable")]
    too_long = [(name, edge) for name, edge in too_long if edge > max_edge_angstrom]
    sizes = Counter(num_atoms.tolist())
    facts = {
        "data": os.fspath(data),
        "parts": {split: len(x) for split, (x, _) in parts.items()} if several else {},
        "num_crystals": len(ids),
        "num_refused": len(refused),
        "refused": _grouped(refused),
        "atoms": {
            **_range(num_atoms),
            "slots": slots,
            "num_too_large": int((num_atoms > slots).sum()),
            "crystals_by_size": {str(n): sizes[n] for n in sorted(sizes)},
        },
        "elements": dict(sorted(elements.items(), key=lambda item: (-item[1], item[0]))),
        "edges_angstrom": {
            **_range(edges),
            "limit": max_edge_angstrom,
            "num_too_long": len(too_long),
            "too_long": dict(too_long),
        },
        "density_g_per_cm3": _range(densities),
        "duplicates": _duplicates(crystals, ids, executor, progress) if duplicates else None,
        "properties": {
            name: {**_range(x[np.isfinite(x)]), "num_known": int(np.isfinite(x).sum())}
            for name, x in numbers.items()
        },
        "text_columns": texts,
    }
    columns = {
        "num_atoms": num_atoms,
        "chemical_systems": systems,
        "densities_g_per_cm3": densities,
        "longest_edges_angstrom": edges,
        "properties": numbers,
    }
    return Inspection(facts, columns)


def _duplicates(
    crystals: Crystal, ids: Sequence[str], executor: Executor | None, progress: Progress
) -> list[dict[str, str]]:
    """Each crystal that an earlier one is, and that one."""
    found = match(to_structures(crystals), executor=executor, progress=progress).duplicate_of
    return [
        {"id": name, "duplicate_of": ids[i]}
        for name, i in zip(ids, found, strict=True)
        if i is not None
    ]


def _grouped(refused: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Reasons of one kind together: how many, the first of them, and some ids; most first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in refused:
        groups.setdefault(_PARTICULAR.sub("…", reason), []).append((name, reason))
    return [
        {
            "num": len(group),
            "reason": group[0][1],
            "examples": [name for name, _ in group[:NUM_EXAMPLES]],
        }
        for group in sorted(groups.values(), key=len, reverse=True)
    ]


def _chemical_systems(types: np.ndarray, mask: np.ndarray) -> list[str]:
    """Such as Cl-Na, of each crystal."""
    from ase.data import chemical_symbols

    symbols = np.array(chemical_symbols)
    return ["-".join(sorted(symbols[np.unique(z[m])])) for z, m in zip(types, mask, strict=True)]


def _columns(
    parts: Sequence[tuple[int, Records]],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Numeric columns over all parts, NaN where a part lacks them, and names of the others."""
    names = dict.fromkeys(name for _, records in parts for name in records.columns)
    numbers, texts = {}, []
    for name in names:
        values = [records.columns.get(name, np.full(num, np.nan)) for num, records in parts]
        if all(x.dtype.kind in "fiu" for x in values):
            joined = np.concatenate(values).astype(float)
            if np.isfinite(joined).any():
                numbers[name] = joined
                continue
        texts.append(name)
    return numbers, texts


def _range(values: np.ndarray) -> dict[str, float]:
    return {
        "smallest": values.min().item(),
        "largest": values.max().item(),
        "median": float(np.median(values)),
    }


def _parts(parts: Mapping[str, int]) -> str:
    if parts:
        return ", ".join(f"{split} {num}" for split, num in parts.items())
    return "none; a training takes a share for validation (config.data.val_fraction)"


def _first(counts: Mapping[str, int], most: int = 10) -> str:
    shown = [f"{name} {num}" for name, num in list(counts.items())[:most]]
    return ", ".join(shown) + ", …" * (len(counts) > most)


def _named(values: Mapping[str, float], unit: str) -> str:
    """Some names with their values, behind a colon; nothing where there is none."""
    shown = [f"{name} ({x:g}{unit})" for name, x in list(values.items())[:NUM_EXAMPLES]]
    return ": " * bool(shown) + ", ".join(shown) + ", …" * (len(values) > NUM_EXAMPLES)
