"""All layers, activations, losses and metrics: inputs of all dtypes, derivatives."""

import itertools
from typing import Any

import numpy as np
import pytest
import registered
from derivatives import check_derivatives

from distopt.autodiff import GradientTape
from distopt.core import Variable
from distopt.core.tensor import as_array
from distopt.keras import activations, losses, metrics
from distopt.keras.layers import Dropout, identify
from distopt.keras.losses import huber
from distopt.keras.losses import names as loss_names
from distopt.keras.metrics import names as metric_names

RNG = np.random.default_rng(4)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


#: Ways to hold numbers, and a dtype whose values the numbers must be among.
KINDS: dict[str, tuple[Any, str]] = {
    **{name: (lambda x, name=name: x.astype(name), name) for name in ("u1", "i4", "i8", "u8", ">i4", "?")},
    **{name: (lambda x, name=name: x.astype(name), name) for name in ("f2", ">f2", ">f4")},
    "every second": (lambda x: np.repeat(x.astype(np.float32), 2, axis=0)[::2], "f4"),
    "backwards": (lambda x: x.astype(np.float32)[::-1].copy()[::-1], "f4"),
    "in columns": (lambda x: np.asfortranarray(x.astype(np.float32)), "f4"),
    "read only": (read_only, "f4"),
    "no examples": (lambda x: x[:0].astype(np.float32), "f4"),
}
#: Dtypes that hold no real numbers.
REFUSED = ["c8", "c16", "O", "U8", "M8[s]"]


def as_held(x: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """``x``, rounded to what the kind can hold, in that kind and as float32."""
    make, dtype = KINDS[kind]
    if np.dtype(dtype).kind in "iub":
        x = np.round(np.abs(x)) % (2 if dtype == "?" else 250)
    held = make(x.astype(dtype))
    return held, np.ascontiguousarray(held.astype(np.float32))


def check(call: Any, x: np.ndarray, kind: str, same_dtype: bool = False) -> None:
    """Raises if ``call`` on numbers of that kind is not what it is on float32."""
    held, plain = as_held(x, kind)
    before = held.copy()
    got, want = as_array(call(held)), as_array(call(plain))
    half = held.dtype.kind == "f" and held.dtype.itemsize == 2
    assert got.shape == want.shape, kind
    if same_dtype:
        assert got.dtype in ((np.float16, np.float32) if half else (want.dtype,)), kind
    tolerance = 2e-3 if got.dtype == np.float16 else 1e-6
    np.testing.assert_allclose(got.astype(float), want.astype(float), tolerance, tolerance, err_msg=kind)
    np.testing.assert_array_equal(held, before, err_msg=f"{kind}: the input was changed")


def refuse(call: Any, x: np.ndarray, dtype: str, argument: str) -> None:
    """Raises unless ``call`` on that dtype is a TypeError that names it and the argument."""
    bad = np.round(x).astype(int).astype(dtype) if dtype[0] == "M" else x.astype(dtype)
    with pytest.raises(TypeError) as raised:
        call(bad)
    assert argument in str(raised.value)
    assert str(bad.dtype) in str(raised.value)


# -- layers
def layers_of(name: str) -> list[tuple[Any, np.ndarray, str]]:
    """Calls of built layers, inputs for them, and how errors name the layer."""
    found = []
    for make, shape in registered.LAYERS[name]:
        layer = make("float32")
        x = RNG.integers(0, 12, size=shape).astype(float)
        layer(x.astype(np.int64))
        for training in (False, True):
            found.append((called(layer, training), x, f"layer {layer.name!r} ({name})"))
    return found


def called(layer: Any, training: bool) -> Any:
    def call(x: Any) -> Any:
        if isinstance(layer, Dropout):
            layer.set_state({"seed": 1, "calls": 0})
        return layer(x, training=training)

    return call


@pytest.mark.parametrize("name", identify.registry.known)
def test_layers(name: str) -> None:
    for kind, (call, x, _) in itertools.product(KINDS, layers_of(name)):
        if name == "Embedding" and kind == "?":
            refuse(call, x, kind, "layer 'embedding")
            continue
        check(call, x, kind)
        if name not in registered.NO_ARITHMETIC:
            assert call(as_held(x, kind)[0]).dtype == np.float32


@pytest.mark.parametrize("name", identify.registry.known)
def test_layers_refuse(name: str) -> None:
    for dtype, (call, x, argument) in itertools.product(REFUSED, layers_of(name)):
        if name in registered.NO_ARITHMETIC:
            assert call(x.astype(int).astype(dtype)).dtype == dtype
        else:
            refuse(call, x, dtype, "x must" if name == "Activation" else argument)


@pytest.mark.parametrize("name", ["AveragePooling2D", "BatchNormalization", "LayerNormalization"])
def test_layers_of_float16_do_not_overflow(name: str) -> None:
    """Sums and squares of these numbers are larger than 65504, the largest float16."""
    for make, shape in registered.LAYERS[name]:
        x = np.random.default_rng(0).uniform(20000, 60000, size=shape).astype(np.float16)
        narrow, wide = (make(dtype)(x, training=True) for dtype in ("float16", "float32"))
        assert narrow.dtype == np.float16
        np.testing.assert_allclose(as_array(narrow).astype(float), as_array(wide), rtol=2e-3, atol=2e-3)


def test_batch_statistics_of_many_float16() -> None:
    """From 2048 on float16 cannot count by ones."""
    (make, _), *_ = registered.LAYERS["BatchNormalization"]
    x = np.tile(np.array([[1.0], [3.0]], np.float16), (5000, 1))
    np.testing.assert_allclose(as_array(make("float16")(x, training=True))[:2, 0], [-1, 1], rtol=1e-3)


# -- activations
@pytest.mark.parametrize("name", activations.registry.known)
def test_activations(name: str) -> None:
    for kind in KINDS:
        check(activations.get(name), RNG.normal(size=(4, 3)) * 3, kind, same_dtype=name != "linear")


@pytest.mark.parametrize("name", [name for name in activations.registry.known if name != "linear"])
def test_activations_refuse(name: str) -> None:
    for dtype in REFUSED:
        refuse(activations.get(name), RNG.normal(size=(4, 3)), dtype, "x must")


# -- losses
LOSSES = registered.names_of(loss_names.registry.known)


def spread(shares: np.ndarray) -> np.ndarray:
    """Shares, the largest of each row made 1, so that something is left when they are rounded."""
    return np.where(shares == shares.max(axis=-1, keepdims=True), 1.0, shares)


def calls_of_two(call: Any, name: str) -> list[tuple[Any, np.ndarray, str]]:
    """The call as one of labels, then of predictions: each with values for that argument."""
    predictions = registered.PREDICTIONS
    labels = registered.class_labels() if registered.takes_classes(name) else spread(registered.LABELS)
    by_labels = lambda y: call(y, predictions[: len(y)].astype(np.float32))  # noqa: E731
    by_predictions = lambda y: call(labels[: len(y)], y)  # noqa: E731
    return [(by_labels, labels, "y_true must"), (by_predictions, spread(predictions), "y_pred must")]


def losses_of(name: str) -> list[Any]:
    loss, function = registered.loss_of(name), losses.get(name)
    return [loss, lambda t, y: loss(t, y, np.arange(len(y))), loss.call] + (
        [] if isinstance(function, losses.Loss) else [function]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    percentage = "percentage" in losses.for_model(name).name
    for kind, call in itertools.product(KINDS, losses_of(name)):
        if percentage and KINDS[kind][1].endswith("f2"):
            continue  # of labels near 0: larger than any float16
        for one, values, _ in calls_of_two(call, name):
            check(one, values, kind, same_dtype=True)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_refuse(name: str) -> None:
    for dtype, call in itertools.product(REFUSED, losses_of(name)):
        for one, values, argument in calls_of_two(call, name):
            refuse(one, values, dtype, argument)


def test_losses_of_float16_are_summed_and_squared_in_float32() -> None:
    """A square of 300 is larger than the largest float16, the mean of four is not."""
    y_true, y_pred = np.zeros((1, 4), np.float16), np.array([[300, 0, 0, 0]], np.float16)
    for loss in (losses.MeanSquaredError(), losses.mean_squared_error):
        value = as_array(loss(y_true, y_pred))
        assert (value.dtype, value.reshape(-1).tolist()) == (np.float16, [22496.0])  # 22500, rounded
    tiny = np.full((1, 3), 1e-4, np.float16)
    assert as_array(losses.cosine_similarity(tiny, tiny)).tolist() == [-1.0]


def test_class_labels_must_be_whole() -> None:
    with pytest.raises(ValueError, match="not integers"):
        losses.sparse_categorical_crossentropy(np.array([0.0, 1.5]), registered.PREDICTIONS[:2])


# -- metrics
METRICS = [*registered.names_of(metric_names.registry.known), "accuracy", "crossentropy"]


def updated(name: str) -> Any:
    def call(*values: Any) -> Any:
        metric = registered.metric_of(name)
        metric.update_state(*values)
        return metric.result()

    return call


def calls_of_metric(name: str) -> list[tuple[Any, np.ndarray, str]]:
    call = updated(name)
    if name in ("Mean", "MeanTensor", "Sum"):
        return [(call, registered.LABELS * 20, "values must")]
    found = calls_of_two(call, name)
    function = metrics.get(name) if name[0].islower() and name not in metric_names._BY_SHAPE else None
    return found + ([] if function is None else calls_of_two(function, name))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # a function's percentages in float16
def test_metrics(name: str) -> None:
    for kind, (call, values, _) in itertools.product(KINDS, calls_of_metric(name)):
        check(call, values, kind)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_refuse(name: str) -> None:
    for dtype, (call, values, argument) in itertools.product(REFUSED, calls_of_metric(name)):
        refuse(call, values, dtype, argument)


WEIGHTED = [losses.MeanSquaredError(), losses.CategoricalHinge(), *map(updated, ("mae", "AUC", "Recall"))]


@pytest.mark.parametrize("dtype", REFUSED)
def test_weights_of_samples_are_refused(dtype: str) -> None:
    values = registered.LABELS, registered.PREDICTIONS
    for call in (
        losses.MeanSquaredError(),
        losses.CategoricalHinge(),
        *map(updated, ("mae", "AUC", "Recall")),
    ):
        refuse(lambda weight, call=call: call(*values, weight), np.arange(5.0), dtype, "sample_weight must")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no examples"])
def test_weights_of_samples(kind: str) -> None:
    values = registered.LABELS, registered.PREDICTIONS
    for call in (
        losses.MeanSquaredError(),
        losses.CategoricalHinge(),
        *map(updated, ("mae", "AUC", "Recall")),
    ):
        check(lambda weight, call=call: call(*values, weight), np.array([0.0, 1.0, 3.0, 0.5, 1.0]), kind)


def test_a_label_that_is_no_class_is_not_among_the_best() -> None:
    call = metrics.sparse_top_k_categorical_accuracy
    assert as_array(call(np.array([-1, 4, 3]), np.arange(12.0).reshape(3, 4), k=4)).tolist() == [0, 0, 1]


RNG_F8 = np.random.default_rng(3)
LOSS_OBJECTS = {
    # Once each, whatever the number of its names.
    **{
        loss.fn.__name__: loss
        for loss in map(registered.loss_of, loss_names.registry.known)
        if loss.fn is not huber
    },
    "categorical of logits": losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    "binary of logits": losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    "sparse of logits": losses.SparseCategoricalCrossentropy(from_logits=True),
}


def called_f8(layer: Any, training: bool) -> Any:
    """The layer as a function, the same at every call; further arguments are its weights."""

    def call(inputs: Any, *_weights: Any) -> Any:
        if isinstance(layer, Dropout):
            layer.set_state({"seed": 1, "calls": 0})
        return layer(inputs, training=training)

    return call


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", identify.registry.known)
def test_derivatives_of_layers(name: str, training: bool) -> None:
    for make, shape in registered.LAYERS[name]:
        layer, size = make("float64"), int(np.prod(shape))
        x = RNG_F8.permutation(size).reshape(shape) / size * 3 - 1  # no two are equal
        call = called_f8(layer, training)
        if name == "Embedding":
            ids = RNG_F8.integers(0, 12, size=shape)
            layer(ids)
            check_derivatives(lambda *_table, call=call, ids=ids: call(ids), *layer.trainable_weights)
        else:
            layer(x)
            for weight in layer.trainable_weights:
                weight.assign(RNG_F8.normal(size=weight.shape))
            check_derivatives(call, x, *layer.trainable_weights)


@pytest.mark.parametrize("name", LOSS_OBJECTS)
def test_derivatives_of_losses(name: str) -> None:
    """Huber's is computed in float32, whatever the arguments are, and has a test of its own."""
    loss = LOSS_OBJECTS[name]
    for call in (loss, loss.call):
        if registered.takes_classes(name):
            labels = registered.class_labels()
            check_derivatives(lambda y, call=call: call(labels, y), registered.PREDICTIONS)
        else:
            check_derivatives(call, registered.LABELS, registered.PREDICTIONS)


def gradient(call: Any, x: np.ndarray, turned: bool) -> np.ndarray:
    """By ``x``, which the function sees as an array in rows, or in columns if ``turned``."""
    v = Variable(np.ascontiguousarray(np.transpose(x)) if turned else x)
    with GradientTape() as tape:
        value = np.sum(np.sin(call(np.transpose(v * 1.0) if turned else v * 1.0)))
    found = tape.gradient(value, v).numpy()
    return np.transpose(found) if turned else found


def functions() -> dict[str, tuple[Any, np.ndarray]]:
    """What takes one array of floats: layers, losses of predictions, activations."""
    found: dict[str, tuple[Any, np.ndarray]] = {}
    for name, examples in registered.LAYERS.items():
        if name != "Embedding":
            for i, (make, shape) in enumerate(examples):
                found[f"{name} {i}"] = (
                    called_f8(make("float64"), True),
                    RNG_F8.normal(size=shape),
                )
    for name, loss in LOSS_OBJECTS.items():
        labels = registered.class_labels() if registered.takes_classes(name) else registered.LABELS
        found[name] = lambda y, loss=loss, labels=labels: loss(labels, y), registered.PREDICTIONS
    for name in activations.registry.known:
        found[f"activation {name}"] = activations.get(name), RNG_F8.normal(size=(4, 3))
    return found


@pytest.mark.parametrize("name", functions())
def test_the_order_of_elements_in_memory_does_not_matter(name: str) -> None:
    call, x = functions()[name]
    np.testing.assert_allclose(gradient(call, x, True), gradient(call, x, False), rtol=1e-9, atol=1e-12)
