"""Learning rate schedulers and averages of PyTorch work with optimizers over replicas."""

import pytest

torch = pytest.importorskip("torch")

from tests.pytorch.same_program import assert_same, kept, loss, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch
lr = torch.optim.lr_scheduler

SCHEDULERS = {
    "StepLR": lambda o: lr.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr.MultiStepLR(o, [2, 5], 0.1),
    "ConstantLR": lambda o: lr.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr.LinearLR(o, 0.1, 1.0, 5),
    "ExponentialLR": lambda o: lr.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 3, 2),
    "LambdaLR": lambda o: lr.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda o: lr.MultiplicativeLR(o, lambda e: 0.95),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.001, 0.1, 3, base_momentum=0.5, max_momentum=0.9),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.1, total_steps=12),
    "SequentialLR": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1.0, 3), lr.ExponentialLR(o, 0.8)], [3]
    ),
    "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.5, 3), lr.ExponentialLR(o, 0.8)]),
}


def two_groups(model):
    return [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.03}]


def test_every_scheduler_is_tried():
    kinds = {
        name
        for name in lr.__all__
        if name not in ("LRScheduler", "ReduceLROnPlateau") and hasattr(torch.optim.lr_scheduler, name)
    }
    assert SCHEDULERS.keys() == kinds


@pytest.mark.parametrize(
    ("rule", "name"), [*(("SGD", name) for name in SCHEDULERS), ("Adam", "CyclicLR"), ("Adam", "OneCycleLR")]
)
def test_a_scheduler(name, rule):
    """Adam's first beta is the momentum that schedulers cycle."""

    def program(side):
        model = mlp()
        options = {"lr": 0.05, "momentum": 0.9} if rule == "SGD" else {"lr": 0.02}
        optimizer = getattr(side.optim, rule)(two_groups(model), **options)
        scheduler = SCHEDULERS[name](optimizer)
        rates = []
        for step in range(10):
            train(model, optimizer, side, [step])
            rates.append(scheduler.get_last_lr())
            scheduler.step()
        return [rates, *kept(model, optimizer)]

    assert_same(program, sizes=(2,))


def test_reduce_on_plateau_sees_the_loss_of_the_program():
    def program(side):
        model = mlp()
        optimizer = side.optim.SGD(two_groups(model), lr=0.5)
        scheduler = lr.ReduceLROnPlateau(optimizer, factor=0.3, patience=1, min_lr=[0.001, 0.01])
        for step in range(12):
            train(model, optimizer, side, [step % 2])
            scheduler.step(1.0 if step % 5 else 0.5 / (step + 1))
        assert optimizer.param_groups[0]["lr"] < 0.1
        return kept(model, optimizer, scheduler)

    assert_same(program, sizes=(1, 2))


def test_a_scheduler_goes_on_after_a_checkpoint():
    def program(side):
        model = mlp()

        def made():
            optimizer = side.optim.AdamW(model.parameters(), lr=0.1)
            return optimizer, lr.OneCycleLR(optimizer, 0.1, total_steps=20)

        saved = None
        for begin in (0, 6):
            optimizer, scheduler = made()
            if saved is not None:
                optimizer.load_state_dict(saved[0])
                scheduler.load_state_dict(saved[1])
            for step in range(begin, begin + 6):
                train(model, optimizer, side, [step])
                scheduler.step()
            saved = kept(optimizer, scheduler)
        return kept(model, optimizer)

    assert_same(program, sizes=(1, 2))


def test_a_rate_that_is_a_tensor():
    def program(side):
        model = mlp()
        rate = torch.tensor(0.1)
        optimizer = side.optim.Adam(model.parameters(), lr=rate)
        scheduler = lr.ExponentialLR(optimizer, 0.5)
        train(model, optimizer, side, range(3))
        scheduler.step()
        train(model, optimizer, side, range(3, 6))
        optimizer.param_groups[0]["lr"].fill_(0.03)
        train(model, optimizer, side, range(6, 9))
        return kept(model, optimizer)

    assert_same(program)


def test_stochastic_weight_averaging():
    swa = torch.optim.swa_utils

    def program(side):
        model = mlp()
        average = swa.AveragedModel(model)
        moving = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
        optimizer = side.optim.SGD(model.parameters(), lr=0.1)
        scheduler = swa.SWALR(optimizer, anneal_epochs=2, swa_lr=0.02)
        for step in range(8):
            train(model, optimizer, side, [step])
            if step >= 3:
                average.update_parameters(model)
                moving.update_parameters(model)
                scheduler.step()
        return kept(model, average, moving, optimizer)

    assert_same(program)


def test_averaged_weights_are_trained_on():
    """The average is written into the model, and training goes on from there."""
    swa = torch.optim.swa_utils

    def program(side):
        model = mlp()
        average = swa.AveragedModel(model)
        optimizer = side.optim.Adam(model.parameters(), lr=0.1)
        for step in range(3):
            train(model, optimizer, side, [step])
            average.update_parameters(model)
        with torch.no_grad():
            for own, mean in zip(model.parameters(), average.module.parameters(), strict=True):
                own.copy_(mean)
        value = loss(model, side, 0)
        train(model, optimizer, side, range(3, 6))
        assert value.isfinite()
        return kept(model, optimizer)

    assert_same(program)
