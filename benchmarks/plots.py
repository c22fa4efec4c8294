"""Pictures of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import Report

__all__ = ["draw"]


def draw(report: Report, folder: Path) -> Path:
    """Draws the report's picture; returns the PNG file."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    (_bars if report.picture.kind == "bars" else _lines)(axes, report)
    axes.set_title(report.title, loc="left", fontsize=10)
    axes.set_ylabel(report.picture.y)
    axes.grid(axis="y", alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    path = folder / f"{report.name}.png"
    figure.savefig(path, dpi=130)
    return path


def _bars(axes: Any, report: Report) -> None:
    picture = report.picture
    rows = [row for row in report.rows if picture.y in row]
    groups = list(dict.fromkeys(str(row[picture.x]) for row in rows))
    series = list(dict.fromkeys(str(row[picture.series]) for row in rows))
    width = 0.8 / max(len(series), 1)
    for k, name in enumerate(series):
        members = [row for row in rows if str(row[picture.series]) == name]
        places = [groups.index(str(row[picture.x])) + (k - (len(series) - 1) / 2) * width for row in members]
        axes.bar(places, [row[picture.y] for row in members], width, label=name)
    turned = sum(map(len, groups)) > 90
    axes.set_xticks(
        range(len(groups)), groups, rotation=30 if turned else 0, ha="right" if turned else "center"
    )
    if picture.log:
        axes.set_yscale("log")


def _lines(axes: Any, report: Report) -> None:
    picture = report.picture
    rows = [row for row in report.rows if picture.y in row]
    for name in dict.fromkeys(str(row[picture.series]) for row in rows):
        points = sorted((row[picture.x], row[picture.y]) for row in rows if str(row[picture.series]) == name)
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", markersize=4, label=name)
    axes.set_xlabel(picture.x)
    axes.set_xscale("log")
    axes.set_yscale("log")
