"""The conformance test for aggregators: the requirements on any number of replicas."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt import aggregators
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import VirtualStrategy, require_replica_context
from distopt.optimizers.pairs import aggregated
from distopt.testing.cases import CASES, Pairs
from distopt.testing.state_check import KEEPING_STATE, keeps_state, state_reasons
from distopt.typing import Array

__all__ = ["AggregatorReport", "Finding", "check_aggregator"]

SIZES = (1, 2, 4)
IDENTITY = "identity"
OTHERS = ("config", "state", IDENTITY)

TWICE = "called twice with the same gradients"
CHANGED = "a call changed its state"
NONE_ADVICE = (
    ". An optimizer passes no None: give None back in its place if others are to call this aggregator, else "
    'check_aggregator(..., skip=["None gradients"])'
)


@dataclass(frozen=True)
class Finding:
    """One requirement that an aggregator violates.

    Attributes:
        case: the name of the gradients that it got.
        replicas: the number of replicas; 0 if it does not matter.
        reason: what is wrong.
    """

    case: str
    replicas: int
    reason: str


@dataclass(frozen=True)
class AggregatorReport:
    """The result of :func:`check_aggregator`; ``str(report)`` is a readable table.

    Attributes:
        name: the name of the aggregator.
        cases: the names of the cases that were run.
        findings: the violations; empty for an aggregator that conforms.
    """

    name: str
    cases: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether there are no violations."""
        return not self.findings

    def __str__(self) -> str:
        summary = "conforms" if self.passed else f"{len(self.findings)} findings"
        lines = [f"aggregator {self.name}: {summary}"]
        for case in self.cases:
            violations = [f for f in self.findings if f.case == case]
            lines.append(f"  {case:<18} {'FAILED' if violations else 'ok'}")
            lines += [f"    {_replicas(f.replicas)}{f.reason}" for f in violations]
        if any(f.case == "state" or f.reason.startswith((TWICE, CHANGED)) for f in self.findings):
            lines.append(KEEPING_STATE)
        return "\n".join(lines)


def check_aggregator(aggregator: Any, skip: Collection[str] = ()) -> AggregatorReport:
    """Runs an aggregator on 1, 2 and 4 replicas in this process, with every kind of gradient.

    The aggregator must:

    - return every pair once, with the same shape and dtype,
    - leave inputs, variables and its state unchanged,
    - make the same calls and return the same bits on every replica and in every call,
    - return the gradients of a single replica unchanged (``"identity"``),
    - be rebuilt by its config, if it has one (``"config"``),
    - if it has a ``finish_step``, continue in the same way from its ``weights``, also if replicas share it
      (``"state"``).

    Args:
        aggregator: a callable, or the name or config of one. Each replica gets a deep copy.
        skip: requirements to leave out: names of cases (``"sparse"``, ``"None gradients"``, ...),
            ``"identity"``, ``"config"`` or ``"state"``. Optimizers never pass None gradients to an
            aggregator; other callers may.

    Raises:
        AssertionError: the aggregator does not conform; the message is the report.
        ValueError: ``skip`` has an unknown name.

    >>> check_aggregator("mean").passed
    True
    """
    unknown = set(skip) - {*CASES, *OTHERS}
    if unknown:
        raise ValueError(f"check_aggregator(skip=...): unknown {sorted(unknown)}; use {[*CASES, *OTHERS]}")
    function = aggregators.get(aggregator)
    cases = [case for case in CASES if case not in skip]
    findings = [finding for case in cases for finding in dict.fromkeys(_findings(function, case, skip))]
    if isinstance(function, aggregators.Aggregator) and "config" not in skip:
        cases.append("config")
        findings += _config_findings(function)
    if keeps_state(function) and "state" not in skip:
        cases.append("state")
        findings += [
            Finding("state", size, reason) for size in SIZES for reason in state_reasons(function, size)
        ]
    report = AggregatorReport(aggregators.label(function), tuple(cases), tuple(findings))
    if not report.passed:
        raise AssertionError(str(report))
    return report


def _findings(function: Any, case: str, skip: Collection[str]) -> Iterator[Finding]:
    for size in SIZES:
        trials: list[_Trial] = []
        try:
            VirtualStrategy(size).run(lambda trials=trials: trials.append(_try(function, case)))
        except Exception as error:
            advice = NONE_ADVICE if case == "None gradients" else ""
            yield Finding(case, size, f"raised {type(error).__name__}: {error}{advice}")
            continue
        for trial in trials:
            yield from (Finding(case, size, reason) for reason in trial.reasons)
        if any(trial.reasons for trial in trials):
            continue
        first = trials[0].values
        differing = [n for n in first if any(not _same(trial.values[n], first[n]) for trial in trials)]
        changed = [n for n in first if not _same(first[n], trials[0].own[n])]
        if differing:
            yield Finding(case, size, f"the replicas got different gradients of {', '.join(differing)}")
        elif size == 1 and IDENTITY not in skip and changed:
            names = ", ".join(changed)
            yield Finding(
                case,
                size,
                f"a single replica did not get back its own gradients of {names} did not come back",
            )


@dataclass
class _Trial:
    """One replica's call: what came back, what it passed, and what was wrong."""

    values: dict[str, Array | None]
    own: dict[str, Array | None]
    reasons: list[str]


def _try(function: Any, case: str) -> _Trial:
    """Runs in replica context; every replica makes the same calls here, whatever goes wrong."""
    context = require_replica_context("an aggregator")
    mine = copy.deepcopy(function)
    pairs = CASES[case](context.replica_id_in_sync_group)
    if isinstance(mine, aggregators.Aggregator):
        mine.build([v for _, v in pairs])
    given, state, own = _contents(pairs), _state(mine), _by_name(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numeric ones, such as 0/0 in the case of zeros
        first, second = _listed(mine(tuple(pairs))), _listed(mine(tuple(pairs)))
    reasons = _wrong(pairs, first, aggregators.label(function))
    if _contents(pairs) != given:
        reasons.append("it changed a gradient or a variable that was passed in: create new arrays")
    if _state(mine) != state:
        reasons.append(f"{CHANGED}: update it in finish_step()")
    values = {} if reasons else _by_name(first)
    if not reasons:
        again = {} if _wrong(pairs, second, "") else _by_name(second)
        if any(not _same(again.get(name), value) for name, value in values.items()):
            reasons.append(f"{TWICE}, it gave different results")
    return _Trial(values, own, reasons)


def _wrong(pairs: Pairs, result: Any, name: str) -> list[str]:
    """Why an optimizer would reject a result."""
    absent = {id(v): v.name for g, v in pairs if g is None}
    if not isinstance(result, list):
        return [f"it returned {type(result).__name__}: return (gradient, variable) pairs"]
    rest, seen = [], []
    for item in result:
        if isinstance(item, tuple) and len(item) == 2 and id(item[1]) in absent:
            seen.append((id(item[1]), item[0]))
        else:
            rest.append(item)
    reasons = []
    if sorted(i for i, _ in seen) != sorted(absent) or any(g is not None for _, g in seen):
        reasons.append(f"None, the gradient of {', '.join(absent.values())}, did not come back as None")
    try:
        aggregated(tuple((g, v) for g, v in pairs if g is not None), rest, name)
    except (TypeError, ValueError, RuntimeError) as error:
        reasons.append(str(error))
    return reasons


def _config_findings(function: aggregators.Aggregator) -> Iterator[Finding]:
    try:
        config = function.get_config()
        again = type(function)(**json.loads(json.dumps(config))).get_config()
    except Exception as error:
        yield Finding("config", 0, f"get_config() and the constructor: {type(error).__name__}: {error}")
        return
    if any(again.get(key) != value for key, value in config.items()):
        yield Finding("config", 0, f"an aggregator made from its config {config} has the config {again}")


def _listed(result: Any) -> Any:
    return list(result) if isinstance(result, Iterable) else result


def _contents(pairs: Pairs) -> list[bytes]:
    parts = [part for g, v in pairs for part in (_parts(g), (v,))]
    return [as_array(x).tobytes() for part in parts for x in part]


def _parts(gradient: Any) -> tuple[Any, ...]:
    if isinstance(gradient, IndexedSlices):
        return gradient.values, gradient.indices
    return () if gradient is None else (gradient,)


def _state(aggregator: Any) -> list[bytes]:
    return [v.numpy().tobytes() for v in getattr(aggregator, "weights", ())]


def _by_name(pairs: Sequence[tuple[Any, Variable]]) -> dict[str, Array | None]:
    return {v.name: _dense(g, v) for g, v in pairs}


def _dense(gradient: Any, variable: Variable) -> Array | None:
    if gradient is None:
        return None
    if isinstance(gradient, IndexedSlices):
        return gradient.to_dense(variable.shape)
    return np.array(as_array(gradient), variable.dtype)


def _same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _replicas(count: int) -> str:
    return {0: "", 1: "1 replica: "}.get(count, f"{count} replicas: ")
