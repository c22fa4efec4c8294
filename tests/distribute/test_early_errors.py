"""A call that is wrong on one replica, before it reaches the others, is an error on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt as tf
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed


class Unreadable:
    """What looks like an array, but cannot be read."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("unreadable")


def group(within: str) -> Any:
    """The job, or the replicas of a node."""
    context = get_replica_context()
    return context if within == "job" else getattr(context, within)


#: For each: the call as it should be, one as it should not be, and the error.
CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], type[Exception]]] = {
    "op": (lambda g: g.all_reduce("sum", 1.0), lambda g: g.all_reduce("product", 1.0), ValueError),
    "wire": (lambda g: g.all_reduce("sum", 1.0), lambda g: g.all_reduce("sum", 1.0, wire="x"), ValueError),
    "summand": (
        lambda g: g.all_reduce("sum", 1.0),
        lambda g: g.all_reduce("sum", Unreadable()),
        ZeroDivisionError,
    ),
    "axis": (lambda g: g.all_gather(np.ones(1), 0), lambda g: g.all_gather(np.ones(1), "first"), TypeError),
    "root": (lambda g: g.broadcast(1.0, 0), lambda g: g.broadcast(1.0, "first"), TypeError),
}


def _both(call: Callable[[Any], Any], within: str) -> None:
    """The call, and one of the job, at which the replicas of another node learn of the error."""
    call(group(within))
    get_replica_context().all_reduce("sum", 1.0)


@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize("within", ["job", "node", "nodes"])
def test_wrong_arguments_are_an_error_on_all_replicas(
    within: str, nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTOPT_NODES", nodes)

    def program() -> list[float]:
        found = []
        for right, wrong, kind in CALLS.values():
            with pytest.raises(kind if rank() == 1 else ReplicaFailed):
                _both(wrong if rank() == 1 else right, within)
            found.append(float(get_replica_context().all_reduce("sum", 1.0)))
        return found

    assert on_replicas(4, program) == [[4.0] * len(CALLS)] * 4


def test_a_loss_that_raises_on_one_replica_stops_the_step_on_all() -> None:
    def program() -> tuple[list[float], int]:
        w, optimizer = tf.Variable([1.0, 2.0]), tf.optimizers.SGD(0.25)
        batches = iter([1.0] if rank() else [1.0, 1.0])  # one replica has fewer
        for last in (False, True):
            expected = (StopIteration if rank() else ReplicaFailed) if last else ()
            try:
                optimizer.minimize(lambda: w * next(batches), [w])
            except expected:
                assert last
            else:
                assert not last
        optimizer.minimize(lambda: w, [w])
        return w.numpy().tolist(), int(optimizer.iterations)

    assert on_replicas(2, program) == [([0.0, 1.0], 2)] * 2


X, Y = np.ones((4, 2), "f4"), np.ones((4, 1), "f4")

#: Calls of a model with arguments that are wrong, and the error; without them they are right.
OF_MODELS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "fit": ((X, Y), {"epochs": -1}),
    "evaluate": ((X, Y), {"batch_size": 0}),
    "predict": ((X,), {"batch_size": 0}),
    "train_on_batch": ((X, Y), {"sample_weight": np.ones(3)}),
}


def test_wrong_arguments_of_a_model_are_an_error_on_all_replicas() -> None:
    def program() -> int:
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.build((None, 2))
        for name, (right, wrong) in OF_MODELS.items():
            with pytest.raises(ValueError if rank() else ReplicaFailed):
                getattr(model, name)(*right, **(wrong if rank() else {}))
        model.fit(X, Y, verbose=0)
        return int(model.optimizer.iterations)

    assert on_replicas(2, program) == [1, 1]
