"""The results as one figure."""

from __future__ import annotations

from matplotlib.figure import Figure

COLOURS = {"training step": "#0072B2", "forward pass": "#009E73", "sampling step": "#D55E00"}


def draw(results: dict) -> Figure:
    """Ratios to the plain formulation, shares of the limit, and growth with N_m."""
    figure = Figure(figsize=(13, 4.6), dpi=120, layout="constrained")
    ratio_axes, share_axes, growth_axes = figure.subplots(1, 3)
    cases = results["cases"]
    labels = [f"{c['size']}\nN_m {c['num_atoms']}\nbatch {c['batch_size']}" for c in cases]
    for axes, key, factor in ((ratio_axes, "ratio", 1), (share_axes, "share_of_limit", 100)):
        for k, (what, colour) in enumerate(COLOURS.items()):
            places = [i + 0.27 * (k - 1) for i in range(len(cases))]
            heights = [factor * c[what][key] for c in cases]
            axes.bar(places, heights, width=0.25, color=colour, label=what)
        axes.set_xticks(range(len(cases)), labels, fontsize=7)
    ratio_axes.axhline(1, color="#777777", linewidth=0.8)
    ratio_axes.set_title("Times faster than plain jraph", loc="left", fontsize=11, weight="bold")
    ratio_axes.legend(frameon=False, fontsize=8)
    share_axes.set_title(
        "Share of the matmul limit, least work [%]", loc="left", fontsize=11, weight="bold"
    )
    found = results["growth"]["num_atoms"]
    growth_axes.loglog(
        found["values"], [t["median"] for t in found["times"]], "o-", color=COLOURS["training step"]
    )
    growth_axes.set_xticks(found["values"], [str(v) for v in found["values"]])
    seconds = [0.1, 0.2, 0.5, 1, 2, 5]
    growth_axes.set_yticks(seconds, [f"{s:g}" for s in seconds])
    growth_axes.minorticks_off()
    growth_axes.set_xlabel("N_m")
    growth_axes.set_ylabel("training step, batch 16 [s]")
    title = f"Growth: time ∝ N_m^{found['exponent']:.2f}"
    growth_axes.set_title(title, loc="left", fontsize=11, weight="bold")
    for axes in (ratio_axes, share_axes, growth_axes):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{results['device']}, {results['dtype']}, jax {results['jax']}", fontsize=9)
    return figure
