"""The plot of scenario `delay`: predicted lines, measured points, and the edge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Plot the scenario's figures into an SVG file."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    frames, models = figure.subplots(1, 2)
    frames.loglog()
    models.loglog()
    _points(frames, figures["frames"])
    frames.axhline(figures["edge_ms"], color="black", linestyle=":", label="answered at the edge")
    _label(frames, "a frame's answer from the cloud")
    _points(models, figures["models"])
    _label(models, "a new model serves")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _points(axes: Axes, points: list[Mapping[str, float]]) -> None:
    for number, delay in enumerate(sorted({point["delay_s"] for point in points})):
        of = [point for point in points if point["delay_s"] == delay]
        mbit = [point["bandwidth"] * 8 / 1e6 for point in of]
        predicted = [point["predicted_s"] * 1e3 for point in of]
        measured = [point["measured_s"] * 1e3 for point in of]
        axes.plot(mbit, predicted, color=f"C{number}", label=f"predicted, {delay * 1e3:g} ms each way")
        axes.plot(mbit, measured, "o", color=f"C{number}", label="measured")
        axes.set_xticks(mbit, [f"{each:g}" for each in mbit])


def _label(axes: Axes, title: str) -> None:
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(title=title, xlabel="bandwidth, Mbit/s", ylabel="ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
