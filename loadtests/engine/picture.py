"""Decoding as a roofline: what the device allows at each intensity, and where the steps are."""

from pathlib import Path
from typing import Any

COLOURS = {
    "steps of the engine": "#2a9d5c",
    "the model alone": "#5f8dd3",
    "the model alone, captured": "#9aa0a6",
}
MARKS = "os^D"


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG; nothing is drawn before anything was decoded, or where matplotlib is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    decode = report.get("decode", {})
    if not decode.get("lines"):
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4))
    _roof(axes, decode["ceilings"])
    shapes = list(dict.fromkeys(one["shape"] for one in decode["lines"]))
    named: set[str] = set()
    for one in decode["lines"]:
        intensity, speed = one["flops"] / one["bytes"], one["flops"] / one["ms"] / 1e9
        name = one["what"]
        label = None if name in named else name
        named.add(name)
        mark = MARKS[shapes.index(one["shape"]) % len(MARKS)]
        axes.plot(intensity, speed, mark, color=COLOURS[one["level"]], label=label, markersize=5)
        axes.annotate(f" {one['rows']}", (intensity, speed), fontsize=8, color="grey")
    axes.set_title("decoding; numbers are rows", fontsize=10)
    axes.set_xlabel("floating-point operations per byte read")
    axes.set_ylabel("TFLOP/s")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    machine = decode["machine"]
    told = (
        f"{decode['when'][:10]}, {machine['device']}, torch {machine['torch']}, {machine['threads']} threads"
    )
    figure.suptitle(told, fontsize=9, color="grey")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _roof(axes: Any, ceilings: dict[str, Any]) -> None:
    memory, product = ceilings["copy_gb_per_s"] / 1000, ceilings["product_tflop_per_s"]
    most = [2.0**power for power in range(-1, 12)]
    axes.loglog(most, [min(one * memory, product) for one in most], color="black", linewidth=1)
    axes.annotate(
        f"copy {ceilings['copy_gb_per_s']:,.0f} GB/s", (most[0], most[0] * memory), fontsize=8, rotation=0,
        va="bottom",
    )  # fmt: skip
    told = f"{ceilings['product_dtype']} product {product:,.2f} TFLOP/s"
    axes.annotate(told, (most[-1], product), fontsize=8, ha="right", va="bottom")
