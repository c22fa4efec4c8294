"""fit(): from its arguments to the loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distopt.core.checks import as_count, as_seed, as_sequence
from distopt.distribute import require_replica_context
from distopt.keras.callbacks import Callback, CallbackList, History, ProgressBar
from distopt.keras.data import Source
from distopt.keras.data.batch import as_arrays, as_weights, count_examples, is_arrays, take, unpack
from distopt.keras.training import checks
from distopt.keras.training.class_weight import weigh_classes
from distopt.keras.training.fit_state import FitState
from distopt.keras.training.loop import (
    make_source,
    prepare,
    run_test,
    train_epochs,
)

if TYPE_CHECKING:
    from distopt.keras.model import Model

__all__ = ["FitOptions", "Validation", "fit"]


@dataclass(frozen=True)
class FitOptions:
    """The arguments of ``fit`` on training; see ``Model.fit``."""

    batch_size: int | None
    epochs: int
    initial_epoch: int
    steps_per_epoch: int | None
    shuffle: bool
    seed: int
    class_weight: Mapping[int, float] | None
    verbose: Any

    def __post_init__(self) -> None:
        as_count(self.epochs, "epochs", least=0)
        as_count(self.initial_epoch, "initial_epoch", least=0)
        as_seed(self.seed)

    @property
    def numbers(self) -> range:
        """The numbers of the epochs."""
        return range(self.initial_epoch, self.epochs)


@dataclass(frozen=True)
class Validation:
    """The arguments of ``fit`` on validation."""

    split: float
    data: Any
    steps: int | None
    batch_size: int | None
    freq: Any

    def __post_init__(self) -> None:
        if self._listed is None:
            as_count(self.freq, "validation_freq")

    @property
    def _listed(self) -> list[int] | None:
        """The epochs, from 1 on, if they are listed."""
        if isinstance(self.freq, str) or not isinstance(self.freq, Collection):
            return None
        return sorted({as_count(number, "each of validation_freq") for number in self.freq})

    def due(self, epoch: int) -> bool:
        """Whether to validate after this epoch."""
        listed = self._listed
        return epoch + 1 in listed if listed is not None else bool((epoch + 1) % self.freq == 0)

    def times(self, epochs: range) -> int:
        """How often it is due."""
        listed = self._listed
        if listed is not None:
            return sum(number - 1 in epochs for number in listed)
        return max(int(epochs.stop // self.freq - epochs.start // self.freq), 0)

    def arguments(self) -> dict[str, Any]:
        """What has to be the same on all replicas, beside what the source sees to."""
        return {
            "validation_split": self.split,
            "validation_data": None if self.data is None else "given",
            "validation_freq": self.freq if self._listed is None else self._listed,
        }


def fit(
    model: Model,
    x: Any,
    y: Any,
    sample_weight: Any,
    options: FitOptions,
    validation: Validation,
    callbacks: Sequence[Any] | Callback,
) -> History:
    """Trains the model; see ``Model.fit``."""
    context = require_replica_context("fit()")
    numbers = {"epochs": options.epochs, "initial_epoch": options.initial_epoch}
    checks.check_alike("fit()", numbers | validation.arguments(), context)
    held_back = validation.data
    if validation.split:
        x, y, sample_weight, held_back = _split(x, y, sample_weight, validation)
    source = _training_source(x, y, sample_weight, options)
    prepare(model, source)
    held_source = None if held_back is None else _validation_source(held_back, options, validation)
    if held_source is not None:
        prepare(model, held_source)
    history = History()
    # As in Keras, the shipped ones come last: they see what the others put into the logs.
    given = [callbacks] if isinstance(callbacks, Callback) else as_sequence(callbacks, "callbacks")
    shown = any(isinstance(callback, ProgressBar) for callback in given)
    everyone = [*given, *([] if shown else [ProgressBar(options.verbose)]), history]
    callback_list = CallbackList(
        everyone,
        model,
        {
            "epochs": options.epochs,
            "steps": source.steps,
            "samples": source.examples,
            "batch_size": source.batch_size,
            "replicas": context.num_replicas_in_sync,
        },
    )
    model.history = history
    sources = [source, *([] if held_source is None else [held_source])]
    validated = held_source is not None and validation.times(options.numbers) > 0
    model.fit_state = FitState(
        model, sources, everyone, options.initial_epoch, validation.due if validated else None
    )
    train_epochs(
        model,
        source,
        callback_list,
        options.epochs,
        lambda: {} if held_source is None else run_test(model, held_source),
    )
    return history


def _training_source(x: Any, y: Any, sample_weight: Any, options: FitOptions) -> Source:
    if options.class_weight is not None:
        x, sample_weight = weigh_classes(x, y, sample_weight, options.class_weight)
    source = make_source(
        x,
        y,
        sample_weight,
        options.batch_size,
        call="fit()",
        shuffle=options.shuffle,
        seed=options.seed,
        steps=options.steps_per_epoch,
    )
    _check_readings(source, options.steps_per_epoch, len(options.numbers), "steps_per_epoch")
    return source


def _validation_source(data: Any, options: FitOptions, validation: Validation) -> Source:
    if isinstance(data, list) and 2 <= len(data) <= 3 and is_arrays(data):
        data = tuple(data)  # as Keras, where several inputs alone are a tuple of one list
    x, y, sample_weight = unpack(data) if isinstance(data, tuple) else (data, None, None)
    size = options.batch_size if validation.batch_size is None else validation.batch_size
    source = make_source(x, y, sample_weight, size, call="fit(validation_data=...)", steps=validation.steps)
    _check_readings(source, validation.steps, validation.times(options.numbers), "validation_steps")
    return source


def _check_readings(source: Source, steps: int | None, times: int, argument: str) -> None:
    """Raises ValueError if an iterator would have to be read to its end several times."""
    if getattr(source, "once", False) and steps is None and times > 1:
        raise ValueError(
            "fit() got an iterator or generator, which can be read only once, for several epochs: pass "
            f"{argument}, or an iterable that can be read again (keras.data.Dataset.from_generator)"
        )


def _split(x: Any, y: Any, sample_weight: Any, validation: Validation) -> tuple[Any, Any, Any, Any]:
    """The last part of arrays is kept back for validation."""
    fraction = validation.split
    if not 0 < fraction < 1:
        raise ValueError(f"validation_split must be from 0 to less than 1; got {fraction}")
    if not is_arrays(x) or validation.data is not None:
        raise ValueError("validation_split needs whole arrays, and no validation_data beside it")
    parts = (as_arrays(x), as_arrays(y), as_weights(sample_weight))
    count = count_examples(dict(zip(("x", "y", "sample_weight"), parts, strict=True)))
    cut = int(count * (1 - fraction))
    if cut in (0, count):
        raise ValueError(
            f"validation_split={fraction} of {count} examples leaves none for training or validation"
        )
    train = [take(part, slice(0, cut)) for part in parts]
    kept = tuple(take(part, slice(cut, None)) for part in parts)
    return train[0], train[1], train[2], kept if sample_weight is not None else kept[:2]
