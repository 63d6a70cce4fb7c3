"""Quality against evaluations of the network, as one figure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

PANELS = [
    ("valid composition", "Valid compositions [%]"),
    ("plausible structure", "Plausible structures [%]"),
    ("symmetry above P1 at 0.1 Å", "Symmetry above P1 at 0.1 Å [%]"),
    ("COV-R", "COV-R [%]"),
    ("COV-P", "COV-P [%]"),
    ("density distance", "Density distance [g/cm³]"),
    ("elements a crystal", "Elements a crystal"),
    ("atoms per cell", "Atoms a cell"),
    ("M.S.U.N.", "M.S.U.N. [%]"),
]
COLOURS = {"MiAD": "#0072B2", "DiffCSP": "#D55E00"}
STYLES = {
    "published": ("x:", "published"),
    "predictor_corrector": ("o--", "predictor–corrector, bounded"),
    "ancestral": ("o-", "ancestral, churn"),
}


def draw(rows: list[dict[str, Any]]) -> Figure:
    """A panel a number; bars are 95 % intervals."""
    figure = Figure(figsize=(12.5, 9.5), dpi=110, layout="constrained")
    for axes, (name, title) in zip(figure.subplots(3, 3).flat, PANELS, strict=True):
        for method, colour in COLOURS.items():
            for solver, (style, label) in STYLES.items():
                points = [
                    (row["evaluations"], row["numbers"][name])
                    for row in rows
                    if (row["method"], row["solver"]) == (method, solver)
                    and row["numbers"].get(name, {}).get("value") is not None
                ]
                if not points:
                    continue
                counts, numbers = zip(*sorted(points, key=lambda point: point[0]), strict=True)
                scale = 100 if numbers[0]["is_share"] else 1
                values = [scale * number["value"] for number in numbers]
                low, high = (
                    [
                        abs(scale * n["interval_95"][i] - v)
                        for n, v in zip(numbers, values, strict=True)
                    ]
                    for i in (0, 1)
                )
                axes.errorbar(
                    counts, values, (low, high), fmt=style, color=colour, markersize=5,
                    linewidth=1.4, elinewidth=0.8, capsize=2, label=f"{method}, {label}",
                    alpha=0.9 if solver == "ancestral" else 0.55,
                )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([25, 50, 100, 200, 500, 1000, 2000])
        axes.set_xticklabels(["25", "50", "100", "200", "500", "1,000", "2,000"], fontsize=8)
        axes.minorticks_off()
        axes.set_title(title, loc="left", fontsize=11, weight="bold")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("evaluations of the network for one crystal", fontsize=11)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure
