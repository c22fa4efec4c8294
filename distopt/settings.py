"""What the user set in the environment: limits and debugging aids, in variables named ``DISTOPT_*``.

An unknown ``DISTOPT_*`` name is an error, since a typing error there would
otherwise be silent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from distopt.launched import is_child
from distopt.suggestions import did_you_mean

__all__ = ["Settings", "settings"]


@dataclass(frozen=True)
class Settings:
    """The settings of the ``DISTOPT_*`` environment variables; each field is one, in upper case.

    Attributes:
        stall_seconds: seconds in one collective call until a report names the missing replicas (0: never).
        abort_seconds: seconds in one collective call until the job ends (0: never).
        audit_every: number of steps between two comparisons of the replicas' state (0: never).
        memory: default of ``MPIStrategy(memory=...)``.
        nodes: for tests, the number of nodes that the processes, or the replicas of one process, are
            divided into (0: the real nodes).
        abort_on_exception: whether an uncaught exception ends the whole job.
        array_specs: whether compiled code reads the dtypes, shapes and addresses of all gradients at once.
        large_pages: whether to ask for large pages of shared memory.
        stores: how gradients are written for other replicas: ``streaming`` past the caches, ``ordinary``, or
            ``auto`` for whichever is faster.
        overlap: whether gradients travel to other nodes during the backward pass: ``on``, ``off``, or
            ``auto`` for whichever is faster.
        stragglers: whether distopt names, at the end of a job, a replica that the others waited for.
        debug: whether tracebacks show the frames inside distopt.
        record: a directory in which replica 0 records the variables' values after each step.
    """

    stall_seconds: float = 60.0
    abort_seconds: float = 600.0
    audit_every: int = 1000
    memory: str = "auto"
    nodes: int = 0
    abort_on_exception: bool = True
    array_specs: bool = True
    large_pages: bool = True
    stores: str = "auto"
    overlap: str = "auto"
    stragglers: bool = True
    debug: bool = False
    record: str = ""


#: Names that belong to the launcher, which passes them on to its children.
_LAUNCHER_NAMES = frozenset(
    {
        "DISTOPT_LAUNCHER",
        "DISTOPT_LAUNCH_SIZE",
        "DISTOPT_LAUNCH_RESTART",
        "DISTOPT_LAUNCH_TTY",
        "DISTOPT_LAUNCH_CHANNEL",
        "DISTOPT_LAUNCH_REPLICA",
        "DISTOPT_ENV",  # of the job scripts that come with it: where distopt is installed
        "DISTOPT_LAUNCH_IGNORED",
        "DISTOPT_LAUNCH_JOB",
        "DISTOPT_LAUNCH_WISHES",
        "DISTOPT_LAUNCH_TELEMETRY",
    }
)

_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

_KINDS = {bool: "1 or 0", int: "a whole number of at least 0", float: "a number of at least 0"}


def settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from ``environ`` (the process's by default). An empty variable counts as not set.

    Raises:
        ValueError: an unknown ``DISTOPT_*`` name, or a value that cannot be read.
    """
    env = os.environ if environ is None else environ
    known = {"DISTOPT_" + f.name.upper(): f for f in fields(Settings)}
    values: dict[str, object] = {}
    for name, text in env.items():
        if not name.startswith("DISTOPT_") or name in _LAUNCHER_NAMES:
            continue
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"unknown environment variable {name}.{hint} Known: {', '.join(sorted(known))}")
        if text.strip():
            values[known[name].name] = _parse(name, text, known[name].default)
    if environ is None and is_child():
        values.pop("record", None)  # the folder is the replica's
    return Settings(**values)  # type: ignore[arg-type]


def _parse(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return _TRUTH[text.strip().lower()]
        if isinstance(default, (int, float)):
            number = type(default)(text)
            if not number >= 0:  # nan is not either
                raise ValueError
            return number
        return text
    except (KeyError, ValueError):
        raise ValueError(f"{name}={text!r} is not {_KINDS[type(default)]}") from None
