"""The trimmed mean: of each element, the largest and the smallest values do not count.

A replica whose gradients are wild (broken data, a flipped bit) then cannot spoil the step.
Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018.
"""

import numpy as np

import distopt as tf
from distopt.aggregators import Aggregator
from distopt.distribute import get_replica_context


class TrimmedMean(Aggregator):
    """The mean over replicas without the ``trim`` largest and smallest values of each element.

    Args:
        trim: how many to leave out at either end; fewer where there are too few replicas.
    """

    def __init__(self, trim=1):
        if trim < 0:
            raise ValueError(f"TrimmedMean: trim must be 0 or more; got {trim}")
        self.trim = trim

    def __call__(self, grads_and_vars):
        return [(self._combine(gradient, variable), variable) for gradient, variable in grads_and_vars]

    def _combine(self, gradient, variable):
        context = get_replica_context()
        replicas = context.num_replicas_in_sync
        if gradient is None or replicas == 1:
            return gradient
        if isinstance(gradient, tf.IndexedSlices):  # a row that a replica does not have counts as zero
            gradient = gradient.to_dense(variable.shape)
        everyone = context.all_gather(np.asarray(gradient)[np.newaxis], axis=0)
        ordered = np.sort(np.asarray(everyone), axis=0)
        cut = min(self.trim, (replicas - 1) // 2)
        return np.asarray(np.mean(ordered[cut : replicas - cut], axis=0), variable.dtype)

    def get_config(self):
        return {"trim": self.trim}
