"""What a benchmark found: rows, figures to reach, and their table and JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Picture", "Report", "Row", "Target", "print_tables", "write_all", "write_json"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure to reach: at most ``limit``."""

    what: str
    value: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Picture:
    """Which columns to draw, and how.

    Attributes:
        kind: bars grouped by ``x``, or lines over it on logarithmic axes.
        x: the column along the horizontal axis.
        series: the column that tells bars or lines apart.
        y: the column of the heights.
        log: whether the heights of bars are drawn on a logarithmic axis.
    """

    kind: Literal["bars", "lines"]
    x: str
    series: str
    y: str
    log: bool = False


def machine() -> dict[str, Any]:
    """Where and when this was measured, and how busy the machine was."""
    import numpy

    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    except OSError:
        pass
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


@dataclass
class Report:
    """The result of one benchmark.

    Attributes:
        rows: dicts of columns; lists in them (single rounds) go to the JSON only.
        machine: what it is measured on, as it was before.
        higher_is_better: whether the figures of the picture are such, as accuracies are and times are not.
    """

    name: str
    title: str
    picture: Picture
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)
    higher_is_better: bool = False

    def document(self, effort: str) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "benchmark": self.name,
            "title": self.title,
            "effort": effort,
            "machine": self.machine,
            "key": [self.picture.x, self.picture.series],
            "measure": self.picture.y,
            "higher_is_better": self.higher_is_better,
            "rows": self.rows,
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
            "notes": self.notes,
        }


def write_json(report: Report, effort: str, folder: Path) -> Path:
    """Writes the report; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    path.write_text(json.dumps(report.document(effort), indent=1) + "\n")
    return path


def write_all(documents: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Writes all reports of a run into one file, for ``python -m benchmarks compare``; returns it."""
    import distopt

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "all.json"
    path.write_text(json.dumps({"distopt": distopt.__version__, "reports": documents}, indent=1) + "\n")
    return path


def print_tables(report: Report) -> None:
    """Shows the rows, and which figures are reached."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns = _columns(report.rows)
    table = Table(title=report.title, title_justify="left")
    for column in columns:
        numbers = any(isinstance(row.get(column), (int, float)) for row in report.rows)
        table.add_column(column, justify="right" if numbers else "left")
    for row in report.rows:
        table.add_row(*(shown(row.get(column, "")) for column in columns))
    console.print(table)
    if report.targets:
        table = Table("to reach", "measured", "at most", "")
        for target in report.targets:
            verdict = "[green]reached[/]" if target.met else "[red]not reached[/]"
            table.add_row(
                target.what, *(shown(n) + target.unit for n in (target.value, target.limit)), verdict
            )
        console.print(table)
    for note in report.notes:
        console.print(note, highlight=False)


def _columns(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if not any(isinstance(row.get(name), list) for row in rows)]


def shown(value: Any) -> str:
    """A value with four digits."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
