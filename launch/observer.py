"""Observer: collects the telemetry of a job, and writes the report, the timeline and the metrics file."""

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

#: Seconds after which the report, and the metrics file, are written again while the job runs.
_REPORT_SECONDS, _METRICS_SECONDS = 30.0, 5.0


class Observer:
    """Collects the telemetry of a job, over all its attempts, and writes the files.

    Args:
        options: the options, which say which files to write.
        argv: the command line of distoptrun.
        processes: the number of processes.
        show: called with a message for the user.

    Attributes:
        record: the data about the job.
        wishes: the telemetry that the files need.

    Raises:
        JobStartError: a file cannot be written, two options name the same file, or one names a Python
            program.
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
            if path.suffix == ".py":  # the value was forgotten, and the program's name was read as the value
                raise JobStartError(f"{path} is a program: --report, --metrics and --timeline write files")
        self.record = JobRecord(options.program[0], shlex.join(["distoptrun", *argv]), processes)
        self._spans = Timeline(options.timeline_steps)
        telemetry = self._report is not None or self._metrics is not None
        self.wishes = Wishes(telemetry, options.timeline_steps if self._timeline is not None else None)
        now = time.monotonic()
        self._due = {"report": now + _REPORT_SECONDS, "metrics": now + _METRICS_SECONDS}

    def begin(self) -> None:
        """Starts an attempt."""
        self.record.begin()
        self._spans.begin()

    def take(self, event: Event) -> None:
        """Records a telemetry event, and writes the files that are due. Ignores anything else."""
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
        """Ends an attempt, with its exit code and a text that says how it ended."""
        self.record.end(code, how)

    def close(self) -> None:
        """Writes the final versions of all files."""
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
        except OSError as error:  # must not change the result of the job
            self._show(f"cannot write {path}: {error.strerror}")
