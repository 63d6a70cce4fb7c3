"""How time and memory grow with N_m, batch and width, and what fits a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.speed.programs import SIZES, Case, sampling, training
from experiments.speed.timing import interleave

PUBLISHED = SIZES["published"]
NUM_ATOMS = (10, 15, 20, 25, 36, 52)
BATCHES = (8, 16, 32, 64)
WIDTHS = (128, 256, 512, 1024)
DEVICES_GB = (16, 80, 140)


def growth(rounds: int) -> dict:
    """Time of a training step along each axis, and the exponent of a power law fitted to it."""
    found = {}
    for axis, values in (("num_atoms", NUM_ATOMS), ("batch_size", BATCHES), ("width", WIDTHS)):
        programs = {str(v): training(_case(axis, v)) for v in values}
        times = interleave(programs, rounds)
        medians = [times[str(v)].median for v in values]
        found[axis] = {
            "values": list(values),
            "times": [times[str(v)].as_dict() for v in values],
            "temp_bytes": [programs[str(v)].temp_bytes for v in values],
            "exponent": exponent(values, medians),
        }
    return found


def miad_against_diffcsp(rounds: int) -> dict:
    """A step of each on the same crystals: 25 slots that are all atoms, or 20 with padding."""
    cases = {"MiAD": Case(PUBLISHED, 25, 16), "DiffCSP": Case(PUBLISHED, 20, 16, infused=False)}
    programs = {f"{name} training": training(case) for name, case in cases.items()}
    programs |= {f"{name} sampling": sampling(case) for name, case in cases.items()}
    return {name: times.as_dict() for name, times in interleave(programs, rounds).items()}


def memory_law() -> dict:
    """Bytes of a step that sees its whole batch at once: state + a·edges + b·nodes, fitted.

    The compiler says what a program needs; nothing is run. From the fit follow the largest
    batch and N_m of each device, in float32.
    """
    settings = [(n, b) for n in (10, 25, 52) for b in (4, 16, 32)]
    programs = [training(Case(PUBLISHED, n, b, chunk_size=b)) for n, b in settings]
    total = [program.temp_bytes + program.argument_bytes for program in programs]
    columns = np.array([[1, b * n * n, b * n] for n, b in settings], float)
    law, *_ = np.linalg.lstsq(columns / np.array(total)[:, None], np.ones(len(total)), rcond=None)
    state, per_edge, per_node = law.tolist()

    def largest_batch(num_atoms: int, memory: float) -> int:
        return int((memory - state) / (per_edge * num_atoms**2 + per_node * num_atoms))

    def largest_num_atoms(batch_size: int, memory: float) -> int:
        roots = np.roots([batch_size * per_edge, batch_size * per_node, state - memory])
        return int(roots.max())

    return {
        "settings": settings,
        "bytes": total,
        "error": float(np.abs(columns @ law / total - 1).max()),
        "state_bytes": state,
        "bytes_per_edge": per_edge,
        "bytes_per_node": per_node,
        "largest": [
            {
                "memory_gb": gb,
                "batch_at_num_atoms_25": largest_batch(25, gb * 1e9),
                "batch_at_num_atoms_52": largest_batch(52, gb * 1e9),
                "num_atoms_at_batch_256": largest_num_atoms(256, gb * 1e9),
            }
            for gb in DEVICES_GB
        ],
    }


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log time over log value."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def _case(axis: str, value: int) -> Case:
    case = Case(PUBLISHED, 25, 16)
    if axis == "width":
        return replace(case, net=PUBLISHED.clone(hidden_dim=value))
    return replace(case, **{axis: value})
