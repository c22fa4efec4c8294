"""Layers: shapes, numbers of torch, training mode, replicas, weights, errors."""

import copy
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.autodiff import GradientTape
from distopt.core import IndexedSlices, Variable
from distopt.core.tensor import as_array
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.keras import layers as L

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(2, 8, 7, 3)).astype(np.float32)

#: A layer and the shape of an input for it.
EACH = {
    "dense": (lambda: L.Dense(4, activation="relu"), (5, 3)),
    "dense over a sequence": (lambda: L.Dense(4), (5, 2, 3)),
    "own function": (lambda: L.Dense(4, activation=lambda x: x * 2), (5, 3)),
    "activation": (lambda: L.Activation("softmax"), (5, 3)),
    "flatten": (L.Flatten, (5, 2, 3)),
    "reshape": (lambda: L.Reshape((3, -1)), (5, 2, 6)),
    "dropout": (lambda: L.Dropout(0.5), (5, 3)),
    "layer norm": (L.LayerNormalization, (5, 2, 3)),
    "batch norm": (L.BatchNormalization, (5, 2, 3)),
    "conv": (lambda: L.Conv2D(4, 3, activation="tanh"), (2, 8, 7, 3)),
    "conv same": (lambda: L.Conv2D(4, (2, 3), strides=2, padding="same"), (2, 8, 7, 3)),
    "max pool": (L.MaxPooling2D, (2, 8, 7, 3)),
    "max pool same": (lambda: L.MaxPooling2D(3, strides=2, padding="same"), (2, 8, 7, 3)),
    "average pool": (lambda: L.AveragePooling2D((2, 3)), (2, 8, 7, 3)),
    "average pool same": (lambda: L.AveragePooling2D(3, 2, "same"), (2, 8, 7, 3)),
    "global pool": (L.GlobalAveragePooling2D, (2, 8, 7, 3)),
}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("training", [False, True])
def test_every_layer_keeps_its_word_on_shapes(name: str, training: bool) -> None:
    make, shape = EACH[name]
    layer = make()
    output = layer(np.ones(shape, np.float64), training=training)
    assert output.dtype == np.float32
    assert (None, *output.shape[1:]) == tuple(layer.compute_output_shape((None, *shape[1:])))
    empty = layer(np.ones((0, *shape[1:]), np.float32), training=training)
    assert empty.shape == (0, *output.shape[1:])


def test_conv2d_is_that_of_torch() -> None:
    for padding, strides in (("valid", 1), ("valid", 2), ("same", 1)):
        layer = L.Conv2D(5, 3, strides=strides, padding=padding)
        v = Variable(IMAGES)
        with GradientTape() as tape:
            y = layer(v)
            loss = np.sum(y * y)
        x = torch.tensor(IMAGES).permute(0, 3, 1, 2).requires_grad_()
        kernel = torch.tensor(np.array(layer.kernel)).permute(3, 2, 0, 1).requires_grad_()
        expected = torch.nn.functional.conv2d(x, kernel, stride=strides, padding=padding)
        (expected**2).sum().backward()
        np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-5)
        of_x, of_kernel, of_bias = tape.gradient(loss, [v, layer.kernel, layer.bias])
        np.testing.assert_allclose(of_x, x.grad.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(of_kernel, kernel.grad.permute(2, 3, 1, 0).numpy(), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(of_bias, 2 * np.asarray(y).sum((0, 1, 2)), rtol=1e-4, atol=1e-3)


def test_same_padding_puts_the_odd_pixel_below_and_right() -> None:
    layer = L.Conv2D(1, 2, padding="same", kernel_initializer="ones")
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    expected = [[8, 12, 7], [20, 24, 13], [13, 15, 8]]
    assert as_array(layer(image))[0, :, :, 0].tolist() == expected


def test_average_pooling_leaves_padding_out() -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    pooled = as_array(L.AveragePooling2D(2, padding="same")(image))[0, :, :, 0]
    assert pooled.tolist() == [[2.0, 3.5], [6.5, 8.0]]


def test_dropout_scales_what_it_keeps_and_repeats_with_its_seed() -> None:
    x = np.ones((200, 50), np.float32)
    layer, again = L.Dropout(0.25, seed=4), L.Dropout(0.25, seed=4)
    assert layer(x) is x
    first, second = as_array(layer(x, training=True)), as_array(layer(x, training=True))
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.02
    assert (first != second).any()
    assert (as_array(again(x, training=True)) == first).all()


def test_dropout_differs_between_replicas() -> None:
    def program() -> Any:
        return as_array(L.Dropout(0.5, seed=1)(np.ones((1, 64), np.float32), training=True)).tolist()[0]

    first, second = zip(*(getattr(v, "values", (v, v)) for v in VirtualStrategy(2).run(program)), strict=True)
    assert first != second


def test_embedding_has_a_sparse_gradient() -> None:
    layer = L.Embedding(5, 2)
    ids = np.array([[0, 3], [3, 1]])
    with GradientTape() as tape:
        loss = np.sum(layer(ids) * np.array([1.0, 2.0], np.float32))
    gradient = tape.gradient(loss, layer.embeddings)
    assert isinstance(gradient, IndexedSlices)
    assert gradient.shape == (5, 2)
    assert gradient.to_dense().tolist() == [[1, 2], [1, 2], [0, 0], [2, 4], [0, 0]]
    assert layer(ids.astype(np.float32)).shape == (2, 2, 2)
    with pytest.raises(ValueError, match=r"layer 'embedding\w*' .* from 0 to 4 .* from 0 to 5"):
        layer(np.array([0, 5]))
    with pytest.raises(TypeError, match="takes integers"):
        layer(np.array([0.5]))


def test_batch_norm_is_that_of_torch() -> None:
    layer = L.BatchNormalization(momentum=0.9, epsilon=1e-5)
    theirs = torch.nn.BatchNorm1d(3, eps=1e-5, momentum=0.1)
    for _ in range(3):
        x = RNG.normal(2, 3, size=(50, 3)).astype(np.float32)
        np.testing.assert_allclose(
            layer(x, training=True), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(layer.moving_mean, theirs.running_mean.numpy(), rtol=1e-5)
    # torch keeps the unbiased variance, Keras that of the batch.
    biased = (theirs.running_var.numpy() - 0.9**3) * 49 / 50 + 0.9**3
    np.testing.assert_allclose(layer.moving_variance, biased, rtol=1e-4)
    theirs.eval()
    np.testing.assert_allclose(
        layer(x), (x - np.asarray(layer.moving_mean)) / np.sqrt(biased + 1e-5), rtol=1e-4, atol=1e-5
    )
    layer.trainable = False
    assert (as_array(layer(x, training=True)) == as_array(layer(x))).all()


def test_synchronized_batch_norm_sees_all_replicas() -> None:
    x = RNG.normal(size=(7, 3))
    target = RNG.normal(size=(7, 3))

    def program() -> Any:
        context = get_replica_context()
        start, stop = keras.data.share(7, context.replica_id_in_sync_group, context.num_replicas_in_sync)
        layer = L.BatchNormalization(synchronized=True, dtype="float64")
        v = Variable(x[start:stop])
        with GradientTape() as tape:
            loss = np.sum((layer(v, training=True) - target[start:stop]) ** 2)
        of_x, of_gamma = tape.gradient(loss, [v, layer.gamma])
        total = context.all_reduce("sum", [as_array(of_gamma), as_array(loss)])
        parts = [context.all_gather(of_x, axis=0), *total, layer.moving_variance]
        return [np.asarray(part).tolist() for part in parts]

    alone = VirtualStrategy(1).run(program)
    shared = VirtualStrategy(3).run(program)
    for one, three in zip(_leaves(alone), _leaves(shared), strict=True):
        assert three == pytest.approx(one, rel=1e-10, abs=1e-12)


def _leaves(value: Any) -> list[float]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [getattr(value, "values", [value])[0]]


def test_unsynchronized_moving_averages_come_together() -> None:
    def program() -> Any:
        rank = get_replica_context().replica_id_in_sync_group
        layer = L.BatchNormalization(momentum=0.0)
        layer(np.full((4, 1), rank, np.float32), training=True)
        before = float(layer.moving_mean.numpy()[0])
        layer.synchronize()
        return before, float(layer.moving_mean.numpy()[0])

    before, after = VirtualStrategy(2).run(program)
    assert before.values == (0.0, 1.0)
    assert _leaves([after]) == [0.5]


class Twice(L.Layer):
    """A layer in a layer, a list of layers and a plain variable."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(2)
        self.more = [L.Dense(2, use_bias=False), {"last": L.Dense(2)}]
        self.shift = Variable(0.0, name="shift")

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight("scale", (), initializer="ones", regularizer="l2")

    def call(self, inputs: Any) -> Any:
        x = self.first(inputs)
        return self.more[1]["last"](self.more[0](x)) * self.scale + self.shift


def test_own_layer_finds_its_weights() -> None:
    layer = Twice()
    assert layer(np.ones((3, 4))).shape == (3, 2)
    assert [w.shape for w in layer.weights] == [(), (), (4, 2), (2,), (2, 2), (2, 2), (2,)]
    assert float(layer.losses[0]) == pytest.approx(0.01)
    layer.more[0].trainable = False
    assert len(layer.trainable_weights) == 6
    assert [w.shape for w in layer.non_trainable_weights] == [(2, 2)]
    layer.trainable = False
    assert layer.trainable_weights == []
    assert layer.count_params() == 1 + 1 + 8 + 2 + 4 + 4 + 2


def test_trainable_weights_follow_every_change() -> None:
    """They are kept from one step to the next, so whatever changes them has to be noticed."""

    class Tower(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.rows = [L.Dense(1, input_shape=(2,))]
            self.head = L.Dense(3, use_bias=False)

        def call(self, inputs: Any) -> Any:
            for row in self.rows:
                inputs = row(inputs)
            return self.head(inputs)

    tower = Tower()
    model = keras.Sequential([tower, L.Dense(4)])
    model(np.zeros((1, 2), np.float32))

    def shapes() -> list[Any]:
        return [weight.shape for weight in model.trainable_weights]

    row, head, last = [(2, 1), (1,)], [(1, 3)], [(3, 4), (4,)]
    assert shapes() == row + head + last
    tower.head.trainable = False
    assert shapes() == row + last
    tower.head.trainable = True
    tower.rows.append(L.Dense(1))  # a list changes without a word
    model(np.zeros((1, 2), np.float32))
    assert shapes() == [*row, (1, 1), (1,), *head, *last]
    tower.rows = ()
    assert shapes() == head + last
    model.layers[1].extra = Variable(np.zeros(7, np.float32))
    assert shapes() == head + last + [(7,)]
    del model.layers[1].extra
    tower.rows = (L.Dense(5, input_shape=(6,)),)
    assert shapes() == head + last
    tower.rows[0].build((None, 6))
    assert shapes() == [(6, 5), (5,), *head, *last]
    model.pop()
    assert shapes() == [(6, 5), (5,), *head]
    copied = copy.deepcopy(model)
    tower.trainable = False
    assert shapes() == []
    assert [weight.shape for weight in copied.trainable_weights] == [(6, 5), (5,), *head]
    assert not set(copied.trainable_weights) & set(model.weights)


def test_weights_are_read_and_set() -> None:
    layer = L.Dense(2, input_shape=(3,))
    with pytest.raises(ValueError, match="takes 0 weights; got 2: the layer is not built"):
        layer.set_weights([np.ones((3, 2)), np.zeros(2)])
    layer(np.ones((1, 3)))
    layer.set_weights([np.full((3, 2), 2.0), [1.0, -1.0]])
    assert as_array(layer(np.ones((1, 3)))).tolist() == [[7.0, 5.0]]
    with pytest.raises(ValueError, match=r"kernel:0' has shape \(3, 2\); got \(2, 3\)"):
        layer.set_weights([np.ones((2, 3)), np.zeros(2)])
    assert layer.get_weights()[0].tolist() == np.full((3, 2), 2.0).tolist()


def test_integers_are_cast_to_the_layers_dtype() -> None:
    assert L.Dense(2)(np.arange(6).reshape(2, 3)).dtype == np.float32
    assert L.Dense(2, dtype="float64")(np.ones((2, 3), np.float32)).dtype == np.float64


def test_names_are_counted_a_replica() -> None:
    def program() -> list[str]:
        return [L.MaxPooling2D().name, L.MaxPooling2D().name]

    assert VirtualStrategy(2).run(program) == ["max_pooling2d", "max_pooling2d_1"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: L.Dense(0), r"units of layer 'dense\w*' must be a positive integer; got 0"),
        (lambda: L.Dense(2.5), "positive integer; got 2.5"),
        (lambda: L.Dense(2, activation="rellu"), "relu"),
        (lambda: L.Dropout(1.0), r"must be in \[0, 1\); got 1.0"),
        (lambda: L.Conv2D(2, (1, 2, 3)), "a number or a pair"),
        (lambda: L.Conv2D(2, 3, padding="full"), "'valid' or 'same'; got 'full'"),
        (lambda: L.Reshape((-1, -1)), "one -1 only"),
        (lambda: L.Conv2D(2, 3)(np.ones((2, 5, 5))), r"Conv2D\) takes images .*got shape \(None, 5, 5\)"),
        (lambda: L.Conv2D(2, 3).compute_output_shape((None, 2, 9, 1)), r"window of \(3, 3\) does not fit"),
        (lambda: L.Reshape((4,))(np.ones((2, 3))), "they have 3 elements"),
        (lambda: L.BatchNormalization(axis=1)(np.ones((2, 3, 4))), "works over the last axis"),
        (lambda: L.Dense(2)(np.ones(3)), "at least 2 axes"),
    ],
)
def test_errors(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_another_length_is_refused_with_the_layers_name() -> None:
    layer = L.Dense(2, name="head")
    layer(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"layer 'head' \(Dense\) takes .* length 3 on axis -1.*\(4, 5\)"):
        layer(np.ones((4, 5)))


def test_a_layer_called_on_a_layer_says_what_to_do() -> None:
    for layer in (L.Dense(2, name="last"), L.Embedding(3, 2, name="last")):
        with pytest.raises(TypeError, match=r"'last' .* was called on layer 'given', not on values"):
            layer(keras.Input((3,), name="given"))
        assert not layer.built


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: L.Dense(3, activaton="relu"),
            "Dense.. has no argument 'activaton': did you mean 'activation'?",
        ),
        (lambda: L.Conv2D(3, 3, input_shap=(4, 4, 1)), "Conv2D.. has no argument 'input_shap': did you mean"),
        (lambda: Twice(depth=3), "no argument 'depth'|unexpected keyword argument 'depth'"),
        (lambda: keras.Model(nam="x"), "Model.. has no argument 'nam': did you mean 'name'?"),
        (lambda: keras.Input(4), "input_shape must be a list of lengths; got 4: write .4,."),
    ],
)
def test_unknown_arguments_are_named_with_the_class_and_the_nearest(make: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        make()
