"""Programs that go wrong, for the page on errors and its test; a module a group."""

from . import checkpoints, fit, plugins, pytorch, replicas, starting, steps
from .case import Case

__all__ = ["GROUPS", "Case"]

#: By heading.
GROUPS: dict[str, list[Case]] = {
    "Starting": starting.CASES,
    "Steps": steps.CASES,
    "Replicas that differ": replicas.CASES,
    "Models and fit": fit.CASES,
    "PyTorch": pytorch.CASES,
    "Checkpoints and weights": checkpoints.CASES,
    "Plugins": plugins.CASES,
}
