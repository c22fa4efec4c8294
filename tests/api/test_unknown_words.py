"""An unknown argument or name, wherever users write one: the error says what was meant and what there is."""

import inspect

import numpy as np
import pytest

import distopt as tf
from distopt import aggregators, distribute, keras, optimizers
from distopt.core.keywords import argument_names
from distopt.keras import (
    activations,
    callbacks,
    constraints,
    data,
    initializers,
    layers,
    losses,
    metrics,
    regularizers,
)
from distopt.optimizers import schedules
from distopt.settings import settings

PARTS = [
    aggregators,
    callbacks,
    constraints,
    distribute,
    initializers,
    keras,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
]
#: Not made by users, or, as CheckpointManager, with arguments that take any name.
NOT_MADE = {"InputSpec", "PerReplica", "ReduceOp", "Reduction", "ReplicaContext", "CallbackList"}
NOT_MADE |= {"ReplicaGroup", "Report", "TimedIterable"}


def classes():
    found = {getattr(part, name) for part in PARTS for name in part.__all__} | {data.Dataset}
    made = [c for c in found if inspect.isclass(c) and c.__name__ not in NOT_MADE]
    return sorted(made, key=lambda c: (c.__module__, c.__qualname__))


def misspelt(word):
    """The word without one of its letters."""
    return word[:-2] + word[-1]


def required(cls):
    """Arguments that it must have."""
    of = inspect.signature(cls).parameters.values()
    given = {"fn": losses.mse, "target_shape": (1,), "layer": None}
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {p.name: given.get(p.name, 1) for p in of if p.kind in kinds and p.default is p.empty}


def test_many_classes_are_found():
    assert len(classes()) > 110


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__qualname__)
def test_an_unknown_argument_of_a_constructor(cls):
    known = argument_names(cls)
    known = [name for name in known if len(name) > 3] or known
    meant = max(known, key=len, default="nothing")
    arguments = {name: value for name, value in required(cls).items() if name != meant}
    if inspect.isabstract(cls) and cls.__new__ is object.__new__:
        pytest.skip("abstract")
    with pytest.raises(TypeError) as error:
        cls(**arguments, **{misspelt(meant): 1})
    text = str(error.value)
    assert misspelt(meant) in text
    assert all(name in text for name in known if name != "keywords"), text
    assert not known or f"id you mean {meant!r}?" in text


METHODS = [
    ("compile", "optimizr", "optimizer", ["loss", "metrics", "steps_per_update"]),
    ("fit", "epoch", "epochs", ["batch_size", "validation_data", "callbacks"]),
    ("evaluate", "batchsize", "batch_size", ["steps", "return_dict"]),
    ("predict", "verbos", "verbose", ["batch_size", "steps"]),
    ("train_on_batch", "sample_weigth", "sample_weight", ["x", "y"]),
    ("test_on_batch", "sample_weigth", "sample_weight", ["x", "y"]),
]


@pytest.mark.parametrize(("method", "word", "meant", "others"), METHODS)
def test_an_unknown_argument_of_a_models_method(method, word, meant, others):
    model = keras.Sequential([layers.Dense(1, input_shape=(2,))])
    with pytest.raises(TypeError) as error:
        getattr(model, method)(**{word: 1})
    assert str(error.value).startswith(
        f"{method}() has no argument {word!r}: did you mean {meant!r}? Known: "
    )
    assert all(other in str(error.value) for other in others)


@pytest.mark.parametrize("make", [losses.LossFunctionWrapper, metrics.MeanMetricWrapper])
def test_arguments_of_a_function_that_is_wrapped(make):
    with pytest.raises(TypeError, match=r"Wrapper\(\) has no argument 'dleta': did you mean 'delta'"):
        make(losses.huber, dleta=2.0)
    made = make(losses.huber, delta=2.0)
    assert make.from_config({"fn": losses.huber, **made.get_config()}).get_config() == made.get_config()


def fitted(**compiled):
    model = keras.Sequential([layers.Dense(1, input_shape=(2,))])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)


NAMES = [
    ("optimizer", lambda: fitted(optimizer="adem"), "adam", "rmsprop"),
    ("loss function", lambda: fitted(loss="mean_squared_eror"), "mean_squared_error", "Huber"),
    ("metric function", lambda: fitted(metrics=["acuracy"]), "accuracy", "mean_absolute_error"),
    ("activation function", lambda: activations.get("rleu"), "relu", "softmax"),
    ("initializer", lambda: layers.Dense(1, kernel_initializer="glorot_unifrm"), "glorot_uniform", "zeros"),
    ("regularizer", lambda: layers.Dense(1, kernel_regularizer="l_2"), "l2", "l1"),
    ("constraint", lambda: layers.Dense(1, kernel_constraint="maxnorm"), "max_norm", "non_neg"),
    ("layer", lambda: layers.deserialize({"class_name": "Dens", "config": {}}), "Dense", "Flatten"),
    (
        "decay",
        lambda: schedules.deserialize({"class_name": "CosineDecy", "config": {}}),
        "CosineDecay",
        "ExponentialDecay",
    ),
    ("aggregator", lambda: optimizers.SGD(gradient_aggregator="weightedmean"), "weighted_mean", "adasum"),
]


@pytest.mark.parametrize(("kind", "look_up", "meant", "other"), NAMES, ids=[name[0] for name in NAMES])
def test_an_unknown_name(kind, look_up, meant, other):
    with pytest.raises(ValueError, match=f"^Unknown {kind}: ") as error:
        look_up()
    text = str(error.value)
    assert f"Did you mean {meant!r}?" in text
    assert other in text.partition("Known: ")[2].split(", ")


@pytest.mark.parametrize(
    ("use", "allowed"),
    [
        (lambda: optimizers.SGD(on_nonfinite="skp"), ["did you mean 'skip'?", "propagate", "raise", "zero"]),
        (lambda: losses.MeanSquaredError(reduction="summ"), ["auto", "none", "sum", "sum_over_batch_size"]),
        (lambda: metrics.AUC(curve="RCO"), ["'ROC'", "'PR'"]),
        (lambda: layers.Conv2D(1, 2, padding="smae"), ["'valid'", "'same'"]),
        (lambda: callbacks.EarlyStopping(mode="mim"), ["'auto'", "'min'", "'max'"]),
        (lambda: tf.keras.backend.set_floatx("flot32"), ["float16", "float32", "float64"]),
        (lambda: distribute.get_replica_context().all_reduce("summ", 1.0), ["sum", "mean", "min", "max"]),
        (lambda: distribute.MPIStrategy(memory="privat"), ["auto", "shared", "private"]),
        (
            lambda: settings({"DISTOPT_STALL_SECOND": "1"}),
            ["Did you mean 'DISTOPT_STALL_SECONDS'?", "_MEMORY"],
        ),
    ],
)
def test_a_word_that_is_not_among_a_few(use, allowed):
    with pytest.raises(ValueError, match=r"[uU]se one of|must be|unknown") as error:
        use()
    assert all(word in str(error.value) for word in allowed)


@pytest.mark.parametrize(
    ("thing", "name"),
    [(tf, "optimisers"), (tf.keras.backend, "set_floatz"), (optimizers.Adam(), "learning_rat")],
)
def test_attribute_errors_have_what_python_suggests_by(thing, name):
    with pytest.raises(AttributeError) as error:
        getattr(thing, name)
    assert (error.value.name, error.value.obj) == (name, thing)


class TestSubclasses:
    def test_those_that_take_any_argument_are_left_alone(self):
        class Mine(callbacks.Callback):
            def __init__(self, **options):
                super().__init__()
                self.options = options

        assert Mine(anything=1).options == {"anything": 1}

    def test_those_of_users_are_helped_too(self):
        class Mine(aggregators.Aggregator):
            def __init__(self, factor=1.0):
                self.factor = factor

            def __call__(self, grads_and_vars):
                return list(grads_and_vars)

        with pytest.raises(TypeError, match=r"Mine\(\) has no argument 'facter': did you mean 'factor'"):
            Mine(facter=2.0)

    def test_another_base_gets_its_arguments(self):
        class Named:
            def __init__(self, label):
                self.label = label

        class Mine(constraints.Constraint, Named):
            def __call__(self, w):
                return w

        assert Mine("a").label == "a"
        assert Mine(label="b").label == "b"

    def test_without_a_constructor_there_are_no_arguments(self):
        for wrong in (lambda: constraints.NonNeg(1), lambda: constraints.NonNeg(axis=1)):
            with pytest.raises(TypeError, match=r"NonNeg\(\)"):
                wrong()
        assert str(inspect.signature(constraints.NonNeg)) == "()"
