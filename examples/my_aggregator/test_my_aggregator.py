"""How a plugin is tested: in one process, on 1, 2 and 4 replicas."""

import numpy as np
from my_aggregator import TrimmedMean

import distopt as tf
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.testing import check_aggregator


def test_conforms():
    assert check_aggregator(TrimmedMean()).passed


def test_one_wild_replica_does_not_count():
    def program():
        replica = get_replica_context().replica_id_in_sync_group
        v = tf.Variable([0.0])
        gradient = np.array([1e6 if replica == 2 else 1.0], np.float32)
        tf.optimizers.SGD(1.0, gradient_aggregator=TrimmedMean()).apply_gradients([(gradient, v)])
        return float(v[0])

    assert VirtualStrategy(4).run(program) == -1.0
