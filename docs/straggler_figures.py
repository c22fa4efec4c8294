"""Draws the jobs that straggler_cases.py has recorded: time by phase and replica, and who came late when."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from drawing import Drawing

#: Each phase's colour.
_PHASES = {
    "own code": "one",
    "input": "two",
    "saving": "three",
    "wire": "four",
    "sum and update": "box",
    "waiting": "wait",
}
_TITLES = {
    "own code": "Replica 2 has 50 ms more to compute in each step",
    "input": "Replica 2 gets each batch 50 ms later",
    "saving": "Replica 2 alone saves for 0.5 s in every tenth step",
    "stopped": "Replica 2 is stopped (SIGSTOP) for 1 s",
    "none": "All three replicas are alike",
    "wire": "Host 2 sends at 3 MB/s, the others at 20",
}
_LEFT, _WIDTH = 100, 630
#: Seconds that are as late as can be shown; shorter ones are fainter, and those below the other not shown.
_LATEST, _LEAST = 0.1, 0.002


def figures(file: Path) -> dict[str, Callable[[], Drawing]]:
    """What draws each recorded case, by the name of the picture.

    Args:
        file: the recording.
    """
    cases = json.loads(file.read_text())
    return {f"straggler_{name.replace(' ', '_')}": partial(_case, name, cases[name]) for name in _TITLES}


def _case(name: str, found: dict[str, Any]) -> Drawing:
    spent, offsets = found["spent"], found.get("offsets", [])
    replicas = len(spent["waiting"])
    bottom = 48 + 26 * replicas
    heat = 34 + 20 * replicas if offsets else 0
    d = Drawing(760, bottom + 34 + heat, _TITLES[name])
    d.text(30, 24, _TITLES[name], "bold", "start")
    scale = _WIDTH / max(sum(spent[phase][r] for phase in _PHASES) for r in range(replicas))
    for r in range(replicas):
        at, y = float(_LEFT), 44 + 26 * r
        d.text(30, y + 10, f"replica {r}", "small", "start")
        for phase, kind in _PHASES.items():
            width = scale * spent[phase][r]
            d.cell(at, y, width, 20, kind)
            if width > 60:
                d.text(at + width / 2, y + 10, f"{spent[phase][r]:.1f} s", "small")
            at += width
    at = _LEFT
    for phase, kind in _PHASES.items():
        d.cell(at, bottom + 6, 12, 12, kind)
        d.text(at + 17, bottom + 12, phase, "small faint", "start")
        at += 34 + 7 * len(phase)
    if offsets:
        _late(d, offsets, bottom + 34)
    return d


def _late(d: Drawing, offsets: list[list[float]], top: float) -> None:
    """A row a replica, a column a step: the darker, the later it came than the first one."""
    d.text(_LEFT, top + 8, "who came late, step by step (left to right)", "small faint", "start")
    for r, row in enumerate(offsets):
        y, width = top + 20 + 20 * r, _WIDTH / len(row)
        d.text(30, y + 8, f"replica {r}", "small", "start")
        d.cell(_LEFT, y, _WIDTH, 16, "box")
        for step, seconds in enumerate(row):
            if seconds >= _LEAST:
                d.cell(_LEFT + width * step, y, width - 1, 16, "late", min(seconds / _LATEST, 1.0))
