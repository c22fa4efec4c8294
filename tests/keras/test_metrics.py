"""Metrics: values (scikit-learn's, hand-made), weights, batches, replicas, names, errors."""

import numpy as np
import pytest

import distopt.keras.losses as L
import distopt.keras.metrics as M
from distopt.autodiff import GradientTape
from distopt.core import Variable, constant
from distopt.distribute import VirtualStrategy, get_replica_context

RNG = np.random.default_rng(11)
N = 60
BINARY = RNG.integers(0, 2, size=(N, 1)).astype(np.float32)
SCORES = np.clip(0.25 * BINARY + RNG.uniform(0, 0.75, size=(N, 1)), 0, 1).astype(np.float32)
CLASSES = RNG.integers(0, 7, size=N)
ONE_HOT = np.eye(7, dtype=np.float32)[CLASSES]
LOGITS = (ONE_HOT + RNG.normal(size=(N, 7))).astype(np.float32)
SOFTMAX = (np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)).astype(np.float32)
REAL = RNG.normal(size=(N, 3)).astype(np.float32), RNG.normal(size=(N, 3)).astype(np.float32)
WEIGHTS = RNG.uniform(0, 2, size=N)

#: Each metric with data that it is meant for.
EACH = [
    (M.Accuracy, (CLASSES, LOGITS.argmax(-1))),
    (M.BinaryAccuracy, (BINARY, SCORES)),
    (M.CategoricalAccuracy, (ONE_HOT, SOFTMAX)),
    (M.SparseCategoricalAccuracy, (CLASSES, SOFTMAX)),
    (M.TopKCategoricalAccuracy, (ONE_HOT, SOFTMAX)),
    (M.SparseTopKCategoricalAccuracy, (CLASSES, SOFTMAX)),
    (M.MeanSquaredError, REAL),
    (M.MeanAbsoluteError, REAL),
    (M.MeanAbsolutePercentageError, REAL),
    (M.MeanSquaredLogarithmicError, tuple(map(np.abs, REAL))),
    (M.RootMeanSquaredError, REAL),
    (M.LogCoshError, REAL),
    (M.CosineSimilarity, REAL),
    (M.Hinge, (BINARY, SCORES)),
    (M.SquaredHinge, (BINARY, SCORES)),
    (M.CategoricalHinge, (ONE_HOT, SOFTMAX)),
    (M.KLDivergence, (ONE_HOT, SOFTMAX)),
    (M.Poisson, tuple(map(np.abs, REAL))),
    (M.BinaryCrossentropy, (BINARY, SCORES)),
    (M.CategoricalCrossentropy, (ONE_HOT, SOFTMAX)),
    (M.SparseCategoricalCrossentropy, (CLASSES, SOFTMAX)),
    (M.Precision, (BINARY, SCORES)),
    (M.Recall, (BINARY, SCORES)),
    (M.TruePositives, (BINARY, SCORES)),
    (M.FalsePositives, (BINARY, SCORES)),
    (M.TrueNegatives, (BINARY, SCORES)),
    (M.FalseNegatives, (BINARY, SCORES)),
    (M.AUC, (BINARY, SCORES)),
]
IDS = [cls.__name__ for cls, _ in EACH]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("cls", "data"), EACH, ids=IDS)
def test_batches_of_any_size_give_the_value_of_the_whole(cls, data, weighted):
    whole, parts = cls(), cls()
    want = whole(*data, sample_weight=WEIGHTS if weighted else None)
    for chunk in (slice(0, 1), slice(1, 32), slice(32, N)):
        y_true, y_pred = (constant(d[chunk]) for d in data)
        parts.update_state(y_true, y_pred, sample_weight=WEIGHTS[chunk] if weighted else None)
    assert want.dtype == np.float32
    assert float(want) != 0
    assert float(parts.result()) == pytest.approx(float(want), rel=1e-6)
    parts.reset_state()
    assert all(not v.numpy().any() for v in parts.weights)
    parts.update_state(*data, sample_weight=WEIGHTS if weighted else None)
    assert float(parts.result()) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("replicas", [2, 4])
@pytest.mark.parametrize(("cls", "data"), EACH, ids=IDS)
def test_uneven_shares_of_replicas_give_the_value_of_the_whole(cls, data, replicas):
    want = float(cls()(*data, sample_weight=WEIGHTS))
    bounds = [0, *np.linspace(3, N, replicas).astype(int)]

    def fn():
        i = get_replica_context().replica_id_in_sync_group
        mine = slice(bounds[i], bounds[i + 1])
        metric = cls()
        own = metric.weights[0].numpy()
        metric.update_state(data[0][mine], data[1][mine], sample_weight=WEIGHTS[mine])
        own = [v.numpy() for v in metric.weights]
        first, second = float(metric.result()), float(M.results([metric])[0])
        assert all(np.array_equal(v.numpy(), o) for v, o in zip(metric.weights, own, strict=True))
        return constant(np.array([first, second]))

    got = VirtualStrategy(replicas).run(fn)
    for pair in got.values:
        np.testing.assert_allclose(pair.numpy(), want, rtol=1e-6)


def test_a_replica_without_data_takes_part():
    def fn():
        metric = M.Mean()
        if get_replica_context().replica_id_in_sync_group == 1:
            metric.update_state([2.0, 4.0])
        return constant(float(metric.result()))

    assert [float(v) for v in VirtualStrategy(3).run(fn).values] == [3.0, 3.0, 3.0]


class Largest(M.Metric):
    """A user's metric: the share of predictions above 1 and how many there were."""

    def __init__(self, name="largest", dtype=None):
        super().__init__(name, dtype)
        self.above = self.add_weight(name="above", initializer="zeros")
        self.seen = self.add_weight(name="seen", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.above.assign_add(np.sum(np.asarray(y_pred) > 1))
        self.seen.assign_add(np.size(y_pred))

    def result(self):
        return self.above / self.seen

    def reset_states(self):
        for v in self.variables:
            v.assign(v * 0)


def test_user_metric():
    def fn():
        metric = Largest()
        if get_replica_context().replica_id_in_sync_group == 0:
            metric.update_state(None, [2.0])
        else:
            metric.update_state(None, [0.0, 0.0, 0.0])
        first = float(metric.result())
        metric.reset_state()
        return constant([first, float(metric.above)])

    assert [v.numpy().tolist() for v in VirtualStrategy(2).run(fn).values] == [[0.25, 0.0]] * 2


# -- values
def test_accuracies():
    sk = pytest.importorskip("sklearn.metrics")
    right = SOFTMAX.argmax(-1) == CLASSES
    assert float(M.CategoricalAccuracy()(ONE_HOT, SOFTMAX)) == pytest.approx(right.mean())
    assert float(M.SparseCategoricalAccuracy()(CLASSES[:, None], SOFTMAX)) == pytest.approx(right.mean())
    got = M.SparseCategoricalAccuracy()(CLASSES, SOFTMAX, sample_weight=WEIGHTS)
    assert float(got) == pytest.approx((right * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-6)
    got = M.BinaryAccuracy(threshold=0.3)(BINARY, SCORES)
    assert float(got) == pytest.approx(sk.accuracy_score(BINARY, SCORES > 0.3))
    for k in (1, 3):
        want = sk.top_k_accuracy_score(CLASSES, SOFTMAX, k=k, labels=range(7))
        assert float(M.TopKCategoricalAccuracy(k)(ONE_HOT, SOFTMAX)) == pytest.approx(want)
        assert float(M.SparseTopKCategoricalAccuracy(k)(CLASSES, SOFTMAX)) == pytest.approx(want)


def test_top_k_ties_count():
    got = M.sparse_top_k_categorical_accuracy([0, 1, 2], np.zeros((3, 3)), k=1)
    assert got.tolist() == [1.0, 1.0, 1.0]
    got = M.sparse_top_k_categorical_accuracy([0, 1], np.array([[np.nan, 0.0], [0.0, np.inf]]), k=2)
    assert got.tolist() == [0.0, 0.0]


def test_precision_and_recall():
    sk = pytest.importorskip("sklearn.metrics")
    for weights in (None, WEIGHTS):
        for threshold in (None, 0.3, 0.62):
            predicted = (threshold or 0.5) < SCORES
            got = M.Precision(threshold)(BINARY, SCORES, sample_weight=weights)
            assert float(got) == pytest.approx(sk.precision_score(BINARY, predicted, sample_weight=weights))
            got = M.Recall(threshold)(BINARY, SCORES, sample_weight=weights)
            assert float(got) == pytest.approx(sk.recall_score(BINARY, predicted, sample_weight=weights))
    got = M.Recall([0.7, 0.2])(BINARY, SCORES)
    want = [sk.recall_score(BINARY, t < SCORES) for t in (0.7, 0.2)]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    counts = [float(m()(BINARY, SCORES)) for m in (M.TrueNegatives, M.FalsePositives)]
    counts += [float(m()(BINARY, SCORES)) for m in (M.FalseNegatives, M.TruePositives)]
    assert counts == sk.confusion_matrix(BINARY, SCORES > 0.5).reshape(-1).tolist()


def test_precision_without_positives_is_zero():
    assert float(M.Precision()(np.ones((3, 1)), np.zeros((3, 1)))) == 0.0
    assert float(M.Recall()(np.zeros((3, 1)), np.ones((3, 1)))) == 0.0
    assert float(M.Precision().result()) == 0.0


def test_precision_of_top_k_and_of_a_class():
    y_true = np.array([[0, 1, 1], [1, 0, 0]])
    y_pred = np.array([[0.1, 0.3, 0.2], [0.2, 0.5, 0.05]])
    assert float(M.Precision(top_k=1)(y_true, y_pred)) == 0.5
    assert float(M.Recall(top_k=2)(y_true, y_pred)) == 1.0
    assert float(M.Precision(class_id=1)(y_true, y_pred)) == 0.0
    assert float(M.Precision(thresholds=0.25, class_id=1)(y_true, y_pred)) == 0.5


def test_auc_is_near_the_exact_one():
    sk = pytest.importorskip("sklearn.metrics")
    for weights in (None, WEIGHTS):
        got = M.AUC(num_thresholds=20001)(BINARY, SCORES, sample_weight=weights)
        want = sk.roc_auc_score(BINARY[:, 0], SCORES[:, 0], sample_weight=weights)
        assert float(got) == pytest.approx(want, abs=1e-6)
        p, r, _ = sk.precision_recall_curve(BINARY[:, 0], SCORES[:, 0], sample_weight=weights)
        p[-1] = 0.0  # at recall 0 nothing is predicted, and Keras calls that precision 0
        for method, pick in (("minoring", np.minimum), ("majoring", np.maximum)):
            got = M.AUC(20001, "PR", method)(BINARY, SCORES, sample_weight=weights)
            assert float(got) == pytest.approx(np.sum((r[:-1] - r[1:]) * pick(p[:-1], p[1:])), abs=1e-6)


def test_auc_of_the_keras_documentation():
    # tf.keras.metrics.AUC: threshold values [0 - 1e-7, 0.5, 1 + 1e-7]
    y_true, y_pred = [0, 0, 1, 1], [0, 0.5, 0.3, 0.9]
    m = M.AUC(num_thresholds=3)
    assert float(m(y_true, y_pred)) == 0.75
    assert m.true_positives.numpy().tolist() == [2.0, 1.0, 0.0]
    assert m.false_positives.numpy().tolist() == [2.0, 0.0, 0.0]
    assert m.thresholds == pytest.approx([-1e-7, 0.5, 1 + 1e-7])
    m.reset_state()
    assert float(m(y_true, y_pred, sample_weight=[1, 0, 0, 1])) == 1.0


def test_auc_bounds_and_thresholds():
    low, mid, high = (
        float(M.AUC(10, curve, method)(BINARY, SCORES))
        for curve, method in (("ROC", "minoring"), ("ROC", "interpolation"), ("ROC", "majoring"))
    )
    assert low < mid < high
    pr = [float(M.AUC(50, "PR", m)(BINARY, SCORES)) for m in ("minoring", "interpolation", "majoring")]
    assert pr[0] <= pr[1] <= pr[2]
    m = M.AUC(thresholds=[0.6, 0.2])
    assert m.thresholds == pytest.approx([-1e-7, 0.2, 0.6, 1 + 1e-7])
    again = M.deserialize(M.serialize(m))
    assert again.thresholds == m.thresholds


def test_errors_are_means_over_all_elements():
    t, p = (d.astype(np.float64) for d in REAL)
    assert float(M.MeanSquaredError()(t, p)) == pytest.approx(np.mean((t - p) ** 2))
    assert float(M.RootMeanSquaredError()(t, p)) == pytest.approx(np.sqrt(np.mean((t - p) ** 2)))
    want = np.sqrt(np.sum((t - p) ** 2 * WEIGHTS[:, None]) / (3 * WEIGHTS.sum()))
    assert float(M.RootMeanSquaredError()(t, p, sample_weight=WEIGHTS)) == pytest.approx(want)
    assert float(M.CosineSimilarity()(t, p)) == pytest.approx(-float(L.CosineSimilarity()(t, p)))


def test_mean_and_sum():
    m = M.Mean()
    assert float(m.result()) == 0.0
    m.update_state([1.0, 3.0, 5.0, 7.0], sample_weight=[1, 1, 0, 0])
    assert float(m.result()) == 2.0
    m.update_state(Variable([[4.0], [4.0]]))
    assert float(m.result()) == 3.0
    assert float(M.Sum()([1.0, 2.0], sample_weight=2.0)) == 6.0


def test_inside_a_tape():
    y_pred = Variable(SOFTMAX)
    metric, error = M.CategoricalAccuracy(), M.CategoricalCrossentropy()
    with GradientTape() as tape:
        doubled = y_pred * 1
        metric.update_state(ONE_HOT, doubled)
        error.update_state(ONE_HOT, doubled)
        value = L.CategoricalCrossentropy()(ONE_HOT, doubled)
    assert float(error.result()) == pytest.approx(float(value), rel=1e-6)
    assert float(metric.result()) == float(M.CategoricalAccuracy()(ONE_HOT, SOFTMAX))
    assert tape.gradient(value, y_pred).shape == SOFTMAX.shape


def test_many_small_values_do_not_drift():
    m = M.Mean()
    for _ in range(20):
        m.update_state(np.full(100_000, 0.1, np.float32))
    assert float(m.total) == pytest.approx(2_000_000 * float(np.float32(0.1)), rel=1e-12)


# -- names
@pytest.mark.parametrize(
    ("y_true", "y_pred", "fn"),
    [
        ((8, 1), (8, 1), M.binary_accuracy),
        ((8, 1), (8, 5), M.sparse_categorical_accuracy),
        ((8,), (8, 5), M.sparse_categorical_accuracy),
        ((8, 5), (8, 5), M.categorical_accuracy),
        ((8, 3), (8, 3, 5), M.sparse_categorical_accuracy),
    ],
)
def test_accuracy_by_shape(y_true, y_pred, fn):
    for name in ("accuracy", "acc"):
        metric = M.for_model(name, y_true, y_pred)
        assert metric.name == name
        assert metric._fn is fn
    assert "crossentropy" in M.for_model("ce", y_true, y_pred)._fn.__name__


def test_for_model_names():
    shapes = (8, 1), (8, 1)
    assert M.for_model("mse", *shapes).name == "mse"
    assert M.for_model("AUC", *shapes).name == "auc"
    assert M.for_model("huber", *shapes).name == "huber"
    assert M.for_model(M.Precision, *shapes).name == "precision"
    assert M.for_model(M.RootMeanSquaredError(name="rmse"), *shapes).name == "rmse"
    assert M.for_model(L.mean_squared_error, *shapes).name == "mean_squared_error"
    assert M.for_model(L.Huber(), *shapes).name == "huber_loss"
    assert float(M.for_model(L.Huber(), *shapes)([[0.0]], [[3.0]])) == 2.5

    def mine(y_true, y_pred):
        return np.abs(y_true - y_pred)[:, 0]

    metric = M.for_model(mine, *shapes)
    assert metric.name == "mine"
    assert float(metric(np.ones((2, 1)), np.zeros((2, 1)))) == 1.0


@pytest.mark.parametrize(("cls", "data"), EACH, ids=IDS)
def test_config(cls, data):
    metric = cls(name="mine", dtype="float64")
    again = M.deserialize(M.serialize(metric))
    assert type(again) is cls
    assert again.get_config() == metric.get_config()
    assert again(*data).dtype == np.float64
    assert isinstance(M.get(cls.__name__), cls)


def test_names_of_keras():
    assert [cls().name for cls in (M.AUC, M.Precision, M.TruePositives, M.KLDivergence, M.LogCoshError)] == [
        "auc",
        "precision",
        "true_positives",
        "kullback_leibler_divergence",
        "logcosh",
    ]


# -- errors
def test_errors():
    with pytest.raises(ValueError, match="Unknown metric function: precison"):
        M.get("precison")
    with pytest.raises(ValueError, match="Could not interpret"):
        M.get(3)
    with pytest.raises(ValueError, match=r"between 0 and 1.*For logits apply the activation"):
        M.Precision().update_state([1.0], [1.5])
    with pytest.raises(ValueError, match="thresholds must be between 0 and 1"):
        M.Recall(thresholds=[0.5, 2])
    with pytest.raises(ValueError, match=r"does not fit y_pred of shape \(3,\)"):
        M.AUC().update_state([1.0, 0.0], [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="curve must be"):
        M.AUC(curve="roc")
    with pytest.raises(ValueError, match="summation_method must be"):
        M.AUC(summation_method="mean")
    with pytest.raises(ValueError, match="at least 2"):
        M.AUC(num_thresholds=1)
    with pytest.raises(ValueError, match="sample_weight of shape"):
        M.Mean().update_state([1.0, 2.0], sample_weight=[1.0, 2.0, 3.0])


def test_failed_update_changes_nothing():
    m = M.Precision()
    m.update_state([1.0], [0.9])
    with pytest.raises(ValueError, match="between 0 and 1"):
        m.update_state([1.0, 0.0], [0.9, -0.1])
    assert float(m.result()) == 1.0
    assert float(m.true_positives[0]) == 1.0
