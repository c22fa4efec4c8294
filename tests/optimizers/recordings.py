"""The recordings of the real optimizers in tests/golden, and how to replay one."""

import json
from pathlib import Path

import numpy as np

import distopt
from distopt.keras import constraints
from distopt.optimizers import schedules

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = {"float16": (2e-3, 2e-3), "float32": (2e-5, 2e-6), "float64": (1e-12, 1e-13)}
_BUFFERS = dict(np.load(GOLDEN / "arrays.npz"))


def load(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())[name]


def array(reference):
    """The array that ``[buffer, offset, shape]`` stands for."""
    buffer, offset, shape = reference
    return _BUFFERS[buffer][offset : offset + int(np.prod(shape))].reshape(shape).copy()


class Clock:
    step = 0


def hyper(value, clock):
    if isinstance(value, dict) and "class" in value:
        return getattr(schedules, value["class"])(**value["config"])
    if isinstance(value, dict) and "callable" in value:
        values = value["callable"]
        return lambda: values[min(clock.step, len(values) - 1)]
    return value


def transformer(name):
    functions = {
        "scale_half": lambda g, v: g * g.dtype.type(0.5),
        "sign": lambda g, v: np.sign(g),
        "add_weight_decay": lambda g, v: g + v.dtype.type(0.01) * v,
    }

    def change(g, v):
        if isinstance(g, distopt.IndexedSlices):
            values = functions[name](np.asarray(g.values), v)
            return distopt.IndexedSlices(distopt.convert_to_tensor(values), g.indices, g.dense_shape)
        return functions[name](g, v)

    return lambda pairs: [(change(g, v), v) for g, v in pairs]


def constraint(entry):
    if entry is None:
        return None
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["config"].items()}
    return getattr(constraints, entry["name"])(**config)


def gradient(entry):
    if entry is None:
        return None
    if "dense" in entry:
        return distopt.convert_to_tensor(array(entry["dense"]))
    return distopt.IndexedSlices(
        distopt.convert_to_tensor(array(entry["values"])),
        distopt.convert_to_tensor(array(entry["indices"])),
        tuple(entry["dense_shape"]),
    )


def replay(case, part=lambda g, v: g):
    """Runs a case; ``part`` chooses this replica's part of each gradient."""
    clock = Clock()
    kwargs = {k: hyper(v, clock) for k, v in case["kwargs"].items()}
    if case["gradient_transformers"]:
        kwargs["gradient_transformers"] = [transformer(t) for t in case["gradient_transformers"]]
    variables = [
        distopt.Variable(array(v["init"]), name=v["name"], constraint=constraint(v["constraint"]))
        for v in case["variables"]
    ]
    optimizer = getattr(distopt.optimizers, case["optimizer"])(**kwargs)
    after = []
    for t, step in enumerate(case["steps"]):
        for event in case["events"]:
            if event["after_step"] == t:
                if event["set"] == "iterations":
                    optimizer.iterations.assign(event["value"])
                else:
                    setattr(optimizer, event["set"], hyper(event["value"], clock))
        clock.step = t
        gradients = [gradient(g) for g in step["grads"]]
        optimizer.apply_gradients([(g if g is None else part(g, v), v) for g, v in zip(gradients, variables)])
        after.append([v.numpy() for v in variables])
    return optimizer, after


def difference(got, reference):
    """What is wrong with ``got``, in words; empty if it is as recorded."""
    want, got = array(reference), np.asarray(got)
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    if want.dtype.kind != "f":
        return "" if (got == want).all() else f"{got}, expected {want}"
    rtol, atol = TOLERANCE[want.dtype.name]
    a, b = got.astype("f8"), want.astype("f8")
    if np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    return f"off by {np.nanmax(np.abs(a - b)):.3g}: {got}, expected {want}"


def differences(after, weights, want_after, want_weights):
    found = [
        f"variable {j} after step {t + 1}: {words}"
        for t, (row, references) in enumerate(zip(after, want_after))
        for j, (x, reference) in enumerate(zip(row, references))
        if (words := difference(x, reference))
    ]
    if len(weights) != len(want_weights):
        return [*found, f"{len(weights)} weights, expected {len(want_weights)}"]
    return found + [
        f"weight {i}: {words}"
        for i, (x, reference) in enumerate(zip(weights, want_weights))
        if (words := difference(x, reference))
    ]


def mismatches(case, optimizer, after):
    """What of a replayed case is not as recorded."""
    expected = case["expected"]
    weights = optimizer.get_weights()
    found = differences(after, weights, [s["after"] for s in case["steps"]], expected["weights"])
    if found and case.get("accept") == "either":
        other = case["alternative"]
        if not differences(after, weights, other["after"], other["weights"]):
            found = []
    return found
