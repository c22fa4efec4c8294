"""JAX optimizers with a step that spans all replicas of an MPI job, and collective calls on pytrees."""

from typing import Any

from distopt.errors import MissingExtra

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError:
    raise MissingExtra.of("distopt.jax", "jax") from None

from distopt.jax.adabelief import adabelief
from distopt.jax.adafactor import adafactor
from distopt.jax.adagrad import adagrad
from distopt.jax.adam import adam, adamw, nadam, nadamw
from distopt.jax.adamax import adamax, adamaxw
from distopt.jax.aggregate import aggregate
from distopt.jax.collectives import all_gather, all_reduce, broadcast
from distopt.jax.lamb import lamb
from distopt.jax.lars import lars
from distopt.jax.lion import lion
from distopt.jax.muon import muon
from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.radam import radam
from distopt.jax.replicas import key, rank, shard, size
from distopt.jax.rmsprop import rmsprop
from distopt.jax.schedule_free import (
    schedule_free,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)
from distopt.jax.sgd import sgd

__all__ = [
    "ApplyOptions",
    "Optimizer",
    "adabelief",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "aggregate",
    "all_gather",
    "all_reduce",
    "broadcast",
    "key",
    "lamb",
    "lars",
    "lion",
    "muon",
    "nadam",
    "nadamw",
    "radam",
    "rank",
    "rmsprop",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "sgd",
    "shard",
    "size",
]

#: Optimizers of optax that are not here.
_OF_OPTAX = (
    *(
        "adadelta",
        "adan",
        "amsgrad",
        "fromage",
        "lbfgs",
        "noisy_sgd",
    ),
    *("novograd", "optimistic_gradient_descent", "rprop", "sm3", "yogi"),
)


def __getattr__(name: str) -> Any:
    if name in _OF_OPTAX:
        raise AttributeError(
            f"distopt.jax has no {name} of its own: use "
            f"optax.chain(distopt.jax.aggregate(), optax.{name}(...))",
            name=name,
        )
    raise AttributeError(f"module 'distopt.jax' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return __all__
