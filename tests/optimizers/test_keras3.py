"""The optimizers against recordings of Keras 3, see tests/golden/keras3."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden.keras3.record import problem

import distopt

FOLDER = Path(__file__).parent.parent / "golden" / "keras3"
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # of the largest value
CASES = sorted(path.stem for path in (FOLDER / "cases").glob("*.json"))
#: Each is compiled anew with weight decay; other tests show that it is a multiplication before the step.
SLOW = {name for name in CASES if "_decayed_" in name or name in ("lion_float64", "sgd_float64")}
cases = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]


@pytest.mark.parametrize("name", cases)
def test_values_after_the_last_step(name):
    case = json.loads((FOLDER / "cases" / f"{name}.json").read_text())
    recorded = json.loads((FOLDER / "recorded" / f"{name}.json").read_text())
    values, gradients = problem(case["dtype"], case["steps"])
    variables = {key: distopt.Variable(value, name=key) for key, value in values.items()}
    # As TensorFlow does, distopt keeps a Python number in float32, unlike Keras 3.
    exact = np.dtype(case["dtype"]).type
    kwargs = {key: exact(v) if isinstance(v, float) else v for key, v in case["kwargs"].items()}
    optimizer = getattr(distopt.optimizers, case["optimizer"])(**kwargs)
    if "excluded" in case:
        optimizer.exclude_from_weight_decay(var_names=case["excluded"])
    for each in gradients:
        optimizer.apply_gradients([(each[key], variable) for key, variable in variables.items()])
    for key, variable in variables.items():
        expected = np.array(recorded[key])
        bound = TOLERANCE[case["dtype"]] * np.abs(expected).max()
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=bound)
