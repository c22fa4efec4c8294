"""Update rules run beside the optimizers of PyTorch, on the same gradients."""

import numpy as np

from distopt.engine import kernels

#: Of the largest value of an array.
TOLERANCES = {np.dtype("f4"): 1e-5, np.dtype("f8"): 1e-12}


class Parameter:
    """A parameter that a rule updates: its array, its slots and its scalars."""

    def __init__(self, update, value):
        self.update, self.value = update, value.copy()
        self.slots, self.scalars = {}, dict(update.scalars)

    def step(self, group, gradient, indices=None):
        """One step; with ``indices`` the gradient holds rows of a sparse one."""
        rule = self.update.rule(group)
        for name in rule.slots:
            if name not in self.slots:
                self.slots[name] = np.full_like(self.value, self.update.initial(group, name))
        self.scalars = self.update.advanced(group, self.scalars)
        found = self.update.coefficients(group, self.scalars)
        assert set(found) == set(rule.coefficients)
        coefficients = tuple(self.value.dtype.type(found[name]) for name in rule.coefficients)
        slots = [self.slots[name] for name in rule.slots]
        if indices is None:
            flat = tuple(s.reshape(-1) for s in slots)
            kernels.dense(rule, self.value.reshape(-1), gradient.reshape(-1), flat, coefficients)
        else:
            kernels.sparse(rule, self.value, gradient, indices, tuple(slots), coefficients)

    def state(self):
        """What PyTorch keeps in ``optimizer.state[parameter]``."""
        shown = {name: x for name, x in self.scalars.items() if name not in self.update.internal}
        return {**self.slots, **shown}


def gradients(shape, dtype, steps, seed=0):
    """Gradients of both signs, whose size changes a hundredfold from step to step."""
    rng = np.random.default_rng(seed)
    for size in 10 ** rng.uniform(-1, 1, steps):
        yield (size * rng.normal(size=shape)).astype(dtype)


def assert_same(parameter, theirs, optimizer):
    """Compares the parameter and all of its state with a tensor and its optimizer's."""
    state = {name: x for name, x in optimizer.state[theirs].items() if x is not None}
    own = parameter.state()
    assert own.keys() == state.keys()
    assert_close(parameter.value, theirs.detach().numpy(), "parameter")
    for name, want in state.items():
        if isinstance(own[name], np.ndarray):
            assert_close(own[name], want.numpy(), name)
        else:
            assert own[name] == float(want), name


def assert_close(got, want, name):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want), err_msg=name)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=name)
    error = np.abs(got[finite] - want[finite]).max(initial=0)
    assert error <= TOLERANCES[got.dtype] * np.abs(want[finite]).max(initial=0), name
