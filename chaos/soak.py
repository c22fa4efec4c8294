"""``soak``: many steps; the replicas' memory, descriptors and shared segments stay flat."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

from chaos.board import Board
from chaos.jobs import folder, launch_command, start
from chaos.report import Report
from chaos.trainings import REPLICAS

__all__ = ["report"]

_WINDOWS = 10
#: How much a replica's memory may grow after a fifth of the steps: the history of fit grows.
_GROWTH_MIB = 4.0
_SEGMENT = re.compile(r"^\S+ \S+ \S+ \S+ (\d+) +(/memfd:\S*|/dev/shm/\S*|/dev/zero)", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """The resources of one replica; RSS counts shared pages in full, PSS its share of them."""

    rss_mib: float
    pss_mib: float
    descriptors: int
    segments: int
    threads: int


def report(short: bool, seed: int) -> Report:  # noqa: ARG001 (nothing here is random)
    """Makes 100,000 steps, or a thousand, and takes samples."""
    steps = 1_000 if short else 100_000
    with folder() as place:
        board = Board(place / "board", REPLICAS)
        words = ["-m", "chaos.programs.endless", place, steps]
        job = start(launch_command("-n", REPLICAS, *words), place)
        samples: list[list[tuple[int, Sample]]] = [[] for _ in range(REPLICAS)]
        try:
            while job.process.poll() is None:
                job.pause(0.05 if short else 0.25)
                for replica in range(REPLICAS):
                    row = board[replica]
                    with suppress(OSError):
                        if row.steps:
                            samples[replica].append((row.steps, _look(row.pid)))
            done = job.finish(900)
        finally:
            job.end()
    rate = steps / done.seconds
    found = Report("soak", f"{steps:,} steps of fit with backups in the background, {REPLICAS} replicas")
    for replica in range(REPLICAS):
        wrong = [f"left behind: {what}" for what in done.left] if replica == 0 else []
        if done.code:
            wrong.append(f"exit code {done.code}: {done.err[-2000:]}")
        _add(found, replica, samples[replica], steps, wrong)
    found.notes.append(f"{done.seconds:.0f} s, {rate:,.0f} steps a second, start and end included")
    found.notes.append(
        f"medians of windows; allowed growth after a fifth of the steps: {_GROWTH_MIB:g} MiB, 0 others"
    )
    return found


def _look(pid: int) -> Sample:
    place = Path(f"/proc/{pid}")
    rollup = dict(line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:])
    rss, pss = (int(rollup[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    segments = set(_SEGMENT.findall((place / "maps").read_text()))
    return Sample(rss, pss, len(os.listdir(place / "fd")), len(segments), len(os.listdir(place / "task")))


def _add(
    found: Report, replica: int, samples: list[tuple[int, Sample]], steps: int, wrong: list[str]
) -> None:
    windows: list[list[Sample]] = [[] for _ in range(_WINDOWS)]
    for at, sample in samples:
        windows[min(at * _WINDOWS // steps, _WINDOWS - 1)].append(sample)
    first, last = windows[_WINDOWS // 5], windows[-1]
    if not first or not last:
        wrong.append(f"only {len(samples)} samples")
        found.add(wrong, replica=replica)
        return
    for place, name in enumerate(field.name for field in fields(Sample)):
        before, after = (median(astuple(sample)[place] for sample in window) for window in (first, last))
        grown = after - before
        if grown > (_GROWTH_MIB if name.endswith("mib") else 0):
            wrong.append(f"{name} grew from {before:g} to {after:g}")
        found.add(
            wrong,
            replica=replica,
            what=name.replace("_mib", ", MiB").replace("rss", "RSS").replace("pss", "PSS"),
            after_a_fifth=round(float(before), 2),
            at_the_end=round(float(after), 2),
            samples=len(first) + len(last),
        )
        wrong = []
