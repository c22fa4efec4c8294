"""``--metrics``: a job's numbers in Prometheus's text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .job_record import PHASES, JobRecord

#: Labels and value of a sample.
_Sample = tuple[Mapping[str, object], float]


def exposition(record: JobRecord) -> str:
    """The metrics in Prometheus's text format, without timestamps."""
    families: list[tuple[str, str, str, Iterable[_Sample]]] = [
        (
            "job_start_time_seconds",
            "gauge",
            "When the job was started, since the epoch.",
            [({}, record.started)],
        ),
        ("job_running", "gauge", "Whether the job runs.", [({}, record.running)]),
        ("job_replicas", "gauge", "Replicas of the job.", [({}, record.replicas)]),
        ("job_restarts_total", "counter", "Restarts.", [({}, max(0, len(record.attempts) - 1))]),
        (
            "job_warnings_total",
            "counter",
            "Warnings.",
            [({}, sum(w.count for w in record.warnings.values()))],
        ),
        ("job_checkpoints_total", "counter", "Checkpoints saved.", [({}, record.saved)]),
        ("job_steps_total", "counter", "Optimizer steps made.", [({}, record.steps)]),
        ("phase_seconds_total", "counter", "Time of a replica by phase.", _phases(record)),
        (
            "resident_bytes",
            "gauge",
            "Resident set of a process; shared memory counts in each.",
            _resident(record),
        ),
        ("cpu_seconds_total", "counter", "Time that a process has kept cores busy.", _busy(record)),
        ("metric", "gauge", "The program's own numbers, the last of each.", _metrics(record)),
    ]
    if record.code is not None and record.ended:
        families.append(("job_exit_code", "gauge", "How the job ended.", [({}, record.code)]))
    lines = []
    for name, kind, text, samples in families:
        shown = [_line(name, record.program, labels, value) for labels, value in samples]
        if shown:
            lines += [f"# HELP distopt_{name} {text}", f"# TYPE distopt_{name} {kind}", *shown]
    return "\n".join(lines) + "\n"


def _phases(record: JobRecord) -> Iterable[_Sample]:
    for replica, row in sorted(record.totals.items()):
        for phase, seconds in zip(PHASES, row, strict=True):
            yield {"replica": replica, "phase": phase}, seconds


def _resident(record: JobRecord) -> Iterable[_Sample]:
    return [({"process": rank}, used.resident) for rank, used in sorted(record.usage.items())]


def _busy(record: JobRecord) -> Iterable[_Sample]:
    return [({"process": rank}, used.busy) for rank, used in sorted(record.usage.items())]


def _metrics(record: JobRecord) -> Iterable[_Sample]:
    return [({"name": name}, value) for name, value in record.latest.items()]


def _line(name: str, program: str, labels: Mapping[str, object], value: float) -> str:
    pairs = {"program": program, **labels}
    text = ",".join(f'{label}="{_escaped(str(known))}"' for label, known in pairs.items())
    return f"distopt_{name}{{{text}}} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
