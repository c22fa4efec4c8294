"""Public classes, made of rubbish: an error that distopt meant to raise, or an object."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import MISUSE, attempt, fuzz
from strategies import rubbish

import distopt
from distopt import aggregators, keras, optimizers
from distopt.optimizers import schedules

#: Right values for arguments without default.
RIGHT = {
    "initial_value": 1.0,
    "initial_learning_rate": 0.1,
    "learning_rate": 0.1,
    "max_learning_rate": 0.1,
    "warmup_steps": 2,
    "stable_steps": 3,
    "total_steps": 10,
    "inner_optimizer": optimizers.SGD(),
    "decay_steps": 10,
    "first_decay_steps": 10,
    "decay_rate": 0.5,
    "boundaries": [1, 2],
    "values": [1.0, 0.5, 0.25],
    "units": 2,
    "filters": 2,
    "kernel_size": 2,
    "activation": "relu",
    "rate": 0.5,
    "input_dim": 3,
    "output_dim": 2,
    "target_shape": (2,),
    "shape": (2,),
    "fn": keras.losses.mse,
    "schedule": lambda epoch: 0.1,
    "backup_dir": "backup",
    "filename": "log.csv",
    "filepath": "weights.npz",
    "num_replicas": 2,
    "examples": 1,
    "value": 1.0,
    "indices": [0],
}
#: Keyword arguments that a class takes beside those of its signature.
MORE = {
    "optimizers": ("clipnorm", "clipvalue", "global_clipnorm", "decay", "lr", "gradient_aggregator"),
    "layers": ("name", "dtype", "trainable", "input_shape", "input_dim"),
}
ABSTRACT = (
    *(
        "Optimizer",
        "RuleOptimizer",
        "WholeVariableOptimizer",
        "LearningRateSchedule",
        "Aggregator",
        "WireAggregator",
        "Strategy",
        "ReplicaContext",
        "PerReplica",
    ),
    *(
        "MPIStrategy",
        "CallbackList",
        "ReduceOp",
        "Reduction",
        "VariableAggregation",
        "VariableSynchronization",
    ),
)
GROUPS = {
    "optimizers": optimizers,
    "schedules": schedules,
    "aggregators": aggregators,
    "initializers": keras.initializers,
    "regularizers": keras.regularizers,
    "constraints": keras.constraints,
    "layers": keras.layers,
    "losses": keras.losses,
    "metrics": keras.metrics,
    "callbacks": keras.callbacks,
}


def classes(module):
    found = [getattr(module, name) for name in module.__all__ if name not in ABSTRACT]
    return [cls for cls in dict.fromkeys(found) if inspect.isclass(cls)]


@st.composite
def made(draw, group, cls):
    """``(class, arguments)``, one or two of them rubbish."""
    signature = inspect.signature(cls).parameters.values()
    taken = [p for p in signature if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    arguments = {p.name: RIGHT[p.name] for p in taken if p.default is p.empty}
    known = [p.name for p in taken]
    if any(p.kind is p.VAR_KEYWORD for p in signature):
        known += MORE.get(group, ())
    for name in draw(st.lists(st.sampled_from([*known, "no_such_argument"]), min_size=1, max_size=2)):
        arguments[name] = draw(rubbish)
    return arguments


@pytest.mark.parametrize("group", GROUPS)
@fuzz(90)
@given(data=st.data())
def test_constructors(group, data):
    cls = data.draw(st.sampled_from(classes(GROUPS[group])))
    arguments = data.draw(made(group, cls))
    found = attempt(lambda: cls(**arguments), *MISUSE)
    if isinstance(found, cls):
        attempt(lambda: use(group, found, data.draw(rubbish)), *MISUSE)


def use(group, thing, value):
    """What is made is used at once, with a value that may be rubbish, too."""
    if hasattr(thing, "get_config"):
        thing.get_config()
    if group in ("schedules", "initializers"):
        thing(value)
    elif group == "optimizers":
        variable = distopt.Variable([1.0, 2.0])
        thing.apply_gradients([([1.0, 1.0], variable)])


@fuzz(120)
@given(data=st.data())
def test_variables_and_tensors(data):
    cls = data.draw(
        st.sampled_from([distopt.Variable, distopt.Tensor, distopt.constant, distopt.convert_to_tensor])
    )
    value = data.draw(rubbish)
    extra = data.draw(
        st.dictionaries(st.sampled_from(["dtype", "shape", "name", "trainable"]), rubbish, max_size=1)
    )
    attempt(lambda: cls(value, **extra), *MISUSE)


@fuzz(120)
@given(value=rubbish)
def test_assignments(value):
    variable = distopt.Variable([[1.0, 2.0, 3.0]])
    before = variable.numpy().tobytes()
    for call in (variable.assign, variable.assign_add, variable.assign_sub):
        if isinstance(attempt(lambda call=call: call(value), *MISUSE), Exception):
            assert variable.numpy().tobytes() == before
        before = variable.numpy().tobytes()
