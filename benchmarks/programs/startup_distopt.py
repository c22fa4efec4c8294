"""A small program under ``distoptrun``: one step, and when it was finished."""

import sys
import time
from pathlib import Path

import numpy as np

import distopt as tf

variables = [tf.Variable(np.zeros((64, 64), np.float32)), tf.Variable(np.zeros(64, np.float32))]
gradients = [np.ones(variable.shape, np.float32) for variable in variables]
tf.optimizers.Adam().apply_gradients(zip(gradients, variables, strict=True))

finished = time.time()
if tf.distribute.get_replica_context().replica_id_in_sync_group == 0:
    Path(sys.argv[1]).write_text(repr(finished))
