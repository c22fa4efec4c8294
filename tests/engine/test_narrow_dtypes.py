"""Rules on float16 and bfloat16: in float32 and rounded once, as PyTorch's fused optimizers do it."""

import sys

import numpy as np
import pytest

from distopt import Variable
from distopt.core.dtypes import arithmetic_dtype, is_narrow, kind_of
from distopt.engine import kernels
from distopt.engine.rule import Rule, Sparse
from distopt.errors import MissingExtra
from distopt.optimizers.adam import ADAM
from distopt.optimizers.rule_optimizer import RuleOptimizer

bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
float16 = np.dtype(np.float16)


def fused_adam(w, g, m, v, one_minus_beta_1, beta_2, one_minus_beta_2, size, root, epsilon):
    m = m + (g - m) * one_minus_beta_1
    v = v * beta_2 + one_minus_beta_2 * g * g
    return w - size * m / (np.sqrt(v) / root + epsilon), m, v


FUSED = Rule("fused_adam", fused_adam, ("m", "v"), Sparse.ALL, in_float32=True)


def coefficients_of(step, lr=1e-2, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    size, root = lr / (1 - beta_1**step), np.sqrt(1 - beta_2**step)
    return tuple(np.float32(x) for x in (1 - beta_1, beta_2, 1 - beta_2, size, root, epsilon))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_a_rule_in_float32_is_pytorchs_fused_adam(dtype):
    torch = pytest.importorskip("torch")
    kind = {float16: torch.float16, bfloat16: torch.bfloat16}[dtype]
    rng = np.random.default_rng(3)
    w = rng.normal(size=1000).astype(dtype)
    m, v = np.zeros_like(w), np.zeros_like(w)
    parameter = torch.nn.Parameter(torch.tensor(w.astype(np.float32)).to(kind))
    optimizer = torch.optim.Adam([parameter], lr=1e-2, fused=True)
    for step in range(1, 21):
        g = rng.normal(size=1000).astype(dtype)
        parameter.grad = torch.tensor(g.astype(np.float32)).to(kind)
        optimizer.step()
        kernels.dense(FUSED, w, g, (m, v), coefficients_of(step))
    bits = [w.view(np.int16), parameter.detach().view(torch.int16).numpy()]
    apart = np.abs(bits[0].astype(int) - bits[1].astype(int))
    assert apart.max() <= 1
    assert (apart == 0).mean() > 0.99


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_parts_rows_and_copies_have_the_same_bits(dtype):
    rng = np.random.default_rng(5)
    w, g = rng.normal(size=(2, 100_000)).astype(dtype)
    slots = tuple(rng.uniform(1, 2, 100_000).astype(dtype) for _ in range(2))
    expected = [a.copy() for a in (w, *slots)]
    wide = [a.astype(np.float32) for a in (w, g, *slots)]
    for array, value in zip(expected, fused_adam(*wide, *coefficients_of(3)), strict=True):
        array[...] = value.astype(dtype)
    rows = [a.reshape(1000, 100).copy() for a in (w, *slots)]
    kernels.dense(FUSED, w, g, slots, coefficients_of(3))
    assert [a.tobytes() for a in (w, *slots)] == [a.tobytes() for a in expected]
    at = np.arange(0, 1000, 2)
    kernels.rows(FUSED, rows[0], g.reshape(1000, 100)[at], at, tuple(rows[1:]), coefficients_of(3))
    assert rows[0][at].tobytes() == expected[0].reshape(1000, 100)[at].tobytes()


def test_what_is_computed_in_what():
    plain = Rule("plain", fused_adam, ("m", "v"))
    for dtype in (np.float16, np.float32, np.float64, np.complex64):
        assert plain.arithmetic_dtype(np.dtype(dtype)) == dtype
    assert FUSED.arithmetic_dtype(float16) == plain.arithmetic_dtype(bfloat16) == np.float32
    assert FUSED.arithmetic_dtype(np.dtype(np.float64)) == np.float64
    assert arithmetic_dtype(bfloat16) == np.float32
    assert [is_narrow(np.dtype(d)) for d in (float16, bfloat16, np.int16, "V2", np.float32)] == [
        *(True, True, False, False, False)
    ]
    assert [kind_of(np.dtype(d)) for d in (bfloat16, "V2", np.int16)] == ["f", "V", "i"]


class InFloat32(RuleOptimizer):
    """Adam, but for the rounding of float16."""

    rule = Rule("adam_in_float32", ADAM.function, ADAM.slots, ADAM.sparse, in_float32=True)

    def __init__(self):
        super().__init__("in_float32")
        self._set_hyper("learning_rate", 0.1)

    def get_config(self):
        return super().get_config()

    def _rule(self, coefficients):
        return self.rule

    def _coefficients(self, lr, dtype):
        assert type(lr) is dtype.type
        given = dtype.type(1e-3), dtype.type(1e-4), dtype.type(1e-12)
        return {"alpha": lr, **dict(zip(self.rule.coefficients[1:], given, strict=True))}


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_the_rule_says_what_coefficients_are(dtype):
    """An epsilon of 1e-12 is 0 in float16, and the gradient's square too."""
    v = Variable([1.0], dtype=dtype)
    InFloat32().apply_gradients([(np.array([1e-4]).astype(dtype), v)])
    g = np.float32(np.array([1e-4]).astype(dtype))
    m, s = g * np.float32(1e-3), g * g * np.float32(1e-4)
    expected = np.float32(1) - np.float32(0.1) * m / (np.sqrt(s) + np.float32(1e-12))
    assert v.numpy().tobytes() == expected.astype(dtype).tobytes()


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingExtra, match=r"dtype='bfloat16' needs .* pip install ml_dtypes$"):
        Variable([1.0], dtype="bfloat16")
