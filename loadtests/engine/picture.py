"""The decode section as a roofline: what the device allows at each intensity, and where the steps are."""

from pathlib import Path
from typing import Any

COLOURS = {"bf16": "#2a9d5c", "int8": "#5f8dd3", "transformers, static": "#9aa0a6"}
_OTHER = "#c9ccd1"


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG; nothing is drawn without a decode section, or where matplotlib is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    if "decode" not in report:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    decode = report["decode"]
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4))
    _roof(axes, decode["ceilings"])
    named: set[str] = set()
    for found in decode["shapes"].values():
        for row in found["rows"]:
            for name, milliseconds in row["step_ms"].items():
                intensity = row["flops"] / row["bytes"].get(name, row["bytes"]["bf16"])
                speed = row["flops"] / milliseconds / 1e9
                label = None if name in named else name
                named.add(name)
                axes.plot(intensity, speed, "o", color=COLOURS.get(name, _OTHER), label=label)
                axes.annotate(f" {row['rows']}", (intensity, speed), fontsize=8, color="grey")
    axes.set_title(f"decoding {', '.join(decode['shapes'])}; numbers are rows", fontsize=10)
    axes.set_xlabel("floating-point operations per byte read")
    axes.set_ylabel("TFLOP/s")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    machine = decode["machine"]
    figure.suptitle(
        f"{decode['when'][:10]}, {machine['device']}, {machine['threads']} threads"
        f", medians of {decode['rounds']} rounds",
        fontsize=9, color="grey",
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _roof(axes: Any, ceilings: dict[str, float]) -> None:
    memory, product = ceilings["copy_gb_per_s"] / 1000, ceilings["product_tflop_per_s"]
    most = [2.0**power for power in range(-1, 12)]
    axes.loglog(most, [min(one * memory, product) for one in most], color="black", linewidth=1)
    axes.annotate(
        f"copy {ceilings['copy_gb_per_s']:,.0f} GB/s", (most[0], most[0] * memory), fontsize=8, rotation=0,
        va="bottom",
    )  # fmt: skip
    axes.annotate(
        f"bf16 product {product:,.2f} TFLOP/s", (most[-1], product), fontsize=8, ha="right", va="bottom"
    )
