"""What optimizers keep beside their slots comes back: averages, schedule-free weights, scales of losses."""

import numpy as np
import pytest
from replicated import on_replicas

from distopt import Variable
from distopt.checkpoint import CheckpointManager
from distopt.optimizers import SGD, Adam, LossScaleOptimizer, ScheduleFree


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(0.125, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
        lambda: ScheduleFree(SGD(0.125)),
        lambda: LossScaleOptimizer(SGD(0.125), 4.0, dynamic_growth_steps=3),
    ],
)
def test_averages_and_loss_scales_come_back(tmp_path, make):
    def train(directory, steps, save_at=None):
        w, optimizer = Variable(np.ones((4, 2), np.float32), name="w"), make()
        manager = CheckpointManager(directory, variables=[w], optimizer=optimizer)
        manager.restore()
        for step in range(int(optimizer.iterations), steps):
            optimizer.train()
            optimizer.apply_gradients([(np.full((4, 2), step + 1.0, np.float32), w)])
            if step == save_at:
                optimizer.eval()
                manager.save()
                return None
        return [v.numpy().tobytes() for v in [w, *optimizer.weights]]

    whole = on_replicas(2, lambda: train(tmp_path / "none", 7))
    on_replicas(2, lambda: train(tmp_path / "parts", 7, save_at=3))
    again = on_replicas(2, lambda: train(tmp_path / "parts", 7))
    for mine, theirs in zip(again[0], whole[0], strict=True):
        a, b = (np.frombuffer(x, np.float32 if len(x) != 8 else np.int64) for x in (mine, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-6)  # ScheduleFree works y out of x and z
    assert again[0] == again[1]
