"""``calls``: how many functions of distopt, in how many files, a small step goes through; 2 replicas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

#: What a step of three variables may take, see docs/explanation/architecture.md.
MOST_CALLS, MOST_FILES = 90, 22
_WARM_UP, _RUNS = 20, 9


def report(effort: Effort) -> Report:
    """Runs one job; nothing in it depends on time."""
    found = Report(
        "calls",
        "Python calls of a steady step on 2 replicas, counted by sys.setprofile; only functions of distopt",
        Picture("bars", "case", "what", "calls"),
    )
    counted = jobs.run("calls", None, 2, effort.timeout)
    found.rows = [{"case": case, "what": "distopt", **figures} for case, figures in counted.items()]
    step = counted["apply_gradients"]
    found.targets = [
        Target("calls of apply_gradients", step["calls"], MOST_CALLS),
        Target("files of apply_gradients", step["files"], MOST_FILES),
    ]
    found.notes.append("apply_gradients: Adam, 3 variables. fit: a batch of an MLP of 2 layers, 10 in all.")
    return found


def work(_: None) -> dict[str, dict[str, float]]:
    """One replica's part: what is called in a step, and in a batch of fit."""
    import distopt as tf

    optimizer = tf.optimizers.Adam()
    variables = [tf.Variable(np.ones((10, 10), np.float32), name=f"v{i}") for i in range(3)]
    pairs = [(np.ones((10, 10), np.float32), v) for v in variables]

    def step() -> None:
        optimizer.apply_gradients(pairs)

    for _ in range(_WARM_UP):
        step()
    return {"apply_gradients": _counted(step), "fit, a batch": _of_a_batch(tf)}


def _of_a_batch(tf: Any) -> dict[str, float]:
    """The calls of 20 batches less those of 10, a tenth of them."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(8, activation="relu"), tf.keras.layers.Dense(1)])
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20 * 8, 4)).astype("f4"), random.normal(size=(20 * 8, 1)).astype("f4")

    def fit(batches: int) -> Callable[[], None]:
        return lambda: model.fit(x[: 8 * batches], y[: 8 * batches], batch_size=8, verbose=0, shuffle=False)

    fit(20)()
    few, many = _counted(fit(10)), _counted(fit(20))
    each = {name: (many[name] - few[name]) / 10 for name in ("calls", "jumps")}
    return {**many, **each}


def _counted(run: Callable[[], None]) -> dict[str, float]:
    """Calls, files and jumps between files, in the run with the fewest: a wait takes some too."""
    run()  # all is known from the second time on
    return min((_counted_once(run) for _ in range(_RUNS)), key=lambda figures: figures["calls"])


def _counted_once(run: Callable[[], None]) -> dict[str, float]:
    import distopt

    home = distopt.__path__[0]
    files: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(home):
            caller = frame.f_back.f_code.co_filename if frame.f_back is not None else ""
            files.append((frame.f_code.co_filename, caller))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    jumps = sum(own != caller for own, caller in files)
    return {"calls": len(files), "files": len({own for own, _ in files}), "jumps": jumps}
