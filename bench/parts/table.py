"""Several runs of the same figures: printed as a table, written to bench/out."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "out"

Figures = dict[str, float]


def report(name: str, runs: Sequence[Figures], units: Mapping[str, str] | None = None) -> None:
    """Print median and spread of each figure, and write ``bench/out/NAME.json``.

    Args:
        name: of the file.
        runs: the same figures in each.
        units: of figures whose names do not tell.
    """
    print(f"{'':36}{'median':>12}{'min':>12}{'max':>12}")
    figures = {}
    for figure in runs[0]:
        values = [run[figure] for run in runs]
        middle, low, high = statistics.median(values), min(values), max(values)
        unit = (units or {}).get(figure) or unit_of(figure)
        print(f"{figure:36}{middle:12,.3f}{low:12,.3f}{high:12,.3f}  {unit}")
        figures[figure] = {
            "median": middle,
            "min": low,
            "max": high,
            "unit": unit,
            "n": len(values),
        }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def unit_of(figure: str) -> str:
    """Of a figure, by its name."""
    if figure.startswith("pss_") or figure.endswith("_mib"):
        return "MiB"
    if figure.startswith("cpu_"):
        return "us"
    if "_vs_" in figure:
        return "x"
    if "latency" in figure or "p50" in figure or "p99" in figure:
        return "ms"
    return "s" if "start" in figure or figure.startswith("curve_s") else "tasks/s"
