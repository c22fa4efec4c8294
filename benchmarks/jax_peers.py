"""Ways to train a multi-layer perceptron in JAX on all replicas."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import distopt.jax as dj
from benchmarks.clock import Peer, World
from benchmarks.jax import BARE, CHAIN, GLOO, OURS
from benchmarks.models import classes

__all__ = ["connect", "make_peers"]

Layers = list[dict[str, Any]]
LOOPBACK = "127.0.0.1"


def connect(everyone: World, port: int, addresses: Sequence[str] | None) -> None:
    """Has ``jax.distributed`` know the replicas of the MPI job, joined by Gloo.

    Args:
        everyone: the replicas.
        port: where replica 0 listens.
        addresses: those of their hosts; None for one host.
    """
    if addresses is not None:
        socket.sethostname(addresses[everyone.rank])  # Gloo takes the address that the host's name has
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"{(addresses or [LOOPBACK])[0]}:{port}", everyone.size, everyone.rank)


def layers(widths: Sequence[int]) -> Layers:
    """Random weights, the same on all replicas."""
    random = np.random.default_rng(0)
    return [
        {
            "kernel": jnp.asarray(random.normal(size=pair) / pair[0] ** 0.5, "f4"),
            "bias": jnp.zeros(pair[1]),
        }
        for pair in pairwise(widths)
    ]


def loss(params: Layers, x: Any, y: Any) -> Any:
    """The mean cross entropy of ReLU layers and a last one of logits."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = x @ params[-1]["kernel"] + params[-1]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


class Steps:
    """Calls a function that makes a step.

    Args:
        step: takes what the last one returned.
        state: what the first one takes.
    """

    def __init__(self, step: Callable[[Any], Any], state: Any) -> None:
        self._step, self._state = step, state

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """One step; it is over when its results are there."""
        self._state = jax.block_until_ready(self._step(self._state))


def make_peers(widths: Sequence[int], batch: int, everyone: World) -> dict[str, Peer]:
    """What one replica trains, each way, by name."""
    inputs, labels = classes((widths[0],), batch, everyone.rank)
    params, x, y = layers(widths), jnp.asarray(inputs), jnp.asarray(labels, "i4")
    gradient = jax.jit(jax.value_and_grad(loss))
    optimizer = dj.adam(1e-3)

    def bare(_: Any) -> Any:
        return gradient(params, x, y)

    def ours(now: Any) -> Any:
        _, grads = gradient(now, x, y)
        return optimizer.apply(grads)

    chain = optax.chain(dj.aggregate(), optax.adam(1e-3))
    return {
        BARE: Steps(bare, None),
        GLOO: gloo(params, inputs, labels.astype(np.int32)),
        OURS: Steps(ours, optimizer.init(params)),
        CHAIN: Steps(
            partial(_chained(chain), x=x, y=y), jax.tree.map(jnp.copy, (params, chain.init(params)))
        ),
    }


def _chained(chain: Any) -> Callable[..., Any]:
    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any, y: Any) -> Any:
        params, inner = state
        grads = jax.grad(loss)(params, x, y)
        updates, inner = chain.update(grads, inner, params)
        return optax.apply_updates(params, updates), inner

    return step


def gloo(params: Layers, inputs: Any, labels: Any) -> Steps:
    """JAX's own way: parameters are on all processes, batches are spread over them."""
    mesh = Mesh(np.array(jax.devices()), ("replicas",))
    whole, spread = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("replicas",)))
    x, y = (jax.make_array_from_process_local_data(spread, part) for part in (inputs, labels))
    adam = optax.adam(1e-3)
    state = jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(whole, np.asarray(leaf), leaf.shape),
        (params, adam.init(params)),
    )
    return Steps(partial(_chained(adam), x=x, y=y), state)
