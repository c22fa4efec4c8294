"""The pipeline in words."""

from distopt.distribute import VirtualStrategy
from distopt.optimizers import SGD, Adam, schedules


def halve(pairs):
    return [(g / 2, v) for g, v in pairs]


def test_describe(capsys):
    opt = Adam(0.01, clipvalue=2, global_clipnorm=1.0, gradient_transformers=[halve])
    text = opt.describe()
    assert capsys.readouterr().out == text + "\n"
    assert text == (
        "sum over 1 replica -> clip value 2, clip global norm 1 -> halve -> "
        "Adam(learning_rate=0.01, decay=0, beta_1=0.9, beta_2=0.999, epsilon=1e-07, amsgrad=False)"
    )


def test_describe_tells_what_is_in_force_now():
    opt = SGD(schedules.ExponentialDecay(0.1, 1, 0.5), gradient_aggregator="mean")
    opt.momentum = 0.5
    with VirtualStrategy(4).scope():
        text = opt.describe()
    assert text == (
        "mean over 4 replicas -> SGD(learning_rate=ExponentialDecay, decay=0, momentum=0.5, nesterov=False)"
    )


def test_describe_of_functions():
    assert SGD(gradient_aggregator=halve).describe().startswith("halve over 1 replica -> SGD(")


def test_describe_tells_the_policy_for_what_is_not_finite():
    assert SGD(on_nonfinite="skip").describe().startswith("skip nonfinite -> sum over 1 replica -> SGD(")
