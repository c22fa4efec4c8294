"""``--report``: a self-contained HTML file, which loads nothing and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .job_record import PHASES, JobRecord

_PAGE = Path(__file__).parent / "page"
_COLOURS = ("--own", "--input", "--save", "--wait", "--sum", "--wire")


def page(record: JobRecord) -> str:
    """The report as HTML."""
    style = (_PAGE / "report.css").read_text()
    script = "".join((_PAGE / name).read_text() for name in ("charts.js", "report.js"))
    text = (_PAGE / "report.html").read_text()
    # "<" is escaped, so that no text of the program can close the HTML element of the data.
    data = json.dumps(document(record), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "style-hash": _digest(style),
        "script-hash": _digest(script),
        "title": html.escape(f"{record.program}: distopt report"),
        "style": style,
        "script": script,
        "data": data,
    }
    pieces = text.split("@")
    return "".join(parts[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def document(record: JobRecord) -> dict[str, Any]:
    """The data for the page's script, as JSON objects."""
    usage = sorted(record.usage.items())
    return {
        "program": record.program,
        "command": record.command,
        "started": record.started,
        "ended": record.ended or None,
        "seconds": (record.ended - record.started) if record.ended else record.now,
        "outcome": record.attempts[-1].outcome if record.attempts and record.ended else "still running",
        "failed": record.code not in (None, 0),
        "replicas": record.replicas,
        "processes": record.processes,
        "steps": record.steps,
        "stepping": record.stepping,
        "finding": record.finding,
        "hosts": _hosts(record),
        "attempts": [{"begin": a.begin, "outcome": a.outcome} for a in record.attempts],
        "phases": [{"name": n, "colour": c} for n, c in zip(PHASES, _COLOURS, strict=True)],
        "totals": [record.totals.get(r, [0.0] * len(PHASES)) for r in range(record.replicas)],
        "rate": _columns(record.rate.columns()),
        "heat": record.heat.document() if record.heat else {"first": [], "last": 0, "each": 1, "cells": []},
        "metrics": {n: _columns(s.columns(), "step") for n, s in record.metrics.items()},
        "usage": {
            "rss": {str(rank): _columns(used.rss.columns()) for rank, used in usage},
            "cpu": {str(rank): _columns(used.cpu.columns()) for rank, used in usage},
        },
        "pipelines": record.pipelines,
        # Without the warning that repeats the finding, which is shown at the top.
        "warnings": [
            vars(w)
            for w in record.warnings.values()
            if not record.finding or record.finding[:80] not in w.text
        ],
        "checkpoints": record.checkpoints,
    }


def _columns(columns: tuple[list[float], list[float]], name: str = "time") -> Mapping[str, list[float]]:
    return {name: columns[0], "value": columns[1]}


def _hosts(record: JobRecord) -> list[dict[str, Any]]:
    """The rows of the table of hosts."""
    ranks: dict[tuple[str, int, str], list[int]] = {}
    for rank, host in sorted(record.hosts.items()):
        ranks.setdefault(host, []).append(rank)
    return [
        {"host": name, "processes": spans(own), "cores": cores, "threads": threads}
        for (name, cores, threads), own in ranks.items()
    ]


def spans(numbers: list[int]) -> str:
    """Formats ascending numbers as ranges: ``0 to 3, 6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
