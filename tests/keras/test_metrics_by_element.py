"""Metrics with a state for each element: MeanTensor, and AUC of several labels."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import distopt.keras.metrics as M
from distopt.distribute import VirtualStrategy, get_replica_context

RNG = np.random.default_rng(2)
TRUE = RNG.integers(0, 2, size=(80, 3)).astype("f4")
PRED = np.clip(0.3 * TRUE + RNG.uniform(0, 0.7, size=TRUE.shape), 0, 1).astype("f4")
SAMPLES = RNG.uniform(0, 2, size=80)


@pytest.mark.parametrize("weights", [None, SAMPLES])
@pytest.mark.parametrize("label_weights", [None, [1.0, 0.0, 3.0]])
def test_auc_of_labels_is_the_mean_of_scikit_learns(weights, label_weights):
    metric = M.AUC(20001, multi_label=True, label_weights=label_weights)
    areas = [roc_auc_score(TRUE[:, i], PRED[:, i], sample_weight=weights) for i in range(3)]
    want = np.average(areas, weights=label_weights)
    assert float(metric(TRUE, PRED, sample_weight=weights)) == pytest.approx(want, abs=1e-4)


def test_pr_curves_of_labels():
    metric = M.AUC(20001, "PR", multi_label=True)
    want = np.mean([average_precision_score(TRUE[:, i], PRED[:, i]) for i in range(3)])
    assert float(metric(TRUE, PRED)) == pytest.approx(want, abs=0.02)
    alone = [float(M.AUC(20001, "PR")(TRUE[:, i], PRED[:, i])) for i in range(3)]
    assert float(metric.result()) == pytest.approx(np.mean(alone), rel=1e-6)


def test_label_weights_of_one_curve_weigh_its_elements():
    weights = np.array([0.5, 2.0, 1.0])
    want = roc_auc_score(TRUE.ravel(), PRED.ravel(), sample_weight=np.tile(weights, len(TRUE)))
    got = M.AUC(20001, label_weights=weights)(TRUE, PRED)
    assert float(got) == pytest.approx(want, abs=1e-4)


def test_mean_tensor_of_the_keras_documentation():
    # tf.keras.metrics.MeanTensor
    m = M.MeanTensor()
    m.update_state([0, 1, 2, 3])
    m.update_state([4, 5, 6, 7])
    assert m.result().numpy().tolist() == [2, 3, 4, 5]
    m.update_state([12, 10, 8, 6], sample_weight=[0, 0.2, 0.5, 1])
    assert m.result().numpy() == pytest.approx([2, 3.6363635, 4.8, 5.3333335], rel=1e-6)
    m.reset_state()
    m.update_state([1, 1, 1, 1], sample_weight=[0, 1, 1, 1])
    assert m.result().numpy().tolist() == [0, 1, 1, 1]


METRICS = {
    "auc": lambda: M.AUC(50, multi_label=True, label_weights=[1, 2, 3]),
    "one curve": lambda: M.AUC(50, label_weights=[1, 2, 3]),
    "mean tensor": M.MeanTensor,
}


def update(metric, rows):
    if isinstance(metric, M.MeanTensor):
        for row in PRED[rows]:
            metric.update_state(row)
    else:
        metric.update_state(TRUE[rows], PRED[rows])


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("name", METRICS)
def test_replicas_have_the_result_of_all_examples(name, replicas):
    alone = METRICS[name]()
    update(alone, slice(None))
    want = alone.result().numpy()

    def program(metric):
        metric = metric or METRICS[name]()
        update(metric, slice(get_replica_context().replica_id_in_sync_group, None, replicas))
        return metric.result().numpy().tolist()

    strategy = VirtualStrategy(replicas)
    with strategy.scope():
        shared = METRICS[name]()
    for metric in (None, shared):
        for result in strategy.experimental_local_results(strategy.run(lambda m=metric: repr(program(m)))):
            assert json.loads(result) == pytest.approx(want, rel=1e-6)
    assert shared.result().numpy() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_configs(name):
    metric = METRICS[name]()
    config = json.loads(json.dumps(M.serialize(metric)))
    assert M.serialize(M.deserialize(config)) == config


def test_errors():
    with pytest.raises(ValueError, match="does not have any result yet"):
        M.MeanTensor().result()
    m = M.MeanTensor(shape=(2,))
    with pytest.raises(ValueError, match=r"values of shape \(2,\); got shape \(3,\)"):
        m.update_state([1, 2, 3])
    assert m.result().numpy().tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"\[batch, labels\]; got shapes \(3,\)"):
        M.AUC(multi_label=True).update_state([1, 0, 1], [0.5, 0.1, 0.2])
    with pytest.raises(ValueError, match="2 label_weights do not fit 3 labels"):
        M.AUC(label_weights=[1, 2]).update_state(TRUE, PRED)
    with pytest.raises(ValueError, match="label_weights must be a list"):
        M.AUC(label_weights=[1, -2])
    metric = M.AUC(multi_label=True)
    metric.update_state(TRUE, PRED)
    with pytest.raises(ValueError, match="counts of 3 labels; got 2"):
        metric.update_state(TRUE[:, :2], PRED[:, :2])
    assert float(M.AUC(multi_label=True).result()) == 0
