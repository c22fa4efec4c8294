"""Random initializers, with the formulas and names of Keras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_one_of, as_seed, as_shape
from distopt.core.initializer import Initializer, dtype_or_default
from distopt.core.numbers import as_scalar
from distopt.core.random import stream
from distopt.core.tensor import Tensor
from distopt.typing import Array, DTypeLike

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
]

#: The ``purpose`` of initial values, see ``stream``.
_PURPOSE = 0x1417
#: The standard deviation of the standard normal distribution truncated to [-2, 2].
_TRUNCATED_STDDEV = 0.87962566103423978


class RandomUniform(Initializer):
    """Uniform numbers from ``[minval, maxval)``.

    Args:
        minval: the lower bound, included.
        maxval: the upper bound, excluded.
        seed: see :class:`Initializer`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval = as_scalar(minval, "minval", finite=True)
        self.maxval = as_scalar(maxval, "maxval", finite=True)
        self.seed = as_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Values of ``shape``, float32 if no dtype is given.

        Raises:
            TypeError: the dtype is neither a float nor an int.
        """
        kind, rng = dtype_or_default(dtype), _generator(self.seed)
        if kind.kind in "iu":
            return Tensor(rng.integers(int(self.minval), int(self.maxval), as_shape(shape), kind))
        return Tensor(_uniform(rng, shape, self.minval, self.maxval, _floating(self, kind)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


class RandomNormal(Initializer):
    """Normal numbers.

    Args:
        mean: their mean.
        stddev: their standard deviation.
        seed: see :class:`Initializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean = as_scalar(mean, "mean", finite=True)
        self.stddev = as_scalar(stddev, "stddev", finite=True)
        self.seed = as_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Values of ``shape``, float32 if no dtype is given.

        Raises:
            TypeError: the dtype is no float.
        """
        kind = _floating(self, dtype_or_default(dtype))
        drawn = _generator(self.seed).standard_normal(as_shape(shape))
        return Tensor((drawn * self.stddev + self.mean), kind)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """Normal numbers. Those beyond two standard deviations are drawn again.

    Args:
        mean: the mean.
        stddev: the standard deviation before the cut.
        seed: see :class:`Initializer`.
    """

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Values of ``shape``, float32 if no dtype is given.

        Raises:
            TypeError: the dtype is no float.
        """
        kind = _floating(self, dtype_or_default(dtype))
        return Tensor(_truncated(_generator(self.seed), shape) * self.stddev + self.mean, kind)


class VarianceScaling(Initializer):
    """Numbers with mean 0 and the variance ``scale / n``.

    Args:
        scale: a positive number.
        mode: the meaning of n: "fan_in" (inputs), "fan_out" (outputs) or "fan_avg" (their mean).
        distribution: "truncated_normal" (also "normal"), "untruncated_normal" or "uniform".
        seed: see :class:`Initializer`.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        if as_scalar(scale, "scale", finite=True) <= 0:
            raise ValueError(f"scale must be a positive number; got {scale!r}")
        as_one_of(mode, "mode", ("fan_in", "fan_out", "fan_avg"))
        distribution = distribution.lower() if isinstance(distribution, str) else distribution
        distribution = "truncated_normal" if distribution == "normal" else distribution
        as_one_of(distribution, "distribution", ("truncated_normal", "untruncated_normal", "uniform"))
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.seed = as_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Values of ``shape``, float32 if no dtype is given.

        Raises:
            TypeError: the dtype is no float.
        """
        kind, rng = _floating(self, dtype_or_default(dtype)), _generator(self.seed)
        fan_in, fan_out = _fans(as_shape(shape))
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return Tensor(_uniform(rng, shape, -limit, limit, kind))
        if self.distribution == "untruncated_normal":
            return Tensor(rng.standard_normal(as_shape(shape)) * math.sqrt(variance), kind)
        return Tensor(_truncated(rng, shape) * (math.sqrt(variance) / _TRUNCATED_STDDEV), kind)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}


class _Named(VarianceScaling):
    """Base of VarianceScaling initializers whose arguments, except the seed, are fixed by a paper."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


class GlorotUniform(_Named):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(_Named):
    """Truncated normal, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class LecunUniform(_Named):
    """Uniform in +-sqrt(3 / fan_in) (LeCun et al. 1998)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(_Named):
    """Truncated normal, variance 1 / fan_in (LeCun et al. 1998)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class HeUniform(_Named):
    """Uniform in +-sqrt(6 / fan_in) (He et al. 2015)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(_Named):
    """Truncated normal, variance 2 / fan_in (He et al. 2015)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class Orthogonal(Initializer):
    """An orthogonal matrix, from the QR decomposition of normal numbers (Saxe et al. 2014).

    With more than two axes, all but the last are combined into rows.

    Args:
        gain: a factor.
        seed: see :class:`Initializer`.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = as_scalar(gain, "gain")
        self.seed = as_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Values of ``shape``, float32 if no dtype is given.

        Raises:
            ValueError: fewer than two axes.
            TypeError: the dtype is no float.
        """
        shape = as_shape(shape)
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs a shape of at least two axes; got {shape}")
        kind = _floating(self, dtype_or_default(dtype))
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = _generator(self.seed).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        q *= np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
        return Tensor((self.gain * (q if rows >= columns else q.T)).reshape(shape), kind)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"gain": self.gain, "seed": self.seed}


def _floating(initializer: Initializer, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind != "f":
        raise TypeError(f"{type(initializer).__name__} creates floating-point numbers; got dtype {dtype}")
    return dtype


def _generator(seed: int | None) -> np.random.Generator:
    if seed is None:
        seed = int(np.random.randint(2**32, dtype=np.uint64))
    return stream(seed, purpose=_PURPOSE)


def _uniform(
    rng: np.random.Generator, shape: Sequence[int], low: float, high: float, dtype: np.dtype[Any]
) -> Array:
    return rng.uniform(low, high, as_shape(shape)).astype(dtype)


def _truncated(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    values = rng.standard_normal(as_shape(shape))
    while True:
        outside = np.abs(values) > 2
        if not outside.any():
            return values
        values[outside] = rng.standard_normal(int(outside.sum()))


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """The numbers of inputs and outputs of a unit whose kernel has ``shape``."""
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    receptive_field = math.prod(shape[:-2])
    return shape[-2] * receptive_field, shape[-1] * receptive_field
