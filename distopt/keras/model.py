"""Model: a layer that knows how to be trained."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from os import PathLike
from typing import Any

from distopt import optimizers
from distopt.autodiff import GradientTape
from distopt.core.keywords import known_arguments
from distopt.distribute import require_replica_context, tells_early_errors
from distopt.keras.callbacks import Callback, History
from distopt.keras.callbacks.callback import is_chief
from distopt.keras.callbacks.progress import shown_logs
from distopt.keras.container import Container
from distopt.keras.data.batch import as_arrays, count_examples, unpack
from distopt.keras.layers.trainable import TrainableFlags
from distopt.keras.per_replica import PerReplicaState
from distopt.keras.training.checks import check_labels_given
from distopt.keras.training.class_weight import weigh_classes
from distopt.keras.training.compiled import Compiled
from distopt.keras.training.fit import FitOptions, Validation, fit
from distopt.keras.training.fit_state import FitState
from distopt.keras.training.loop import (
    make_source,
    prepare,
    run_epoch_of_one,
    run_predict,
    run_test,
)
from distopt.keras.training.results import listed, names, reset, tracked_metrics
from distopt.optimizers import Optimizer

__all__ = ["Model"]

_log = logging.getLogger("distopt")


class Model(Container):
    """A layer with ``compile``, ``fit``, ``evaluate`` and ``predict``.

    Create layers in ``__init__`` and override ``call``. To change the training step, override
    :meth:`train_step`. Every replica runs the same program and passes the same whole arrays. Each replica
    takes its share of every batch, and results are those of all replicas together.

    Args:
        name: a name.
        **kwargs: arguments of :class:`Layer`.

    Attributes:
        history: the :class:`History` of the last ``fit``.
        fit_state: the position of the last ``fit``.
        stop_training: set it in a callback to end training.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.history: History | None = None
        self.fit_state: FitState | None = None
        self.stop_training = False
        self._compiled: PerReplicaState[Compiled] | None = None
        #: What was trainable when it was compiled.
        self._flags: TrainableFlags | None = None

    # -- training
    @known_arguments
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool | None = None,
        steps_per_update: int = 1,
    ) -> None:
        """Configures training. ``fit`` and ``train_on_batch`` train the weights that are trainable now.

        Args:
            optimizer: an optimizer, or its name or config.
            loss: a name, a function ``(y_true, y_pred) -> losses`` or a Loss. For several outputs, a list or
                a dict by the names of the outputs. Its mean is that of the global batch. With None, the model
                is trained on the losses of ``add_loss``.
            metrics: names, functions or Metrics. They ignore sample weights.
            loss_weights: a list or dict of numbers, one for the loss of each output.
            weighted_metrics: metrics that use sample weights.
            run_eagerly: accepted and ignored. Everything runs eagerly.
            steps_per_update: the number of batches for each update, which uses the mean of their gradients.

        Raises:
            ValueError: a name is unknown.
        """
        if run_eagerly is not None and is_chief():
            _log.warning("compile(run_eagerly=%s) changes nothing: distopt always runs eagerly", run_eagerly)
        # Replicas that share the model share the optimizer, and count for themselves.
        rule = optimizers.get(optimizer)
        options = (loss, metrics, loss_weights, weighted_metrics, steps_per_update)
        self._compiled = PerReplicaState(partial(Compiled, rule, *options))
        self._compiled.local()  # so that a wrong name raises here
        self._flags = TrainableFlags(self)

    @property
    def compiled(self) -> Compiled:
        """The result of :meth:`compile`.

        Raises:
            RuntimeError: the model is not compiled.
        """
        if self._compiled is None:
            raise RuntimeError(
                f"model {self.name!r} is not compiled: call compile(optimizer=..., loss=...) first"
            )
        return self._compiled.local()

    @contextmanager
    def _as_compiled(self) -> Iterator[None]:
        """Within, what was trainable when the model was compiled is trained, as in tf.keras."""
        _, flags = self.compiled, self._flags
        assert flags is not None
        with flags.in_force() as others:
            if others and not flags.warned and is_chief():
                flags.warned = True
                _log.warning(
                    "model %r: trainable of %s was changed after compile(); fit() and train_on_batch() "
                    "use its value at compile(), as in tf.keras: compile again to use the new value",
                    self.name,
                    ", ".join(repr(layer.name) for layer in others[:5]) + (", ..." if others[5:] else ""),
                )
            yield

    def _as_evaluated(self) -> AbstractContextManager[None]:
        """Within, the weights are those to evaluate with; see ScheduleFree."""
        return nullcontext() if self._compiled is None else self.optimizer.eval()

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self.compiled.optimizer

    def compiled_loss(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, regularization_losses: Sequence[Any] = ()
    ) -> Any:
        """Returns this replica's part of the loss of the batch, for a custom ``train_step``.

        Raises:
            RuntimeError: compile() was called without a loss, and no layer adds one.
            ValueError: there are no labels.
        """
        given = self.compiled.loss.given
        if not given and not regularization_losses:
            raise RuntimeError(
                f"model {self.name!r} has no loss: give compile() one, call add_loss() in call, or override "
                "train_step"
            )
        if given and y_true is None:
            check_labels_given(self, y_true)
        return self.compiled.loss(y_true, y_pred, sample_weight, regularization_losses)

    @property
    def makes_own_steps(self) -> bool:
        """Whether a step is overridden, so that it may not need labels."""
        kind = type(self)
        return kind.train_step is not Model.train_step or kind.test_step is not Model.test_step

    @property
    def compiled_metrics(self) -> Any:
        """The metrics of ``compile``, with ``update_state(y, y_pred)``."""
        return self.compiled.metrics

    @property
    def metrics(self) -> list[Any]:
        """The losses and metrics of ``compile``, complete after the first batch, and those in attributes."""
        return ([] if self._compiled is None else self.compiled.all_metrics) + tracked_metrics(self)

    @property
    def lists_own_metrics(self) -> bool:
        """Whether :attr:`metrics` is overridden."""
        return type(self).metrics is not Model.metrics

    @property
    def metrics_names(self) -> list[str]:
        """The names of the results of ``evaluate``. They are known after the first batch."""
        return names(self)

    def reset_metrics(self) -> None:
        """Resets the losses and metrics. Each epoch and each evaluation does this."""
        reset(self)

    def train_step(self, data: Any) -> dict[str, Any] | None:
        """Makes one step on this replica's share of a batch.

        Args:
            data: ``(x, y)`` or ``(x, y, sample_weight)``.

        Returns:
            None to report the compiled loss and metrics, or a dict of results. Of such results the last one
            of an epoch counts, and all replicas report that of replica 0.
        """
        x, y, sample_weight = unpack(data)
        with GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compiled_loss(y, y_pred, sample_weight, regularization_losses=self.losses)
        self.compiled.minimize(tape, loss, self.trainable_weights)
        self.compiled_metrics.update_state(y, y_pred, sample_weight)
        return None

    def test_step(self, data: Any) -> dict[str, Any] | None:
        """Evaluates this replica's share of a batch. See :meth:`train_step`."""
        x, y, sample_weight = unpack(data)
        y_pred = self(x, training=False)
        self.compiled_loss(y, y_pred, sample_weight, regularization_losses=self.losses)
        self.compiled_metrics.update_state(y, y_pred, sample_weight)
        return None

    def predict_step(self, data: Any) -> Any:
        """Returns the outputs for ``(x,)``."""
        return self(unpack(data)[0], training=False)

    @tells_early_errors
    @known_arguments
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Sequence[Any] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
        seed: int = 0,
    ) -> History:
        """Trains the model and returns a History with the logs of each epoch.

        Args:
            x: the inputs: arrays ``[n, ...]``, or lists or dicts of arrays, the same whole arrays on all
                replicas. Of an ``np.memmap``, each replica reads only its share. Or an iterable of batches
                ``(x, y)`` or ``(x, y, sample_weight)`` that differ between replicas; the iterables may end at
                different times.
            y: the labels, in the same form.
            batch_size: the number of examples in a global batch, which all replicas share. By default 32.
            epochs: the number of the last epoch.
            verbose: see :class:`~distopt.keras.callbacks.ProgressBar`.
            callbacks: one or several callbacks, which are called on all replicas.
            validation_split: the fraction of the arrays, in [0, 1), to keep for validation, from their end.
            validation_data: ``(x, y[, sample_weight])``, a tuple or list, or an iterable of batches.
            shuffle: whether to shuffle each epoch (arrays only).
            class_weight: a dict from class numbers to the weights of their examples in the loss.
            sample_weight: the weights of the examples in the loss, ``[n]`` or ``[n, steps]``. For several
                outputs, a list or dict of them.
            initial_epoch: the number of the first epoch.
            steps_per_epoch: the maximum number of batches in an epoch.
            validation_steps: the maximum number of batches in a validation.
            validation_batch_size: ``batch_size`` by default.
            validation_freq: the number of epochs between validations, or a list of epochs, counted from 1.
            seed: the seed of the shuffling. The order depends on it and on the number of the epoch.

        Raises:
            ValueError: data, model and loss do not match. Nothing has been trained.
            TypeError: a number of epochs, batches or examples is not an integer.
            RuntimeError: the model is not compiled, or the call is made in cross-replica context.
        """
        _ = self.compiled
        validation = Validation(
            validation_split, validation_data, validation_steps, validation_batch_size, validation_freq
        )
        options = FitOptions(
            batch_size, epochs, initial_epoch, steps_per_epoch, shuffle, seed, class_weight, verbose
        )
        with self._as_compiled():
            return fit(self, x, y, sample_weight, options, validation, callbacks or ())

    @tells_early_errors
    @known_arguments
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Returns the loss and the metrics on all examples. Arguments are those of :meth:`fit`.

        Returns:
            A list in the order of :attr:`metrics_names`, a single number if there is only one, or a dict by
            name.
        """
        _ = self.compiled
        source = make_source(x, y, sample_weight, batch_size, call="evaluate()", steps=steps)
        prepare(self, source)
        with self._as_evaluated():
            results = run_test(self, source)
        if verbose and is_chief():
            print(f"Evaluated  {shown_logs(results)}", flush=True)
        return results if return_dict else listed(self, results)

    @tells_early_errors
    @known_arguments
    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = 0, steps: int | None = None
    ) -> Any:
        """Returns the outputs for all inputs, in their order. All replicas get all outputs.

        Args:
            x: arrays, or an iterable of batches. With an iterable, the outputs of the replicas follow one
                another.
            batch_size: the number of inputs to compute at a time over all replicas. By default 32.
            verbose: accepted and ignored.
            steps: the maximum number of batches.
        """
        with self._as_evaluated():
            return run_predict(self, x, batch_size, steps)

    @tells_early_errors
    @known_arguments
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """Makes one step on one batch, of which each replica takes its share.

        The results are those of :meth:`evaluate`.
        """
        if class_weight is not None:
            x, sample_weight = weigh_classes(x, y, sample_weight, class_weight)
        with self._as_compiled():
            self.optimizer.train()
            results = run_epoch_of_one(self, x, y, sample_weight, reset_metrics)
        return results if return_dict else listed(self, results)

    @tells_early_errors
    @known_arguments
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Runs :meth:`evaluate` on one batch."""
        replicas = require_replica_context("test_on_batch()").num_replicas_in_sync
        size = max(count_examples({"x": as_arrays(x)}), replicas)
        return self.evaluate(x, y, size, 0, sample_weight, return_dict=return_dict)

    @tells_early_errors
    def predict_on_batch(self, x: Any) -> Any:
        """Runs :meth:`predict` on one batch."""
        return self.predict(x)

    @tells_early_errors
    def save_weights(self, filepath: str | PathLike[str]) -> None:
        """Writes all weights to a ``.npz`` or ``.safetensors`` file, on replica 0.

        With ScheduleFree it saves the weights for evaluation.
        """
        with self._as_evaluated():
            super().save_weights(filepath)

    # -- pickling and copying
    def __getstate__(self) -> dict[str, Any]:
        """See Module. A fit that goes on does not go on in a copy."""
        return super().__getstate__() | {"fit_state": None}
