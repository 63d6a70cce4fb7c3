"""Quality against evaluations of the network, for the weights of the package.

    python -m experiments.few_steps --reference=DIR --out=DIR [--num=500] [--relax=200]

Draws every point's samples, judges them against the reference, and writes `results.json`,
`table.md` and `few_steps.png` to DIR. What is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax

from experiments.few_steps.figure import draw as draw_figure
from experiments.few_steps.points import MODELS, POINTS
from experiments.few_steps.table import markdown, read
from experiments.few_steps.work import draw, judge
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.storage.files import write_atomically


def main() -> None:
    """Draw, judge, and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", help="the data set, with train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path("few_steps"))
    parser.add_argument("--num", type=int, default=500, help="samples a point")
    parser.add_argument("--relax", type=int, default=200, help="of them relaxed, at three points")
    parser.add_argument("--only", choices=["draw", "judge", "show"])
    options = parser.parse_args()
    if options.reference is None and options.only in (None, "judge"):
        parser.error("give --reference")
    steps = [options.only] if options.only else ["draw", "judge", "show"]
    samples, reports = options.out / "samples", options.out / "reports"
    for folder in (samples, reports):
        folder.mkdir(parents=True, exist_ok=True)
    points = [(method, point) for point in POINTS for method in MODELS]
    if "draw" in steps:
        cores_as_devices()
        jax.config.update("jax_default_matmul_precision", "float32")
        for method, point in points:
            path = samples / f"{method}.{point.name}.{point.evaluations}.npz"
            draw(MODELS[method], point, options.num, path)
    if "judge" in steps:
        for method, point in points:
            name = f"{method}.{point.name}.{point.evaluations}"
            judge(
                samples / f"{name}.npz",
                point,
                method == "MiAD",
                options.reference,
                options.relax,
                reports / name,
            )
    if "show" in steps:
        rows = read(reports)
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        write_atomically(options.out / "results.json", text + "\n")
        tables = [f"{method}\n\n{markdown(rows, method)}" for method in MODELS]
        write_atomically(options.out / "table.md", "\n".join(tables))
        draw_figure(rows).savefig(options.out / "few_steps.png")
        print("\n".join(tables))


if __name__ == "__main__":
    main()
