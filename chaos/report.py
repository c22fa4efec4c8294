"""The results of a scenario: rows, their table and their JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import machine, shown

__all__ = ["Report", "print_table", "write_json"]

#: The column that says what was wrong; empty if nothing was.
WRONG = "wrong"


@dataclass
class Report:
    """One scenario's result.

    Attributes:
        rows: a dict of columns for each job; ``wrong`` lists what was not as it has to be.
        notes: sentences under the table.
        seconds: what it all took.
    """

    name: str
    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    machine: dict[str, Any] = field(default_factory=machine)

    def add(self, wrong: Sequence[str], **columns: Any) -> None:
        """Adds a row for a job."""
        self.rows.append({**{k.replace("_", " "): v for k, v in columns.items()}, WRONG: "; ".join(wrong)})

    @property
    def good(self) -> bool:
        """Whether every job ended as expected."""
        return bool(self.rows) and not any(row[WRONG] for row in self.rows)

    def document(self) -> dict[str, Any]:
        """All of it, as data for JSON."""
        return {
            "scenario": self.name,
            "title": self.title,
            "good": self.good,
            "seconds": self.seconds,
            "machine": self.machine,
            "rows": self.rows,
            "notes": self.notes,
        }


def write_json(report: Report, folder: Path) -> Path:
    """Writes the report; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    path.write_text(json.dumps(report.document(), indent=1) + "\n")
    return path


def print_table(report: Report) -> None:
    """Prints the rows, and whether all is well."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    columns = list(dict.fromkeys(name for row in report.rows for name in row))
    table = Table(title=report.title, title_justify="left")
    for column in columns:
        numbers = any(isinstance(row.get(column), (int, float)) for row in report.rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*(shown(row.get(column, "")) for column in columns))
    console.print(table)
    for note in report.notes:
        console.print(note, highlight=False)
    wrong = sum(bool(row[WRONG]) for row in report.rows)
    console.print(f"{len(report.rows) - wrong} of {len(report.rows)} as they have to be")
