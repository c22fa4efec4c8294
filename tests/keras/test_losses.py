"""Losses: the recordings of the real ones, gradients, reductions, weights."""

import json
from pathlib import Path

import numpy as np
import pytest

import distopt.keras.losses as L
from distopt.autodiff import GradientTape
from distopt.core import Variable, constant
from distopt.distribute import VirtualStrategy

HERE = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((HERE / "losses.json").read_text())["losses"]
with np.load(HERE / "losses.npz") as _file:
    BUFFERS = dict(_file)


def recorded(ref):
    key, offset, shape = ref
    return BUFFERS[key][offset : offset + int(np.prod(shape))].reshape(shape)


@pytest.mark.parametrize("case", GOLDEN, ids=[c["id"] for c in GOLDEN])
def test_recorded(case):
    y_true, y_pred = (constant(recorded(case[k])) for k in ("y_true", "y_pred"))
    for row in case["values"]:
        loss = getattr(L, case["loss"])(reduction=row["reduction"], **case["config"])
        ref = case["sample_weights"][row["sample_weight"]]
        got = loss(y_true, y_pred, sample_weight=None if ref is None else constant(recorded(ref)))
        want = recorded(row["value"])
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got.numpy(), want, rtol=2e-5, atol=2e-6, err_msg=str(row))
        assert loss.name == case["name"]


# -- gradients
RNG = np.random.default_rng(7)
REAL = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
POSITIVE = RNG.uniform(0.2, 3, size=(5, 4)), RNG.uniform(0.2, 3, size=(5, 4))
PROBABILITIES = tuple(p / p.sum(-1, keepdims=True) for p in POSITIVE)
SIGNS = np.sign(REAL[0]), REAL[1]
WEIGHTS = RNG.uniform(0.5, 2, size=5)
SMOOTH = [
    (L.mean_squared_error, REAL, {}),
    (L.mean_absolute_error, REAL, {}),
    (L.mean_absolute_percentage_error, (SIGNS[0] * POSITIVE[0], REAL[1]), {}),
    (L.mean_squared_logarithmic_error, POSITIVE, {}),
    (L.log_cosh, REAL, {}),
    (L.cosine_similarity, REAL, {}),
    (L.cosine_similarity, REAL, {"axis": 0}),
    (L.hinge, (REAL[0], REAL[1]), {}),
    (L.squared_hinge, REAL, {}),
    (L.categorical_hinge, PROBABILITIES, {}),
    (L.kl_divergence, PROBABILITIES, {}),
    (L.poisson, POSITIVE, {}),
    (L.binary_crossentropy, PROBABILITIES, {}),
    (L.binary_crossentropy, PROBABILITIES, {"label_smoothing": 0.2}),
    (L.binary_crossentropy, (PROBABILITIES[0], REAL[1]), {"from_logits": True}),
    (L.categorical_crossentropy, PROBABILITIES, {}),
    (L.categorical_crossentropy, (POSITIVE[0], REAL[1]), {"from_logits": True, "label_smoothing": 0.1}),
    (L.categorical_crossentropy, (POSITIVE[0], REAL[1]), {"from_logits": True, "axis": 0}),
]
IDS = [f"{fn.__name__}-{'-'.join(map(str, kw.values()))}" for fn, _, kw in SMOOTH]


def numeric(f, x, eps=1e-6):
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += eps
        down[i] -= eps
        grad[i] = (f(up) - f(down)) / (2 * eps)
    return grad


def total(fn, weights, **kwargs):
    def run(y_true, y_pred):
        losses = fn(y_true, y_pred, **kwargs)
        return np.sum(losses * weights[: losses.shape[0]])

    return run


@pytest.mark.parametrize(("fn", "data", "kwargs"), SMOOTH, ids=IDS)
def test_gradients_of_both_arguments(fn, data, kwargs):
    run = total(fn, WEIGHTS, **kwargs)
    y_true, y_pred = Variable(data[0]), Variable(data[1])
    with GradientTape() as tape:
        value = run(y_true, y_pred)
    got = tape.gradient(value, [y_true, y_pred])
    want = (
        numeric(lambda t: float(run(t, data[1])), data[0]),
        numeric(lambda p: float(run(data[0], p)), data[1]),
    )
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g.numpy(), w, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("fn", "data", "kwargs"), SMOOTH, ids=IDS)
def test_second_derivatives(fn, data, kwargs):
    run = total(fn, WEIGHTS, **kwargs)
    direction = REAL[0]

    def slope(p):
        y_pred = constant(p)
        with GradientTape() as inner:
            inner.watch(y_pred)
            value = run(data[0], y_pred)
        return float(np.sum(inner.gradient(value, y_pred) * direction))

    y_pred = Variable(data[1])
    with GradientTape() as outer:
        with GradientTape() as inner:
            value = run(data[0], y_pred)
        along = np.sum(inner.gradient(value, y_pred) * direction)
    got = outer.gradient(along, y_pred)
    got = np.zeros_like(data[1]) if got is None else got.numpy()
    np.testing.assert_allclose(got, numeric(slope, data[1]), rtol=2e-5, atol=1e-6)


def test_sparse_labels_are_one_hot_labels():
    labels = np.array([0, 3, 1, 2, 2])
    for from_logits, values in ((True, REAL[1]), (False, PROBABILITIES[1])):
        grads = []
        for fn, y in (
            (L.sparse_categorical_crossentropy, labels),
            (L.categorical_crossentropy, np.eye(4)[labels]),
        ):
            y_pred = Variable(values)
            with GradientTape() as tape:
                value = np.sum(fn(y, y_pred, from_logits=from_logits) * np.arange(1.0, 6.0))
            grads.append((float(value), tape.gradient(value, y_pred).numpy()))
        assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-12)
        if from_logits:
            np.testing.assert_allclose(grads[0][1], grads[1][1], rtol=1e-9, atol=1e-12)
    got = L.sparse_categorical_crossentropy(labels[:, None], REAL[1], from_logits=True)
    np.testing.assert_array_equal(got, L.sparse_categorical_crossentropy(labels, REAL[1], from_logits=True))


def test_sparse_second_derivative_along_an_axis():
    labels = np.array([[0, 1], [2, 0]])
    logits = REAL[0].reshape(-1)[:12].reshape(2, 3, 2)
    got = L.sparse_categorical_crossentropy(labels, constant(logits), from_logits=True, axis=1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    want = -np.log(np.take_along_axis(p, labels[:, None], 1))[:, 0]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_huber_gradient_and_dtype():
    y_true, y_pred = np.zeros((1, 3)), Variable([[0.5, -2.0, 4.0]], dtype=np.float64)
    with GradientTape() as tape:
        value = L.huber(y_true, y_pred, delta=2.0)
    assert value.dtype == np.float32
    np.testing.assert_allclose(tape.gradient(value, y_pred).numpy(), [[0.5 / 3, -2 / 3, 2 / 3]], rtol=1e-6)


def test_clipped_probabilities_have_no_gradient():
    y_pred = Variable([[0.0, 1.0, 0.5]])
    with GradientTape() as tape:
        value = L.binary_crossentropy(np.array([[1.0, 0.0, 1.0]]), y_pred)
    assert np.isfinite(float(value[0]))
    np.testing.assert_allclose(tape.gradient(value, y_pred).numpy(), [[0, 0, -2 / 3]], rtol=1e-5)


@pytest.mark.parametrize("from_label", [0.0, 1.0])
def test_extreme_logits(from_label):
    y_pred = Variable([[-1000.0, 1000.0]])
    for fn in (L.binary_crossentropy, L.categorical_crossentropy):
        with GradientTape() as tape:
            value = fn(np.array([[from_label, 1.0 - from_label]], np.float32), y_pred, from_logits=True)
        assert np.isfinite(value.numpy()).all()
        assert np.isfinite(tape.gradient(value, y_pred).numpy()).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["mse", "mae", "msle", "poisson", "bce", "kld", "categorical_crossentropy"])
def test_dtype_of_predictions_stays(name, dtype):
    y = PROBABILITIES[0].astype(dtype)
    loss = L.for_model(name)
    for weight in (None, np.arange(5.0)):
        assert loss(y.astype(np.float32), constant(y), sample_weight=weight).dtype == dtype
    y_pred = Variable(y)
    with GradientTape() as tape:
        value = loss(y, y_pred, sample_weight=np.arange(5.0))
    assert tape.gradient(value, y_pred).dtype == dtype


# -- reductions and weights
def test_number_of_losses_divides_not_the_weights():
    loss = L.MeanAbsoluteError()
    y_true, y_pred = np.zeros((4, 1)), np.array([[1.0], [2.0], [3.0], [4.0]])
    assert float(loss(y_true, y_pred)) == 2.5
    assert float(loss(y_true, y_pred, sample_weight=[1.0, 0.0, 0.0, 1.0])) == 1.25
    assert float(loss(y_true, y_pred, sample_weight=[[2.0], [2.0], [2.0], [2.0]])) == 5.0
    assert float(loss(y_true, y_pred, sample_weight=np.zeros(4))) == 0.0
    assert float(loss(np.zeros((0, 1)), np.zeros((0, 1)))) == 0.0


def test_sum_and_count():
    loss = L.MeanAbsoluteError()
    value, count = loss.sum_and_count(np.zeros((4, 1)), np.arange(4.0)[:, None], [1.0, 1.0, 2.0, 0.0])
    assert (float(value), count) == (5.0, 4)


@pytest.mark.parametrize(
    "name", ["MeanSquaredError", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_reduced_at_once_is_as_one_by_one(name, dtype):
    arguments = {} if name == "MeanSquaredError" else {"from_logits": True}
    labels = np.array([0, 3, 1, 2, 2]) if "Sparse" in name else PROBABILITIES[0]
    tolerance = {np.float16: 2e-3, np.float32: 1e-6, np.float64: 1e-13}[dtype]
    one_by_one = getattr(L, name)(reduction="none", **arguments)
    for reduction, combine in (("sum", np.sum), ("auto", np.mean)):
        grads = []
        for loss in (
            lambda p, r=reduction: getattr(L, name)(reduction=r, **arguments)(labels, p),
            lambda p, c=combine: c(one_by_one(labels, p)),
        ):
            y_pred = Variable(REAL[1].astype(dtype))
            with GradientTape() as tape:
                value = loss(y_pred)
            assert (value.shape, value.dtype) == ((), dtype)
            grads.append((float(value), tape.gradient(value, y_pred).numpy()))
        assert grads[0][0] == pytest.approx(grads[1][0], rel=tolerance)
        np.testing.assert_allclose(grads[0][1], grads[1][1], rtol=10 * tolerance, atol=tolerance)


def test_mean_with_a_factor():
    for loss, labels in ((L.MeanSquaredError(), REAL[0]), (L.MeanAbsoluteError(), REAL[0])):
        want = 0.25 * float(loss(labels, REAL[1]))
        assert float(loss.mean(labels, REAL[1], factor=0.25)) == pytest.approx(want)
        want = 0.25 * float(loss(labels, REAL[1], WEIGHTS))
        assert float(loss.mean(labels, REAL[1], WEIGHTS, 0.25)) == pytest.approx(want)


def test_overridden_call_of_a_shipped_loss_counts():
    class Doubled(L.MeanSquaredError):
        def call(self, y_true, y_pred):
            return 2 * super().call(y_true, y_pred)

    assert float(Doubled()(*REAL)) == pytest.approx(2 * float(L.MeanSquaredError()(*REAL)))


def test_ranks_that_differ_by_a_last_axis_are_squeezed():
    y_true, y_pred = np.array([0.0, 1.0, 2.0]), np.array([[1.0], [1.0], [1.0]])
    assert float(L.MeanSquaredError()(y_true, y_pred)) == pytest.approx(2 / 3)
    assert float(L.MeanSquaredError()(constant(y_pred), constant(y_true))) == pytest.approx(2 / 3)


def test_float16_sums_do_not_overflow():
    y_pred = np.full((3000, 1), 60.0, np.float16)
    assert float(L.MeanSquaredError()(np.zeros_like(y_pred), y_pred)) == 3600.0


def test_wrong_weight_shape():
    with pytest.raises(
        ValueError, match=r"sample_weight of shape \(3,\) does not fit values of shape \(4,\)"
    ):
        L.MeanSquaredError()(np.zeros((4, 2)), np.zeros((4, 2)), sample_weight=np.ones(3))


def test_reduction_under_a_strategy():
    strategy = VirtualStrategy(2)
    y = np.ones((4, 1)), np.zeros((4, 1))
    automatic = [L.MeanSquaredError(), L.MeanSquaredError(reduction="sum_over_batch_size")]
    with strategy.scope():
        for loss in automatic:
            with pytest.raises(ValueError, match=r"Please use Reduction\.SUM or Reduction\.NONE"):
                loss(*y)
        assert float(L.MeanSquaredError(reduction=L.Reduction.SUM)(*y)) == 4.0
        assert L.MeanSquaredError(reduction=L.Reduction.NONE)(*y).shape == (4,)
        assert np.asarray(L.mse(*y)).tolist() == [1.0] * 4
        assert automatic[0].sum_and_count(*y)[1] == 4
        made_inside = L.MeanAbsoluteError()

    def fn():
        with pytest.raises(ValueError, match="outside of the built-in training loops"):
            automatic[0](*y)

    strategy.run(fn)
    assert float(made_inside(*y)) == float(automatic[0](*y)) == 1.0


def test_unknown_reduction():
    with pytest.raises(ValueError, match="Invalid Reduction Key 'mean'"):
        L.MeanSquaredError(reduction="mean")
    assert L.Reduction.all() == ("auto", "none", "sum", "sum_over_batch_size")
