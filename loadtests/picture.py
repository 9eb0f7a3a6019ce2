"""The benchmark as a picture: requests per second and added latency, one bar per system."""

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG; nothing is drawn where matplotlib is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    medians = report["medians"]
    names = list(medians)
    base = medians["direct"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    for offset, clients in enumerate(base["requests_per_s"]):
        rates = [medians[name]["requests_per_s"][clients] for name in names]
        places = [place + offset * 0.38 for place in range(len(names))]
        left.barh(places, rates, 0.36, label=f"{clients} clients")
        for place, rate in zip(places, rates, strict=True):
            left.text(rate, place, f" {rate:,.0f}", va="center", fontsize=8)
    left.set_yticks([place + 0.19 for place in range(len(names))], names)
    left.set_title("requests/s on one core, 1 KB bodies")
    left.locator_params(axis="x", nbins=5)
    left.legend()
    others = [name for name in names if name != "direct"]
    for offset, (key, label) in enumerate((("p50_ms", "p50"), ("p99_ms", "p99"))):
        places = [place + offset * 0.38 for place in range(len(others))]
        right.barh(places, [medians[name][key] - base[key] for name in others], 0.36, label=label)
    right.set_yticks([place + 0.19 for place in range(len(others))], others)
    right.set_title(f"added ms at {report['rate']:,} requests/s")
    right.legend()
    for axes in (left, right):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{report['when'][:10]}, medians of {report['rounds']} interleaved rounds", fontsize=9, color="grey"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
