"""``python -m benchmarks compare A B``: what became worse from one file of figures to another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Change", "changes", "main"]

#: Figures that get worse by more than this share are regressions.
TOLERANCE = 0.1
_COLUMNS = ("benchmark", "case", "measured", "before", "after", "change", "")


@dataclass(frozen=True)
class Change:
    """One figure in both files.

    Attributes:
        benchmark: its name.
        case: what tells the row apart from the others.
        measure: the column, with its unit.
        before, after: the figures.
        higher_is_better: true of accuracies, not of times and sizes.
        ours: whether it is distopt's, and no other library's: then it can be a regression.
    """

    benchmark: str
    case: str
    measure: str
    before: float
    after: float
    higher_is_better: bool
    ours: bool

    @property
    def worse(self) -> float:
        """By which share it became worse; negative if it became better."""
        if self.before == self.after:
            return 0.0
        if self.higher_is_better:
            return (self.before - self.after) / abs(self.before) if self.before else -1.0
        return (self.after - self.before) / abs(self.before) if self.before else float("inf")

    @property
    def regression(self) -> bool:
        """Whether it became worse by more than a tenth."""
        return self.ours and self.worse > TOLERANCE


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """The figures that both documents have, and in words what only one has.

    Args:
        before: what ``write_all`` writes.
        after: the same of a later run.

    Raises:
        ValueError: a benchmark was run with different efforts, which cannot be compared.
    """
    old, new = (
        {report["benchmark"]: report for report in document["reports"]} for document in (before, after)
    )
    both, alone = [], []
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            alone.append(f"{name}: only in the {'first' if name in old else 'second'} file")
            continue
        efforts = old[name]["effort"], new[name]["effort"]
        if efforts[0] != efforts[1]:
            raise ValueError(
                f"{name}: run as {efforts[0]} in the first file and as {efforts[1]} in the second"
            )
        measure, higher = new[name]["measure"], new[name]["higher_is_better"]
        figures, others = dict(_figures(old[name])), dict(_figures(new[name]))
        for case in dict.fromkeys([*figures, *others]):
            if case not in figures or case not in others:
                place = "first" if case in figures else "second"
                alone.append(f"{name}, {case}: only in the {place} file")
                continue
            ours, value = figures[case]
            both.append(Change(name, case, measure, value, others[case][1], higher, ours))
    return both, alone


def _figures(report: dict[str, Any]) -> Iterator[tuple[str, tuple[bool, float]]]:
    """``case -> (whether it is distopt's, figure)`` by the columns that tell rows apart."""
    seen: dict[str, int] = {}
    for row in report["rows"]:
        if not isinstance(row.get(report["measure"]), (int, float)):
            continue
        words = [str(row[name]) for name in row if name in report["key"] or isinstance(row[name], str)]
        case = ", ".join(words)
        seen[case] = seen.get(case, 0) + 1
        ours = str(row.get("peer", "distopt")).startswith("distopt")
        yield case if seen[case] == 1 else f"{case} ({seen[case]})", (ours, float(row[report["measure"]]))


def main(words: Sequence[str]) -> int:
    """Prints the table.

    Returns:
        1 if there is a regression, otherwise 0; 2 if the files cannot be compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description="Compares two files of figures, as `make bench` writes them (out/bench/all.json).",
        epilog="Figures of two machines, or of a busy one, say little: see other libraries' rows.",
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(words)
    try:
        documents = [_read(file) for file in (options.before, options.after)]
        both, alone = changes(*documents)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _print(both)
    for line in alone:
        print(line)
    bad = sum(change.regression for change in both)
    print(f"{len(both)} figures, {bad} worse by more than {TOLERANCE:.0%}")
    return int(bad > 0)


def _read(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text())
    if not isinstance(document, dict) or "reports" not in document:
        raise ValueError(f"{file} is no file of figures: `python -m benchmarks` writes out/bench/all.json")
    return document


def _print(both: list[Change]) -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import shown

    table = Table(*_COLUMNS)
    for change in both:
        verdict = "[red]regression[/]" if change.regression else "" if change.ours else "not distopt's"
        moved = (change.after / change.before - 1) if change.before else 0.0
        figures = (shown(change.before), shown(change.after), f"{moved:+.1%}")
        table.add_row(change.benchmark, change.case, change.measure, *figures, verdict)
    Console().print(table)
