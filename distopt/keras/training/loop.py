"""The loops over epochs and batches: fit, evaluate, predict."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_count
from distopt.core.nest import flatten, map_structure, pack
from distopt.core.tensor import as_array
from distopt.distribute import (
    ReplicaContext,
    get_replica_context,
    require_replica_context,
    tell_metrics,
    timed,
)
from distopt.keras.data import ArraySource, Batch, IterableSource, Source, share
from distopt.keras.data.batch import as_arrays, count_examples, is_arrays, take
from distopt.keras.data.exchange import all_gather_object
from distopt.keras.metrics.counting import no_examples
from distopt.keras.per_replica import this_replica
from distopt.keras.training import checks
from distopt.keras.training.outputs import part_of_each
from distopt.keras.training.results import reset, results

if TYPE_CHECKING:
    from distopt.keras.callbacks import CallbackList
    from distopt.keras.model import Model
    from distopt.keras.training.fit_state import FitState

__all__ = [
    "make_source",
    "prepare",
    "run_batches",
    "run_epoch_of_one",
    "run_predict",
    "run_test",
    "train_batch",
    "train_epochs",
]


_log = logging.getLogger("distopt")

#: What ``x`` is, where replicas compare it.
_ARRAYS = "whole arrays"


def make_source(
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    *,
    call: str,
    shuffle: bool = False,
    seed: int = 0,
    steps: int | None = None,
) -> Source:
    """The batches of ``x``, whole arrays alike on all replicas or an iterable of a replica's own batches.

    Raises:
        TypeError: ``x`` is neither, or a number of examples or batches is no whole number.
        ValueError: arguments that do not go together, or data that no step could use.
    """
    context = require_replica_context(call)
    replicas = context.num_replicas_in_sync
    if x is None:
        raise ValueError(f"{call} needs data: x is None")
    batch_size = 32 if batch_size is None else as_count(batch_size, f"{call}: batch_size")
    steps = None if steps is None else as_count(steps, f"{call}: steps")
    if not is_arrays(x, y):
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"{call} got an iterable of batches as x: labels and weights come in its batches, "
                "(x, y) or (x, y, sample_weight), not in the arguments y and sample_weight"
            )
        if not hasattr(x, "__iter__"):
            raise TypeError(f"{call} takes arrays or an iterable of batches as x; got {type(x).__name__}")
        checks.check_alike(call, {"x": "an iterable of batches", "steps": steps}, context)
        return IterableSource(
            x, lambda count: _total(context, count), steps, lambda value: all_gather_object(value, context)
        )
    source = ArraySource(
        x,
        y,
        sample_weight,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        replica=context.replica_id_in_sync_group,
        replicas=replicas,
        steps=steps,
    )
    for data, name in ((source.x, "x"), (source.y, "y"), (source.sample_weight, "sample_weight")):
        checks.check_numbers(data, f"{call}: {name}")
    checks.check_shares(batch_size, replicas)
    arguments = {"x": _ARRAYS, "batch_size": batch_size, "steps": steps, "shuffle": shuffle, "seed": seed}
    checks.check_same_arrays(call, arguments, (source.x, source.y, source.sample_weight), context)
    return source


def _total(context: ReplicaContext, count: int) -> int:
    if context.num_replicas_in_sync == 1:
        return count
    return int(as_array(context.all_reduce("sum", np.array([count], np.int64)))[0])


def prepare(model: Model, source: Source) -> None:
    """Builds the model with a few examples, checks that all fits, takes replica 0's weights."""
    x, y, sample_weight = source.sample()
    if not isinstance(source, ArraySource):
        for data, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight")):
            checks.check_numbers(data, f"the first batch's {name}")
    outputs = model(x, training=False)
    model.take_first_weights()
    loss = model.compiled.loss
    part_of_each(sample_weight, outputs, "sample_weight")
    if y is None and not model.makes_own_steps:
        checks.check_labels_given(model, y)
    if y is None or not loss.given:
        return
    loss.resolve(outputs)
    predictions, labels = flatten(outputs), part_of_each(y, outputs, "y")
    whole = source.y if isinstance(source, ArraySource) else y
    for one_loss, label, prediction, every in zip(
        loss.loss_objects, labels, predictions, part_of_each(whole, outputs, "y"), strict=True
    ):
        checks.check_labels(as_array(label), as_array(prediction), one_loss, every)
    model.compiled.metrics.resolve(y, outputs, loss.names)


def train_epochs(
    model: Model,
    source: Source,
    callbacks: CallbackList,
    epochs: int,
    validate: Callable[[], dict[str, Any]],
) -> None:
    """Trains epoch after epoch, until the last one, the data's end, or a callback that says stop anywhere.

    Args:
        model: a compiled model.
        source: what to train on.
        callbacks: called at every beginning and end.
        epochs: the number of epochs; ``model.fit_state`` says where to begin.
        validate: evaluates the model on other data; its results get the prefix ``val_``.
    """
    state = model.fit_state
    assert state is not None
    position = state.position
    model.stop_training = False
    logs: dict[str, Any] = {}
    try:
        callbacks.on_train_begin()
        model.optimizer.train()
        stopped = position.restored and agreed_to_stop(model)
        while position.epoch < epochs and not stopped:
            epoch = position.epoch
            begin_epoch(model, state, callbacks)
            run_batches(model, source.epoch(epoch, position.batch), state, callbacks)
            ended = warn_if_ran_out("fit()", source.ran_out or not position.batch)
            if not position.batch:
                break  # an epoch without any batch is none
            logs = results(model, state.returned)
            model.synchronize()
            if state.validates(epoch):
                with model.optimizer.eval():
                    logs |= {f"val_{name}": value for name, value in validate().items()}
            position.epoch, position.batch = epoch + 1, 0
            tell_metrics(logs)
            callbacks.on_epoch_end(epoch, logs)
            stopped = agreed_to_stop(model) or ended
        state.callbacks.hand_out()  # if no epoch was left
        model.optimizer.finalize_variable_values(model.trainable_weights)
        callbacks.on_train_end(logs)
    finally:
        callbacks.close()


def begin_epoch(model: Model, state: FitState, callbacks: CallbackList) -> None:
    """Begins an epoch, or begins it again where it was interrupted."""
    if not state.position.batch:
        state.callbacks.hand_out()
        state.returned = None
        reset(model)
    callbacks.on_epoch_begin(state.position.epoch)
    state.callbacks.hand_out()  # what they did at this epoch's first beginning stays as it was


def run_batches(model: Model, batches: Iterator[Batch], state: FitState, callbacks: CallbackList) -> None:
    """One pass over the batches, or over those that are left, and the updates by all of them."""
    shared = callbacks.shares_batches
    position = state.position
    for batch in timed(batches):
        step = position.batch
        callbacks.on_train_batch_begin(step)
        returned = state.returned = train_batch(model, batch)
        position.batch = step + 1
        logs = (returned or results(model)) if shared else {"loss": model.compiled.local_loss()}
        callbacks.on_train_batch_end(step, {**logs, "size": batch.size})
        if shared and agreed_to_stop(model):
            break
    model.compiled.finish_updates()


def warn_if_ran_out(call: str, ended: bool) -> bool:
    """Warns, on replica 0, if the data ended before all the batches came that were asked for."""
    if ended and this_replica() == 0:
        _log.warning(
            "%s: the data ended before all the batches came that were asked for, so it ends here: give fewer "
            "steps or epochs, or an iterable that can be read again",
            call,
        )
    return ended


def train_batch(model: Model, batch: Batch) -> dict[str, Any] | None:
    """One step on one replica's share of a batch."""
    return _step(model, model.train_step, batch)


def _step(model: Model, step: Callable[[Any], dict[str, Any] | None], batch: Batch) -> dict[str, Any] | None:
    model.compiled.share_is(batch.local, batch.size)
    if batch.local:
        return step(_data(batch))
    with no_examples():
        return step(_data(batch))


def _data(batch: Batch) -> tuple[Any, ...]:
    if batch.sample_weight is None:
        return batch.x, batch.y
    return batch.x, batch.y, batch.sample_weight


def run_epoch_of_one(model: Model, x: Any, y: Any, sample_weight: Any, reset_metrics: bool) -> dict[str, Any]:
    """One step on one batch of whole arrays; the results of all replicas together."""
    arrays = as_arrays(x)
    count = count_examples({"x": arrays})
    context = require_replica_context("train_on_batch()")
    source = make_source(
        arrays, y, sample_weight, max(count, context.num_replicas_in_sync), call="train_on_batch()"
    )
    _ = model.compiled
    prepare(model, source)
    if reset_metrics:
        reset(model)
    return results(model, train_batch(model, next(source.epoch(0))))


def run_test(model: Model, source: Source) -> dict[str, Any]:
    """The loss and the metrics over all batches and replicas."""
    returned: dict[str, Any] | None = None
    batches = 0
    reset(model)
    for batch in timed(source.epoch(0)):
        returned = _step(model, model.test_step, batch)
        batches += 1
    if not batches:
        raise ValueError(
            "there is no batch to evaluate: the iterator has ended. Give fewer steps, or an iterable that "
            "can be read again"
        )
    warn_if_ran_out("evaluate()", source.ran_out)
    return results(model, returned)


def run_predict(model: Model, x: Any, batch_size: int | None, steps: int | None) -> Any:
    """The outputs for all of ``x``, in its order, on every replica.

    Each replica computes a contiguous part of whole arrays, in pieces. Of iterables it computes its own
    batches; the outputs of all replicas follow one another.
    """
    context = require_replica_context("predict()")
    batch_size = 32 if batch_size is None else as_count(batch_size, "predict(): batch_size")
    steps = None if steps is None else as_count(steps, "predict(): steps")
    if is_arrays(x):
        arrays = as_arrays(x)
        pieces = _pieces(arrays, batch_size, steps, context)
        sample = take(arrays, slice(0, 1))
    else:
        source = make_source(x, None, None, None, call="predict()", steps=steps)
        sample = source.sample()[0]
        pieces = (batch.x for batch in source.epoch(0))
    if not model.built:
        model(sample, training=False)
    model.take_first_weights()
    outputs = [map_structure(as_array, model.predict_step((piece,))) for piece in pieces]
    joined = [np.concatenate(column) for column in zip(*map(flatten, outputs), strict=True)]
    if context.num_replicas_in_sync > 1:
        joined = [np.array(context.all_gather(array, axis=0)) for array in joined]
    return pack(outputs[0], joined)


def _pieces(arrays: Any, batch_size: int, steps: int | None, context: ReplicaContext) -> Iterator[Any]:
    """This replica's contiguous part of whole arrays, in pieces of its share of a batch."""
    count = count_examples({"x": arrays})
    checks.check_numbers(arrays, "x")
    replicas = context.num_replicas_in_sync
    checks.check_same_arrays("predict()", {"x": _ARRAYS, "steps": steps}, (arrays,), context)
    wanted = count if steps is None else min(steps * batch_size, count)
    start, stop = share(wanted, context.replica_id_in_sync_group, replicas)
    piece = max(math.ceil(batch_size / replicas), 1)
    # A replica without any example computes one empty piece, to know the outputs' shapes.
    for begin in range(start, max(stop, start + 1), piece):
        yield take(arrays, slice(begin, min(begin + piece, stop)))


def agreed_to_stop(model: Model) -> bool:
    """Whether a callback on any replica said stop; then all of them stop."""
    context = get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        flag = np.array([model.stop_training], np.int64)
        model.stop_training = bool(as_array(context.all_reduce("max", flag))[0])
    return model.stop_training
