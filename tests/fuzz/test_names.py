"""Names and configs: each leads to a registered object or to an error, never to a module or a file."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import MISUSE, attempt, fuzz, watched
from strategies import hostile_names, mutated, names, rubbish

from distopt import aggregators, keras, optimizers
from distopt.optimizers import schedules

REGISTRIES = {
    "optimizers": (
        optimizers,
        optimizers.SGD(schedules.ExponentialDecay(0.1, 10, 0.5), momentum=0.5, clipnorm=1.0),
    ),
    "schedules": (schedules, schedules.CosineDecay(0.1, 10)),
    "aggregators": (aggregators, aggregators.chain("mean", "sum")),
    "losses": (keras.losses, keras.losses.Huber(0.5)),
    "metrics": (keras.metrics, keras.metrics.AUC()),
    "activations": (keras.activations, keras.activations.relu),
    "initializers": (keras.initializers, keras.initializers.RandomNormal(seed=1)),
    "regularizers": (keras.regularizers, keras.regularizers.L1L2(0.1, 0.2)),
    "constraints": (keras.constraints, keras.constraints.MinMaxNorm(0.1, 2.0)),
}


@st.composite
def configs(draw, module, thing):
    """Names, and configs of which something is changed."""
    config = module.serialize(thing)
    wrong = draw(
        st.one_of(
            names,
            hostile_names.map(lambda name: {"class_name": name, "config": {}}),
            st.builds(lambda name, config: {"class_name": name, "config": config}, hostile_names, rubbish),
            mutated(config) if isinstance(config, dict) else rubbish,
            rubbish,
        )
    )
    return wrong


@pytest.mark.parametrize("registry", REGISTRIES)
@fuzz(60)
@given(data=st.data())
def test_registries(registry, data):
    module, thing = REGISTRIES[registry]
    config = data.draw(configs(module, thing))
    made = [name for name in ("get", "deserialize") if hasattr(module, name)]
    allowed = (*MISUSE, KeyError) if registry == "optimizers" else MISUSE
    with watched():
        found = attempt(lambda: getattr(module, data.draw(st.sampled_from(made)))(config), *allowed)
    assert not isinstance(found, type(sys))
    assert "canary_module" not in sys.modules


CLASSES = [
    *(
        optimizers.Adam(0.1),
        schedules.PiecewiseConstantDecay([1, 2], [1.0, 0.5, 0.1]),
        keras.losses.Huber(0.5),
    ),
    *(keras.metrics.AUC(), keras.initializers.VarianceScaling(), keras.constraints.MaxNorm(1.0)),
    *(keras.regularizers.L1L2(0.1, 0.2),),
]


@pytest.mark.parametrize("thing", CLASSES, ids=lambda thing: type(thing).__name__)
@fuzz(25)
@given(data=st.data())
def test_from_config(thing, data):
    config = data.draw(st.one_of(mutated(thing.get_config()), rubbish))
    with watched():
        attempt(lambda: type(thing).from_config(config), *MISUSE)
