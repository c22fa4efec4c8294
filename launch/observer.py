"""What looks on while a job runs, and writes down what it has seen: report, timeline, metrics file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import JobStartError
from .job_record import JobRecord
from .metrics_file import exposition
from .options import Options
from .protocol import Event
from .report_page import page
from .telemetry import Wishes, parsed
from .timeline import Timeline
from .whole_file import check_writable, write_whole

#: Seconds between two versions of the report, and of the metrics file, while the job runs.
_REPORT_SECONDS, _METRICS_SECONDS = 30.0, 5.0


class Observer:
    """Looks on.

    Args:
        options: which files to write.
        argv: the command line.
        processes: their number.
        show: shows a message.

    Raises:
        JobStartError: a file could not be written at the end.
    """

    def __init__(
        self, options: Options, argv: Sequence[str], processes: int, show: Callable[[str], None]
    ) -> None:
        self._show = show
        self._report, self._metrics, self._timeline = (
            Path(name) if name else None for name in (options.report, options.metrics, options.timeline)
        )
        for option in ("report", "metrics", "timeline"):
            if name := getattr(options, option):
                check_writable(f"--{option}", Path(name))
        wanted = [path.resolve() for path in (self._report, self._metrics, self._timeline) if path]
        for path in wanted:
            if wanted.count(path) > 1:
                raise JobStartError(
                    f"--report, --metrics and --timeline: two of them name the same file, {path}"
                )
            if path.suffix == ".py":  # a program, whose name was taken for the option's value
                raise JobStartError(f"{path} is a program: --report, --metrics and --timeline write files")
        self.record = JobRecord(options.program[0], shlex.join(["distoptrun", *argv]), processes)
        self._spans = Timeline(options.timeline_steps)
        telemetry = self._report is not None or self._metrics is not None
        self.wishes = Wishes(telemetry, options.timeline_steps if self._timeline is not None else None)
        now = time.monotonic()
        self._due = {"report": now + _REPORT_SECONDS, "metrics": now + _METRICS_SECONDS}

    def begin(self) -> None:
        """An attempt begins."""
        self.record.begin()
        self._spans.begin()

    def take(self, event: Event) -> None:
        """Takes telemetry."""
        message = parsed(event)
        if message is None:
            return
        if message["kind"] == "spans":
            self._spans.take(message)
        else:
            self.record.take(event.rank, message)
        now = time.monotonic()
        if now >= self._due["metrics"]:
            self._due["metrics"] = now + _METRICS_SECONDS
            self._write_metrics()
        if now >= self._due["report"]:
            self._due["report"] = now + _REPORT_SECONDS
            self._write_report()

    def end(self, code: int, how: str) -> None:
        """An attempt has ended, with an exit code, and in words."""
        self.record.end(code, how)

    def close(self) -> None:
        """Writes everything for the last time."""
        self._write_metrics()
        self._write_report()
        if self._timeline is not None:
            self._write(self._timeline, self._spans.text(self.record))

    def _write_metrics(self) -> None:
        if self._metrics is not None:
            self._write(self._metrics, exposition(self.record))

    def _write_report(self) -> None:
        if self._report is not None:
            self._write(self._report, page(self.record))

    def _write(self, path: Path, text: str) -> None:
        try:
            write_whole(path, text)
        except OSError as error:  # the job's result is not to depend on it
            self._show(f"cannot write {path}: {error.strerror}")
