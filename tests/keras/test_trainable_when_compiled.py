"""fit() and train_on_batch() train what was trainable at compile(), as in tf.keras 2.4: so GANs work."""

import logging
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import layers as L

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
ONES, ZEROS = np.ones(8, np.float32), np.zeros(8, np.float32)


def dense(units: int, features: int, **options: Any) -> Any:
    init = keras.initializers.GlorotUniform(seed=units + features)
    return L.Dense(units, input_shape=(features,), kernel_initializer=init, **options)


def gan() -> tuple[Any, Any, Any]:
    """Generator, discriminator, and both in a row with the discriminator frozen."""
    generator = keras.Sequential([dense(3, 2)])
    normalization = L.BatchNormalization(synchronized=True)
    discriminator = keras.Sequential([dense(4, 3), normalization, dense(1, 4, activation="sigmoid")])
    discriminator.compile("adam", "binary_crossentropy")
    discriminator.trainable = False
    both = keras.Sequential([generator, discriminator])
    both.compile("adam", "binary_crossentropy")
    return generator, discriminator, both


def moved(before: list[Any], model: Any) -> list[bool]:
    return [bool((a != b).any()) for a, b in zip(before, model.get_weights(), strict=True)]


def train_gan(with_fit: bool) -> tuple[list[bool], ...]:
    generator, discriminator, both = gan()

    def step(model: Any, x: Any, y: Any) -> None:
        if with_fit:
            model.fit(x, y, batch_size=8, verbose=0)
        else:
            model.train_on_batch(x, y)

    found = []
    for _ in range(2):
        start = generator.get_weights(), discriminator.get_weights()
        step(discriminator, X, ONES)
        found += [moved(start[0], generator), moved(start[1], discriminator)]
        start = generator.get_weights(), discriminator.get_weights()
        step(both, X[:, :2], ONES)
        found += [moved(start[0], generator), moved(start[1], discriminator)]
    assert not discriminator.trainable
    assert not discriminator.trainable_weights
    return tuple(found)


@pytest.mark.parametrize("with_fit", [True, False])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_gan_trains_both_halves_in_turn(replicas: int, with_fit: bool) -> None:
    one_round = [False] * 2, [True] * 8, [True] * 2, [False] * 8
    results: list[Any] = []
    VirtualStrategy(replicas).run(lambda: results.append(train_gan(with_fit)))
    assert results == [one_round * 2] * replicas


def test_replicas_that_share_a_gan_do_not_disturb_each_other() -> None:
    two = VirtualStrategy(2)
    with two.scope():
        generator, discriminator, both = gan()
    start = generator.get_weights(), discriminator.get_weights()

    def program() -> None:
        for _ in range(3):
            discriminator.train_on_batch(X, ONES)
            both.train_on_batch(X[:, :2], ONES)

    two.run(program)
    assert all(moved(start[0], generator))
    assert all(moved(start[1], discriminator))
    assert [layer.trainable for layer in (discriminator, *discriminator.layers)] == [False] * 4


def test_a_change_after_compile_is_told_of_once_and_holds_when_compiled_again(caplog: Any) -> None:
    model = keras.Sequential([dense(2, 3, name="first"), dense(1, 2, name="last")])
    model.compile("sgd", "mse")
    model.layers[0].trainable = False
    start = model.get_weights()
    with caplog.at_level(logging.WARNING, "distopt"):
        model.fit(X, ONES, epochs=2, verbose=0)
        model.train_on_batch(X, ONES)
    (told,) = caplog.messages
    assert "trainable of 'first' was changed after compile()" in told
    assert moved(start, model) == [True] * 4
    model.compile("sgd", "mse")
    start = model.get_weights()
    model.fit(X, ZEROS, verbose=0)
    assert moved(start, model) == [False, False, True, True]
    model.layers[0].trainable = True
    start = model.get_weights()
    model.fit(X, ONES, verbose=0)
    assert moved(start, model) == [False, False, True, True]


def test_what_is_set_while_training_holds_from_the_next_step_on() -> None:
    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            weights.append(self.model.get_weights())
            self.model.layers[0].trainable = True

    class OwnStep(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            self.layers[1].trainable = False
            only = [w.name for w in self.trainable_weights]
            self.layers[1].trainable = True
            steps.append((only, [w.name for w in self.trainable_weights]))
            return super().train_step(data)

    weights: list[Any] = []
    steps: list[Any] = []
    model = OwnStep([dense(2, 3, name="first"), dense(1, 2, name="last")])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    start = model.get_weights()
    model.layers[0].trainable = True
    model.fit(X, ONES, epochs=2, verbose=0, callbacks=Unfreeze())
    changed = [
        [bool((a != b).any()) for a, b in zip(*pair, strict=True)]
        for pair in zip([start, weights[0]], weights, strict=True)
    ]
    assert changed == [[False, False, True, True], [True] * 4]
    assert [[len(part) for part in step] for step in steps] == [[0, 2], [2, 4]]


@pytest.mark.parametrize("steps_per_update", [1, 2])
def test_nothing_to_train_is_told_of_once(caplog: Any, steps_per_update: int) -> None:
    model = keras.Sequential([dense(1, 3)])
    model.trainable = False
    model.compile("sgd", "mse", steps_per_update=steps_per_update)
    start = model.get_weights()
    with caplog.at_level(logging.WARNING, "distopt"):
        losses = model.fit(X, ONES, batch_size=4, epochs=2, verbose=0).history["loss"]
    (told,) = caplog.messages
    assert "nothing to train" in told
    assert moved(start, model) == [False, False]
    assert losses[0] == pytest.approx(losses[1])
